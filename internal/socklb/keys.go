package socklb

import (
	"net/netip"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// newFrontendKey is the key of weft_lb_frontends.
func newFrontendKey(k loadbalancer.Key) keyValue {
	out := newKey(k.Address)
	if k.Scope == loadbalancer.Outside {
		out.Scope = scopeOutside
	}
	return out
}

// key is the frontend's.
func (k keyValue) key() loadbalancer.Key {
	out := loadbalancer.Key{Address: k.address()}
	if k.Scope == scopeOutside {
		out.Scope = loadbalancer.Outside
	}
	return out
}

// prefix is the clients'.
func (k rangeKey) prefix() netip.Prefix {
	a, bits := netip.AddrFrom16(k.Addr), int(k.Prefixlen)-rangeFixedBits
	if a.Is4In6() && bits >= mappedBits {
		return netip.PrefixFrom(a.Unmap(), bits-mappedBits)
	}
	return netip.PrefixFrom(a, bits)
}
