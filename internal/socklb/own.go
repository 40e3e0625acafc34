package socklb

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// SetOwn says which addresses are the node's own: node ports are served there.
func (b *Balancer) SetOwn(addrs []netip.Addr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	want := map[[16]byte]bool{}
	for _, a := range addrs {
		want[a.As16()] = true
	}
	var gone [][16]byte
	if err := walk(b.maps.own, func(k [16]byte, _ uint32) {
		if !want[k] {
			gone = append(gone, k)
		}
		delete(want, k)
	}); err != nil {
		return fmt.Errorf("read %s: %w", socketMapWeftLbOwn, err)
	}
	for a := range want {
		if err := b.maps.own.Put(a, uint32(1)); err != nil {
			return fmt.Errorf("write address %s of the node: %w", netip.AddrFrom16(a).Unmap(), err)
		}
	}
	for _, a := range gone {
		if err := b.maps.own.Delete(a); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove address %s of the node: %w", netip.AddrFrom16(a).Unmap(), err)
		}
	}
	return nil
}
