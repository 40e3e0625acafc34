package nodenet

import (
	"net/netip"
	"slices"
	"strings"
)

// primaryName is what guides call an instance's first interface, whatever its system does.
const primaryName = "eth0"

// leavingBy are the primary addresses of the ENIs that the names stand for: a packet whose source was
// translated to one of them leaves by that ENI, wherever its pod's own is.
func leavingBy(interfaces []Interface, found []Found, names []string) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, i := range interfaces {
		if i.DeviceIndex == 0 && slices.Contains(names, primaryName) {
			out[i.Primary] = true
		}
	}
	for _, f := range found {
		if named(f.Name, names) {
			out[f.Primary] = true
		}
	}
	return out
}

// Sources are what the endpoints of each ENI, by device index, get as their source when they leave the VPC. An
// ENI is missing whose endpoints keep their own. found are the ENIs whose devices are there.
func (d Desired) Sources(found []Found) map[int32]netip.Addr {
	leaving := leavingBy(d.Interfaces, found, d.MasqueradeInterfaces)
	out := map[int32]netip.Addr{}
	for _, i := range d.Interfaces {
		if len(d.MasqueradeInterfaces) == 0 || leaving[i.MasqueradeTo] {
			out[i.DeviceIndex] = i.MasqueradeTo
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
