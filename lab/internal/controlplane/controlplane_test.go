package controlplane

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/netns"
)

func TestFlags(t *testing.T) {
	c := &ControlPlane{cfg: Config{
		Lab: labstate.Lab{Name: "x", Root: "/var/lib/weft-lab", RunRoot: "/run/weft-lab"}, Addresses: []netip.Addr{netip.MustParseAddr("192.168.1.9")},
		Issuer: "https://oidc.example/id/A", ServiceCIDR: netip.MustParsePrefix("10.100.0.0/16"), EgressSocket: "/run/weft-lab/x/egress.sock",
	}}
	args := c.apiserverArgs()
	for _, want := range []string{
		"--advertise-address=192.168.1.9", "--service-account-issuer=https://oidc.example/id/A", "--service-account-jwks-uri=https://oidc.example/id/A/keys",
		"--api-audiences=https://kubernetes.default.svc", "--enable-aggregator-routing=true", "--service-cluster-ip-range=10.100.0.0/16",
		"--egress-selector-config-file=/var/lib/weft-lab/x/pki/egress.yaml",
	} {
		if !slices.Contains(args, want) {
			t.Errorf("the API server's flags lack %s", want)
		}
	}
	c.cfg.EgressSocket = ""
	if args := strings.Join(c.apiserverArgs(), " "); strings.Contains(args, "egress") {
		t.Errorf("without a proxy: %s", args)
	}
	if text := string(egressConfig("/s")); !strings.Contains(text, "proxyProtocol: GRPC") || !strings.Contains(text, "udsName: /s\n") {
		t.Errorf("egress configuration = %s", text)
	}
}

// TestShut loads the rules and sees them drop what goes around the proxy, and count it.
func TestShut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root to make a network namespace")
	}
	ns := fmt.Sprintf("weft-cptest%d", os.Getpid())
	if err := netns.Create(ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(ns); err != nil {
			t.Error(err)
		}
	})
	in := func(command ...string) string {
		t.Helper()
		var out []byte
		err := netns.Do(ns, func() error {
			var err error
			out, err = exec.Command(command[0], command[1:]...).CombinedOutput()
			return err
		})
		if err != nil && command[0] != "bash" {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
		return string(out)
	}
	in("ip", "link", "set", "lo", "up")
	in("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1")
	in("ip", "addr", "add", "192.0.2.1/24", "dev", "d0")
	in("ip", "link", "set", "d0", "up")
	in("ip", "link", "set", "d1", "up")
	in("ip", "route", "add", "192.168.0.0/16", "via", "192.0.2.2")
	if err := shut(ns, []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	send := func(to string) { in("bash", "-c", "echo x > /dev/udp/"+to+"/9") }
	send("127.0.0.1")
	send("192.0.2.77")
	if rules := in("nft", "list", "ruleset"); !strings.Contains(rules, "counter packets 0 ") {
		t.Errorf("dropped what is no business of the rules:\n%s", rules)
	}
	send("192.168.9.9")
	if rules := in("nft", "list", "ruleset"); !strings.Contains(rules, "counter packets 1 ") {
		t.Errorf("let a packet for the VPC pass:\n%s", rules)
	}
}
