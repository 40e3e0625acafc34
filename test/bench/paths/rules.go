package paths

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/weft-cni/weft/test/bench/traffic"
)

// Rules are what others have written into a node's netfilter.
type Rules struct {
	// Mode is kube-proxy's, IPTables or NFTables, or Masquerade: what leaves the VPC gets the node's address.
	Mode Mode
	// Services is how many kube-proxy knows, beside the one that is served by a pod of the clients' node. The one in the middle is
	// served by the pod on the other node.
	Services int
}

// Mode is whose rules.
type Mode string

// The rules that are known.
const (
	NoRules    Mode = ""
	IPTables   Mode = "iptables"
	NFTables   Mode = "nftables"
	Masquerade Mode = "masquerade"
)

// serviceAddress is that of a service.
func serviceAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 20, byte(i >> 8), byte(i)})
}

// served are the pods behind services: that on the other node, of the service in the middle, and that on the clients'
// node, of one more.
type served struct{ far, near netip.Addr }

// endpoint of a service, of so many: a pod, or an address of nobody.
func (p served) endpoint(i, services int) netip.AddrPort {
	at := netip.AddrFrom4([4]byte{10, 20, 128 + byte(i>>8), byte(i)})
	switch i {
	case services:
		at = p.near
	case services / 2:
		at = p.far
	}
	return netip.AddrPortFrom(at, traffic.Port)
}

// load puts the rules into the namespace of the calling thread.
func (r Rules) load(ctx context.Context, pods served) error {
	var in bytes.Buffer
	var cmd *exec.Cmd
	switch r.Mode {
	case NoRules:
		return nil
	case IPTables:
		r.iptables(&in, pods)
		cmd = exec.CommandContext(ctx, "iptables-restore")
	case NFTables:
		r.nftables(&in, pods)
		cmd = exec.CommandContext(ctx, "nft", "-f", "-")
	case Masquerade:
		fmt.Fprintf(&in, masquerade, subnet)
		cmd = exec.CommandContext(ctx, "nft", "-f", "-")
	default:
		return fmt.Errorf("rules are %q, expected iptables, nftables or masquerade", r.Mode)
	}
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

const masquerade = `table ip bench {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth0" ip daddr != %s masquerade
	}
}
`

// The chains and rules that kube-proxy has in iptables mode, whatever the services.
const (
	iptablesFilter = `*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`
	iptablesNAT = `*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
`
)

func (r Rules) iptables(w io.Writer, pods served) {
	io.WriteString(w, iptablesFilter+iptablesNAT)
	for i := range r.Services + 1 {
		fmt.Fprintf(w, ":KUBE-SVC-%016d - [0:0]\n:KUBE-SEP-%016d - [0:0]\n", i, i)
	}
	for i := range r.Services + 1 {
		addr, to := serviceAddress(i), pods.endpoint(i, r.Services)
		fmt.Fprintf(w, "-A KUBE-SERVICES -d %s/32 -p tcp -m comment --comment \"bench/s%d:http cluster IP\" -m tcp --dport %d -j KUBE-SVC-%016d\n", addr, i, traffic.Port, i)
		fmt.Fprintf(w, "-A KUBE-SVC-%016d ! -s %s -d %s/32 -p tcp -m tcp --dport %d -j KUBE-MARK-MASQ\n", i, subnet, addr, traffic.Port)
		fmt.Fprintf(w, "-A KUBE-SVC-%016d -j KUBE-SEP-%016d\n", i, i)
		fmt.Fprintf(w, "-A KUBE-SEP-%016d -s %s/32 -j KUBE-MARK-MASQ\n", i, to.Addr())
		fmt.Fprintf(w, "-A KUBE-SEP-%016d -p tcp -m tcp -j DNAT --to-destination %s\n", i, to)
	}
	io.WriteString(w, "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n")
}

// What kube-proxy has in nftables mode, whatever the services.
const nftablesBase = `table ip kube-proxy {
	map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
	map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
	map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
	map service-nodeports { type inet_proto . inet_service : verdict; }
	set nodeport-ips { type ipv4_addr; elements = { 10.20.0.10, 10.20.0.20 }; }
	chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
	chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
	chain nodeport-endpoints-check { ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
	chain cluster-ips-check { ip daddr @cluster-ips reject; ip daddr 172.20.0.0/16 drop; }
	chain filter-prerouting { type filter hook prerouting priority -110; ct state new jump firewall-check; }
	chain filter-input { type filter hook input priority 0; ct state new jump nodeport-endpoints-check; ct state new jump service-endpoints-check; }
	chain filter-forward { type filter hook forward priority 0; ct state new jump service-endpoints-check; ct state new jump cluster-ips-check; }
	chain filter-output { type filter hook output priority -110; ct state new jump service-endpoints-check; ct state new jump firewall-check; }
	chain filter-output-post-dnat { type filter hook output priority -90; ct state new jump cluster-ips-check; }
	chain mark-for-masquerade { meta mark set mark or 0x4000; }
	chain masquerading { meta mark & 0x4000 == 0 return; meta mark set mark ^ 0x4000; masquerade fully-random; }
	chain services { ip daddr . meta l4proto . th dport vmap @service-ips; ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports; }
	chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
	chain nat-output { type nat hook output priority -100; jump services; }
	chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }
`

func (r Rules) nftables(w io.Writer, pods served) {
	io.WriteString(w, nftablesBase)
	var addrs, verdicts []string
	for i := range r.Services + 1 {
		addr, to := serviceAddress(i), pods.endpoint(i, r.Services)
		addrs = append(addrs, addr.String())
		verdicts = append(verdicts, fmt.Sprintf("%s . tcp . %d : goto service-%d", addr, traffic.Port, i))
		fmt.Fprintf(w, "chain endpoint-%d { ip saddr %s jump mark-for-masquerade; meta l4proto tcp dnat to %s; }\n", i, to.Addr(), to)
		fmt.Fprintf(w, "chain service-%d { ip daddr %s tcp dport %d ip saddr != %s jump mark-for-masquerade; numgen random mod 1 vmap { 0 : goto endpoint-%d }; }\n", i, addr, traffic.Port, subnet, i)
	}
	fmt.Fprintf(w, "set cluster-ips { type ipv4_addr; elements = { %s }; }\n", strings.Join(addrs, ", "))
	fmt.Fprintf(w, "map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { %s }; }\n}\n", strings.Join(verdicts, ", "))
}
