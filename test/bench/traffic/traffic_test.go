package traffic

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/test/rig"
)

// The test's program is both ends, too.
func TestMain(m *testing.M) {
	if child, err := Child(os.Args); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, "traffic:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestRate(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("could not run: needs root for namespaces")
	}
	s, err := rig.NewSpace()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := Path{Client: s, Server: s, Address: netip.MustParseAddr("127.0.0.1")}
	cpu := someCPU(t)
	for _, k := range []Kind{RR, CRR, UDP, Stream} {
		rate, err := Rate(p, k, cpu, 10*time.Millisecond)
		if err != nil || rate <= 0 {
			t.Errorf("%s: found %g, %v", k, rate, err)
		}
	}
	// Nobody is there, and an unreachable network: errors, not rates.
	p.Address = netip.MustParseAddr("192.0.2.1")
	if rate, err := Rate(p, RR, cpu, time.Millisecond); err == nil {
		t.Errorf("an address of nobody: found %g", rate)
	}
}

// someCPU is one that this process may use.
func someCPU(t *testing.T) int {
	var set unix.CPUSet
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		if set.IsSet(i) {
			return i
		}
	}
	t.Fatal("no CPU")
	return 0
}
