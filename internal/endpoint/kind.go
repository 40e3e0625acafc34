package endpoint

// Kind is what a pod's device is.
type Kind string

// The kinds. A pair whose kind isn't told is a veth: all were before there was a choice.
const (
	Veth     Kind = ""
	Netkit   Kind = "netkit"    // without MACs
	NetkitL2 Kind = "netkit-l2" // as Ethernet
)

func (k Kind) String() string {
	if k == Veth {
		return "veth"
	}
	return string(k)
}

// For is the kind of a pod with these limits where pods have k: a netkit device has no queue that could pace
// what passes it.
func (k Kind) For(l Limits) Kind {
	if l != (Limits{}) {
		return Veth
	}
	return k
}
