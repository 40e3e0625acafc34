package cloud

import (
	"math/rand/v2"
	"net/netip"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// Subnet is a part of a VPC in one zone. AWS keeps its first four addresses and its last.
type Subnet struct {
	ID          string
	VPCID       string
	CIDR        netip.Prefix
	AZ          string
	MapPublicIP bool
	Tags        map[string]string

	// taken and blocks say which interface has an address or a /28 block; they follow from the interfaces.
	taken  map[netip.Addr]string
	blocks map[netip.Prefix]string
}

const (
	reservedAddresses = 5
	blockBits         = 28
	blockSize         = 16
)

func blockOf(a netip.Addr) netip.Prefix {
	p, _ := a.Prefix(blockBits)
	return p
}

func (s *Subnet) size() int { return 1 << (32 - s.CIDR.Bits()) }

// Free is AvailableIpAddressCount.
func (s *Subnet) Free() int {
	return s.size() - reservedAddresses - len(s.taken) - blockSize*len(s.blocks)
}

func (s *Subnet) at(offset int) netip.Addr {
	b := s.CIDR.Masked().Addr().As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += uint32(offset)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

func (s *Subnet) reserved(a netip.Addr) bool {
	for i := range 4 {
		if a == s.at(i) {
			return true
		}
	}
	return a == s.at(s.size()-1)
}

func (s *Subnet) isFree(a netip.Addr) bool {
	_, one := s.taken[a]
	_, block := s.blocks[blockOf(a)]
	return !one && !block
}

// checkNamed says whether a caller may ask for exactly this address.
func (s *Subnet) checkNamed(a netip.Addr) error {
	if !s.CIDR.Contains(a) {
		return apierror.New("InvalidParameterValue", "Address does not fall within the subnet's address range")
	}
	if s.reserved(a) {
		return apierror.New("InvalidParameterValue", "Address is in subnet's reserved address range")
	}
	return nil
}

// pick chooses n free addresses at random, none of which is in avoid: AWS promises no order, and it is
// scattered single addresses that break up the blocks which prefixes need.
func (s *Subnet) pick(rng *rand.Rand, n int, avoid []netip.Addr) ([]netip.Addr, error) {
	if n > s.Free()-len(avoid) {
		return nil, apierror.New("InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
	}
	chosen := map[netip.Addr]bool{}
	for _, a := range avoid {
		chosen[a] = true
	}
	usable := s.size() - reservedAddresses
	ok := func(a netip.Addr) bool { return s.isFree(a) && !chosen[a] }
	out := make([]netip.Addr, 0, n)
	for len(out) < n {
		start := rng.IntN(usable)
		found := netip.Addr{}
		// A few darts first; a nearly full subnet is searched from where the last one fell.
		for range 16 {
			if a := s.at(4 + start); ok(a) {
				found = a
				break
			}
			start = rng.IntN(usable)
		}
		for i := 0; !found.IsValid() && i < usable; i++ {
			if a := s.at(4 + (start+i)%usable); ok(a) {
				found = a
			}
		}
		if !found.IsValid() {
			return nil, apierror.New("InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
		}
		chosen[found] = true
		out = append(out, found)
	}
	return out, nil
}

// blockFree says whether a /28 block is whole: inside, without AWS's own addresses, and untouched.
func (s *Subnet) blockFree(p netip.Prefix) bool {
	if s.CIDR.Bits() >= blockBits || p.Bits() != blockBits || p != p.Masked() || !s.CIDR.Contains(p.Addr()) {
		return false
	}
	if p.Contains(s.at(0)) || p.Contains(s.at(s.size()-1)) {
		return false
	}
	if _, used := s.blocks[p]; used {
		return false
	}
	a := p.Addr()
	for range blockSize {
		if _, used := s.taken[a]; used {
			return false
		}
		a = a.Next()
	}
	return true
}

// pickBlocks chooses n whole /28 blocks.
func (s *Subnet) pickBlocks(rng *rand.Rand, n int, avoid []netip.Addr) ([]netip.Prefix, error) {
	dirty := map[netip.Prefix]bool{}
	for a := range s.taken {
		dirty[blockOf(a)] = true
	}
	for _, a := range avoid {
		dirty[blockOf(a)] = true
	}
	var free []netip.Prefix
	for off := blockSize; off < s.size()-blockSize; off += blockSize {
		p := netip.PrefixFrom(s.at(off), blockBits)
		if _, used := s.blocks[p]; !used && !dirty[p] {
			free = append(free, p)
		}
	}
	if len(free) < n {
		return nil, apierror.New("InsufficientCidrBlocks", "The specified subnet does not have enough free cidr blocks to satisfy the request.")
	}
	rng.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	return free[:n], nil
}

func (s *Subnet) hold(e *ENI) {
	ensure(&s.taken)
	ensure(&s.blocks)
	for _, a := range e.Addresses {
		s.taken[a.IP] = e.ID
	}
	for _, p := range e.Prefixes {
		s.blocks[p] = e.ID
	}
}

func (s *Subnet) release(e *ENI) {
	for _, a := range e.Addresses {
		delete(s.taken, a.IP)
	}
	for _, p := range e.Prefixes {
		delete(s.blocks, p)
	}
}
