package nodenet

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// primaryName is what guides call an instance's first interface, whatever its system does.
const primaryName = "eth0"

// leavingBy are the primary addresses of the ENIs that the names stand for: a packet whose source was
// translated to one of them leaves by that ENI, wherever its pod's own is.
func leavingBy(links []netlink.Link, interfaces []Interface, names []string) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, i := range interfaces {
		if i.DeviceIndex == 0 && slices.Contains(names, primaryName) {
			out[i.Primary] = true
		}
		for _, l := range links {
			if l.Attrs().HardwareAddr.String() == i.MAC && named(l.Attrs().Name, names) {
				out[i.Primary] = true
			}
		}
	}
	return out
}

// named says whether a name of the list is the device's; "ens+" is every device that begins so.
func named(device string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		if prefix, ok := strings.CutSuffix(n, "+"); ok {
			return strings.HasPrefix(device, prefix)
		}
		return device == n
	})
}
