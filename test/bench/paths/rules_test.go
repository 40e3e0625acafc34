package paths

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/weft-cni/weft/test/rig"
)

// The kernel takes every set of rules, and the service in the middle leads to the pod.
func TestRules(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("could not run: needs root for namespaces")
	}
	pods := served{far: netip.MustParseAddr("10.20.2.10"), near: netip.MustParseAddr("10.20.1.11")}
	for _, c := range []struct {
		rules Rules
		show  []string
		want  string
	}{
		{Rules{IPTables, 3}, []string{"iptables-save", "-t", "nat"}, "-A KUBE-SEP-0000000000000001 -p tcp -m tcp -j DNAT --to-destination 10.20.2.10:7070"},
		{Rules{NFTables, 3}, []string{"nft", "list", "ruleset"}, "172.20.0.1 . tcp . 7070 : goto service-1"},
		{Rules{IPTables, 3}, []string{"iptables-save", "-t", "nat"}, "-A KUBE-SEP-0000000000000003 -p tcp -m tcp -j DNAT --to-destination 10.20.1.11:7070"},
		{Rules{Masquerade, 0}, []string{"nft", "list", "ruleset"}, "ip daddr != 10.20.0.0/16 masquerade"},
	} {
		s, err := rig.NewSpace()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		err = s.Do(func() error {
			if err := c.rules.load(context.Background(), pods); err != nil {
				return err
			}
			out, err := exec.Command(c.show[0], c.show[1:]...).Output()
			if !strings.Contains(string(out), c.want) {
				t.Errorf("%v: found\n%s\nexpected %q in it", c.rules, out, c.want)
			}
			return err
		})
		if err != nil {
			t.Errorf("%v: %v", c.rules, err)
		}
	}
	if err := (Rules{Mode: "ipvs"}).load(context.Background(), pods); err == nil {
		t.Error("rules of nobody were taken")
	}
}
