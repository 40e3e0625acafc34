package imds

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/netns"
)

// TestHopLimit has a node in a namespace and a pod behind it, one routed hop further, with an address of the
// node's interface: with a limit of 1 the node gets a token and the pod does not; with 2 both do.
func TestHopLimit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	r := newRig(t)
	got, err := r.cloud.Assign(t.Context(), cloud.AssignInput{ENI: r.node.ENIs[0], Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	pod := got.Addresses[0]
	name := func(part string) string { return fmt.Sprintf("imds-test-%d-%s", os.Getpid(), part) }
	for _, part := range []string{"vpc", "node", "pod"} {
		if err := netns.Create(name(part)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := netns.Delete(name(part)); err != nil {
				t.Error(err)
			}
		})
	}
	for _, line := range []string{
		"-n VPC link add tonode type veth peer name eth0 netns NODE", "-n NODE link add topod type veth peer name eth0 netns POD",
		"-n VPC link set lo up", "-n VPC link set dev tonode up", "-n NODE link set eth0 up", "-n NODE link set dev topod up", "-n POD link set eth0 up",
		"-n VPC addr add 169.254.169.254/32 dev tonode", "-n VPC addr add 10.255.0.1/30 dev tonode", "-n VPC route add NADDR/32 dev tonode", "-n VPC route add PADDR/32 via NADDR dev tonode onlink",
		"-n NODE addr add NADDR/32 dev eth0", "-n NODE route add 169.254.169.254/32 dev eth0 src NADDR", "-n NODE route add PADDR/32 dev topod",
		"-n NODE addr add 169.254.1.1/32 dev topod", "-n POD addr add PADDR/32 dev eth0", "-n POD route add 169.254.1.1/32 dev eth0", "-n POD route add default via 169.254.1.1 dev eth0 src PADDR",
		"netns exec NODE sysctl -qw net.ipv4.ip_forward=1",
	} {
		line = strings.NewReplacer("VPC", name("vpc"), "NODE", name("node"), "POD", name("pod"), "NADDR", r.node.PrivateIP.String(), "PADDR", pod.String()).Replace(line)
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", line, err, out)
		}
	}
	s, err := New(r.cloud, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := netns.Listen(name("vpc"), "tcp", "169.254.169.254:80")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	ask := func(from string, patience time.Duration) error {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: netns.DialContext(name(from)), DisableKeepAlives: true}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://169.254.169.254/latest/api/token", nil)
		if err != nil {
			return err
		}
		req.Header.Set(ttlHeader, "60")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", res.Status)
		}
		return nil
	}
	for _, hops := range []int{1, 2} {
		if _, err := r.cloud.SetMetadataOptions(t.Context(), r.node.ID, cloud.Metadata{HopLimit: hops}); err != nil {
			t.Fatal(err)
		}
		if err := ask("node", 10*time.Second); err != nil {
			t.Errorf("limit %d: the node gets no token: %v", hops, err)
		}
		err := ask("pod", map[int]time.Duration{1: time.Second, 2: 10 * time.Second}[hops])
		if (err == nil) != (hops == 2) {
			t.Errorf("limit %d: a pod of the address %s: %v", hops, netip.AddrPortFrom(pod, 0).Addr(), err)
		}
	}
}
