package paths

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-cni/weft/test/rig"
)

// plugin gives pods their network by a reference plugin.
func (n *Network) plugin(ctx context.Context, t Tools, p Plan, dir string) give {
	return func(node int, pod rig.Space, id string) (netip.Addr, error) {
		conf := map[string]any{"cniVersion": "1.0.0", "name": "peer", "type": string(p.Kind), "ipMasq": false, "mtu": 9001,
			"ipam": map[string]any{"type": "host-local", "dataDir": filepath.Join(dir, fmt.Sprint(node)),
				"ranges": []any{[]any{map[string]any{"subnet": fmt.Sprintf("10.20.%d.0/24", node+1)}}},
				"routes": []any{map[string]any{"dst": "0.0.0.0/0"}}}}
		if p.Kind == Bridge {
			conf["bridge"], conf["isGateway"] = "br0", true
		}
		stdin, err := json.Marshal(conf)
		if err != nil {
			return netip.Addr{}, err
		}
		var out []byte
		err = n.nodes[node].Do(func() (err error) {
			cmd := exec.CommandContext(ctx, filepath.Join(t.Plugins, string(p.Kind)))
			cmd.Stdin = bytes.NewReader(stdin)
			cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID="+id, "CNI_NETNS="+pod.Path(), "CNI_IFNAME=eth0", "CNI_PATH="+t.Plugins)
			out, err = cmd.Output()
			return err
		})
		if err != nil {
			return netip.Addr{}, fmt.Errorf("ADD: %w: %s", err, out)
		}
		var r types100.Result
		if err := json.Unmarshal(out, &r); err != nil {
			return netip.Addr{}, err
		}
		return first(&r)
	}
}

func first(r *types100.Result) (netip.Addr, error) {
	if len(r.IPs) == 0 {
		return netip.Addr{}, errors.New("ADD gave no address")
	}
	a, ok := netip.AddrFromSlice(r.IPs[0].Address.IP)
	if !ok {
		return netip.Addr{}, fmt.Errorf("ADD gave address %v", r.IPs[0].Address)
	}
	return a.Unmap(), nil
}
