package agent

import (
	"net"
	"net/netip"
	"testing"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/nodenet"
)

// enis counts what is said of ENIs.
type enis struct {
	Datapath
	set int
}

func (e *enis) SetENI(datapath.ENI) error           { e.set++; return nil }
func (e *enis) SetAddress(netip.Addr, uint32) error { return nil }
func (e *enis) SetHostAddresses([]netip.Addr) error { return nil }

// The datapath is told again of an ENI whose device got another MTU, and of no other.
func TestENIWithAnotherMTU(t *testing.T) {
	dp := &enis{}
	p := newPrograms(dp)
	f := nodenet.Found{Ifindex: 2, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 9001}
	for _, step := range []struct{ mtu, told int }{{9001, 1}, {9001, 1}, {1500, 2}, {1500, 2}} {
		f.MTU = step.mtu
		if err := p.sync([]nodenet.Found{f}, view{}, nil); err != nil {
			t.Fatal(err)
		}
		if dp.set != step.told {
			t.Errorf("MTU %d: told %d times, expected %d", step.mtu, dp.set, step.told)
		}
	}
}
