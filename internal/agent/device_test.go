package agent

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/netkit"
)

func TestChooseDevice(t *testing.T) {
	lacks := &netkit.MissingError{What: "netkit devices", Needs: "CONFIG_NETKIT=y", Err: unix.EOPNOTSUPP}
	for _, c := range []struct {
		name, mode, kernel string
		probe              error
		want               endpoint.Kind
		fallback           string // a part of it
		fails              string // parts of the error
	}{
		{name: "the default asks nothing", mode: "veth", kernel: "6.12.1", probe: errors.New("asked"), want: endpoint.Veth},
		{name: "netkit", mode: "netkit", kernel: "6.12.1", want: endpoint.Netkit},
		{name: "netkit with MACs", mode: "netkit-l2", kernel: "6.12.1", want: endpoint.NetkitL2},
		{name: "netkit on a kernel that has it early", mode: "netkit", kernel: "6.8.0-test", want: endpoint.Netkit},
		{name: "netkit that isn't there", mode: "netkit", kernel: "6.1.0", probe: lacks, fails: "bpf.datapathMode is netkit, CONFIG_NETKIT=y, kernel 6.1.0, auto"},
		{name: "netkit with MACs that isn't there", mode: "netkit-l2", kernel: "6.18.5", probe: lacks, fails: "bpf.datapathMode is netkit-l2, CONFIG_NETKIT=y, veth"},
		{name: "auto", mode: "auto", kernel: "6.12.107+deb13-cloud-amd64", want: endpoint.Netkit},
		{name: "auto on an old kernel asks nothing", mode: "auto", kernel: "6.8.0", probe: errors.New("asked"), want: endpoint.Veth, fallback: "from kernel 6.12 on"},
		{name: "auto without netkit", mode: "auto", kernel: "6.18.5", probe: lacks, want: endpoint.Veth, fallback: "CONFIG_NETKIT=y"},
		{name: "auto that can't tell", mode: "auto", kernel: "6.18.5", probe: unix.ENOMEM, want: endpoint.Veth, fallback: "couldn't be found out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := chooseDevice(c.mode, c.kernel, func(l2 bool) error {
				if l2 != (c.mode == "netkit-l2") {
					t.Errorf("asked for one with MACs: %v", l2)
				}
				return c.probe
			})
			if c.fails != "" {
				var device *deviceError
				if !errors.As(err, &device) || !errors.Is(err, c.probe) {
					t.Fatalf("error is %v, expected one that wraps %v", err, c.probe)
				}
				for _, part := range strings.Split(c.fails, ", ") {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error is %q, expected it to say %q", err, part)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.kind != c.want {
				t.Errorf("pods get %s, expected %s", got.kind, c.want)
			}
			if (c.fallback == "") != (got.fallback == "") || !strings.Contains(got.fallback, c.fallback) {
				t.Errorf("fallback is %q, expected one that says %q", got.fallback, c.fallback)
			}
		})
	}
}
