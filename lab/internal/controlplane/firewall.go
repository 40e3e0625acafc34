package controlplane

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// ruleset drops what the control plane would send to the VPC by itself: as on EKS, its way there is the
// egress proxy. The nodes' own connections to it are answered.
func ruleset(shut []netip.Prefix) string {
	list := make([]string, 0, len(shut))
	for _, p := range shut {
		list = append(list, p.Masked().String())
	}
	return `table inet weft_lab_cp {
	chain output {
		type filter hook output priority filter; policy accept;
		oif "lo" accept
		ct state established,related accept
		ip daddr { ` + strings.Join(list, ", ") + ` } counter drop
	}
}
`
}

// shut loads the rules. It must happen before anything connects: loaded later, conntrack would take
// connections that exist for new ones.
func shut(namespace string, networks []netip.Prefix) error {
	if len(networks) == 0 {
		return nil
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset(networks))
	var said strings.Builder
	cmd.Stderr = &said
	if err := netns.Do(namespace, cmd.Run); err != nil {
		return fmt.Errorf("firewall of %s: %w: %s", namespace, err, strings.TrimSpace(said.String()))
	}
	return nil
}
