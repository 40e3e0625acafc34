package kubeproxy

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// ipvsDevice holds the addresses of services in the mode ipvs.
const ipvsDevice = "kube-ipvs0"

// findIPVS tells of the mode ipvs by its device. What it translates hangs on its table of services, so that nothing
// can be removed while connections last.
func findIPVS(out *Found) error {
	l, err := netlink.LinkByName(ipvsDevice)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", ipvsDevice, err)
	}
	if l.Type() != "dummy" {
		return nil
	}
	out.add(KindIPVS, 0)
	out.Stays = append(out.Stays, "kube-proxy's IPVS services and its device "+ipvsDevice+" stay: removing them would end the connections that go by them; when none is left, run kube-proxy --cleanup on the node, or reboot it")
	return nil
}
