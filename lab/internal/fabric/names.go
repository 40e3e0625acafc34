package fabric

import (
	"crypto/sha256"
	"net"
	"net/netip"
	"strings"
)

// Names inside <lab>-vpc and <lab>-inet.
const (
	gatewayDevice  = "gw"  // in <lab>-vpc: the side of the internet gateway
	internetDevice = "vpc" // in <lab>-inet: its peer
	eniPrefix      = "eni-"
	eniGlob        = `"eni-*"`
)

// Addresses that don't depend on the VPC.
var (
	// IMDS is where instances ask for metadata.
	IMDS = netip.AddrFrom4([4]byte{169, 254, 169, 254})
	// Resolver is the resolver's second address; the first is the VPC's address +2.
	Resolver = netip.AddrFrom4([4]byte{169, 254, 169, 253})
	// Endpoints is AWS' public API.
	Endpoints = netip.AddrFrom4([4]byte{198, 51, 100, 2})
	// InternetHost is a machine somewhere in the world.
	InternetHost = netip.AddrFrom4([4]byte{198, 51, 100, 80})
	// PublicHost stands for the well-known host one.one.one.one, which connectivity tests of this field ask by
	// default: a cluster in the lab needs no flag that one on AWS doesn't.
	PublicHost = netip.AddrFrom4([4]byte{1, 1, 1, 1})
	// Workstation is where a person sits.
	Workstation = netip.AddrFrom4([4]byte{198, 51, 100, 100})

	gatewayVPC      = netip.MustParsePrefix("198.51.100.253/30")
	gatewayInternet = netip.MustParsePrefix("198.51.100.254/30")
	linkLocal       = netip.MustParsePrefix("169.254.0.0/16")
)

const (
	vpcMTU     = 9001
	gatewayMTU = 1500
)

// VPCNamespace is the router's namespace: IMDS, the resolver and the registry listen in it.
func VPCNamespace(lab string) string { return lab + "-vpc" }

// InternetNamespace is the far side of the internet gateway.
func InternetNamespace(lab string) string { return lab + "-inet" }

// VPCResolver is the address at which the VPC's resolver answers.
func VPCResolver(vpc netip.Prefix) netip.Addr { return offset(vpc, 2) }

// SubnetRouter is the router's address in a subnet.
func SubnetRouter(subnet netip.Prefix) netip.Addr { return offset(subnet, 1) }

func offset(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}

// deviceName is the name of an ENI's side in <lab>-vpc: the end of the id, which is its random part, as far as
// an interface's name goes.
func deviceName(id string) string {
	const room = 15 - len(eniPrefix)
	tail := strings.TrimPrefix(id, eniPrefix)
	if len(tail) > room {
		tail = tail[len(tail)-room:]
	}
	return eniPrefix + tail
}

// routerMAC is the same on every ENI of a subnet, as in a VPC, and doesn't change when a link is made anew: what
// hosts have learned stays right.
func routerMAC(subnetID string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(subnetID))
	return net.HardwareAddr{0x06, sum[0], sum[1], sum[2], sum[3], sum[4]}
}
