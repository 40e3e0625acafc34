package endpoint

// Limits are an endpoint's bandwidth, in bits a second; 0: not limited.
type Limits struct {
	// Ingress is towards the pod.
	Ingress uint64 `json:"ingress,omitempty"`
	Egress  uint64 `json:"egress,omitempty"`
}

// IngressBytes is Ingress in bytes a second.
func (l Limits) IngressBytes() uint64 { return inBytes(l.Ingress) }

// EgressBytes is Egress in bytes a second.
func (l Limits) EgressBytes() uint64 { return inBytes(l.Egress) }

// inBytes never makes a limit to none.
func inBytes(bits uint64) uint64 {
	if bits == 0 {
		return 0
	}
	return max(bits/8, 1)
}
