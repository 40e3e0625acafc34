package agent

import (
	"errors"
	"fmt"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/netkit"
)

// netkitSince is the first kernel on which netkit is tried in weft's tests, and the first of its long-term ones
// that lets marks into a pod's device (scrub).
const netkitSince = "6.12"

// A deviceChoice is what devices new pods get.
type deviceChoice struct {
	kind endpoint.Kind
	// fallback says why it isn't netkit where that was wanted if it can be had; empty: it is, or nobody wanted it.
	fallback string
}

// A deviceError says that pods can't have the devices that the configuration asks for.
type deviceError struct {
	mode, kernel string
	err          error
}

func (e *deviceError) Error() string {
	return fmt.Sprintf("bpf.datapathMode is %s, which kernel %s can't give: %v; set it to veth, or to auto for netkit where the kernel has it and veth elsewhere", e.mode, e.kernel, e.err)
}

func (e *deviceError) Unwrap() error { return e.err }

// chooseDevice decides by the setting bpf.datapathMode, the kernel's release and what a probe says.
func chooseDevice(mode, kernel string, probe func(l2 bool) error) (deviceChoice, error) {
	switch mode {
	case config.DatapathAuto:
		return deviceWherePossible(kernel, probe), nil
	case config.DatapathNetkit, config.DatapathNetkitL2:
		kind := endpoint.Netkit
		if mode == config.DatapathNetkitL2 {
			kind = endpoint.NetkitL2
		}
		if err := probe(kind == endpoint.NetkitL2); err != nil {
			return deviceChoice{}, &deviceError{mode: mode, kernel: kernel, err: err}
		}
		return deviceChoice{kind: kind}, nil
	}
	return deviceChoice{kind: endpoint.Veth}, nil
}

func deviceWherePossible(kernel string, probe func(l2 bool) error) deviceChoice {
	const cost = "veth instead of netkit: %s; what a pod sends waits once in a queue of its CPU before it leaves the pod"
	if datapath.Older(kernel, netkitSince) {
		return deviceChoice{kind: endpoint.Veth, fallback: fmt.Sprintf(cost, "bpf.datapathMode is auto, which takes it from kernel "+netkitSince+" on")}
	}
	err := probe(false)
	var missing *netkit.MissingError
	switch {
	case err == nil:
		return deviceChoice{kind: endpoint.Netkit}
	case errors.As(err, &missing):
		return deviceChoice{kind: endpoint.Veth, fallback: fmt.Sprintf(cost, missing.Error())}
	}
	return deviceChoice{kind: endpoint.Veth, fallback: fmt.Sprintf(cost, "whether the kernel has it couldn't be found out: "+err.Error())}
}
