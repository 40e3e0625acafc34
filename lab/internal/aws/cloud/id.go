package cloud

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
)

// newID makes an id as EC2 does: a kind and 17 hexadecimal digits that begin with 0.
func newID(rng *rand.Rand, kind string) string {
	return fmt.Sprintf("%s-0%016x", kind, rng.Uint64())
}

const (
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	secret = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)

func randomText(rng *rand.Rand, alphabet string, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(alphabet[rng.IntN(len(alphabet))])
	}
	return b.String()
}

func newUUID(rng *rand.Rand) string {
	a, b := rng.Uint64(), rng.Uint64()
	a = a&^uint64(0xf000) | 0x4000
	b = b&^(uint64(3)<<62) | uint64(2)<<62
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffffffffffff)
}

// newMAC makes an address that no interface has: locally administered, as EC2's are.
func (c *Cloud) newMAC() string {
	for {
		v := c.rng.Uint64()
		mac := fmt.Sprintf("0a:%02x:%02x:%02x:%02x:%02x", byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32))
		taken := false
		for _, e := range c.m.ENIs {
			if e.MAC == mac {
				taken = true
				break
			}
		}
		if !taken {
			return mac
		}
	}
}

// shortRegion is how zone ids begin: us-west-2 is usw2.
func shortRegion(region string) string {
	var b strings.Builder
	for i, part := range strings.Split(region, "-") {
		switch {
		case i == 0, len(part) <= 2:
			b.WriteString(part)
		case strings.HasPrefix(part, "north") && part != "north", strings.HasPrefix(part, "south") && part != "south":
			b.WriteString(part[:1] + part[5:6])
		default:
			b.WriteString(part[:1])
		}
	}
	return b.String()
}

// PrivateDNSName is the name that a VPC's resolver gives to an address.
func PrivateDNSName(region string, a netip.Addr) string {
	host := "ip-" + strings.ReplaceAll(a.String(), ".", "-")
	if region == "us-east-1" {
		return host + ".ec2.internal"
	}
	return host + "." + region + ".compute.internal"
}

// PublicDNSName is the name of a public address.
func PublicDNSName(region string, a netip.Addr) string {
	host := "ec2-" + strings.ReplaceAll(a.String(), ".", "-")
	if region == "us-east-1" {
		return host + ".compute-1.amazonaws.com"
	}
	return host + "." + region + ".compute.amazonaws.com"
}
