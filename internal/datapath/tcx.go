package datapath

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// tcxLinks hold programs on any device, since kernel 6.6.
func tcxLinks() linkKind {
	return linkKind{
		hooks: Hooks(),
		fits:  func(netlink.Link) bool { return true },
		place: tcxPlace,
		create: func(ifindex int, prog *ebpf.Program, at ebpf.AttachType) (link.Link, error) {
			return link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: at})
		},
		ifindex: func(i *link.Info) (uint32, bool) {
			if tcx := i.TCX(); tcx != nil {
				return tcx.Ifindex, true
			}
			return 0, false
		},
	}
}

func tcxPlace(hook Hook) ebpf.AttachType {
	if hook.ingress() {
		return ebpf.AttachTCXIngress
	}
	return ebpf.AttachTCXEgress
}
