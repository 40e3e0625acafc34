package fabric

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestRuleLine(t *testing.T) {
	for _, c := range []struct {
		rule Rule
		want string // "": no line
	}{
		{anywhere(), "meta nfproto ipv4 accept"},
		{cidr("-1", -1, -1, "10.1.2.3/8"), "ip saddr 10.0.0.0/8 accept"},
		{cidr("tcp", 80, 90, "0.0.0.0/0"), "meta nfproto ipv4 tcp dport 80-90 accept"},
		{cidr("6", -1, -1, "0.0.0.0/0"), "meta nfproto ipv4 tcp dport 0-65535 accept"},
		{cidr("udp", 53, 53, "10.0.0.2/32"), "ip saddr 10.0.0.2/32 udp dport 53-53 accept"},
		{cidr("tcp", 90, 80, "0.0.0.0/0"), ""},
		{cidr("tcp", 80, 80, "::/0"), ""},
		{cidr("icmp", -1, -1, "10.0.0.0/8"), "ip saddr 10.0.0.0/8 meta l4proto icmp accept"},
		{cidr("icmp", 8, -1, "10.0.0.0/8"), "ip saddr 10.0.0.0/8 meta l4proto icmp icmp type 8 accept"},
		{cidr("1", 3, 4, "10.0.0.0/8"), "ip saddr 10.0.0.0/8 meta l4proto icmp icmp type 3 icmp code 4 accept"},
		{cidr("50", -1, -1, "10.0.0.0/8"), "ip saddr 10.0.0.0/8 meta l4proto 50 accept"},
		{member("-1", -1, -1, "sg-1"), "ip saddr @members_sg-1 accept"},
	} {
		got, ok := ruleLine(c.rule, "saddr")
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%+v: %q, %t; want %q", c.rule, got, ok, c.want)
		}
	}
}

func TestRulesetIsAFunctionOfTheState(t *testing.T) {
	s := sound()
	first := rules(s)
	// Neither the order of interfaces nor that of their groups matters; every change does.
	s.Groups["sg-2"] = Group{}
	s.ENIs[0].Groups = []string{"sg-1", "sg-2"}
	a := rules(s)
	s.ENIs[0].Groups = []string{"sg-2", "sg-1", "sg-2"}
	slices.Reverse(s.ENIs)
	b := rules(s)
	if a.text != b.text {
		t.Errorf("two orders of one state:\n%s\n%s", a.text, b.text)
	}
	if first.revision == a.revision {
		t.Error("a new group doesn't change the revision")
	}
	for name := range b.chains {
		if !strings.Contains(b.text, "chain "+name+" {") {
			t.Errorf("chain %s isn't in the text", name)
		}
	}
}

// acceptable asks nft, in a namespace of its own, whether a ruleset is one.
func acceptable(t *testing.T, ns, text string) error {
	t.Helper()
	_, err := firewall{namespace: ns}.run(context.Background(), text, "-c", "-f", "-")
	return err
}

func TestRulesetOfEveryShapeLoads(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: nft needs root")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatalf("the lab needs nft: %v", err)
	}
	l := newLab(t)
	l.apply()
	ns := VPCNamespace(l.name)
	for name, change := range map[string]func(*State){
		"empty":           func(s *State) { s.ENIs, s.Groups, s.Subnets = nil, nil, nil },
		"no nat":          func(s *State) { s.NATGateway = netip.Addr{} },
		"no groups":       func(s *State) { s.ENIs[0].Groups = nil },
		"everything":      func(s *State) {},
		"wide open":       func(s *State) { s.ENIs[0].SourceDestCheck = false },
		"adjacent blocks": func(s *State) { s.ENIs[0].Addresses = append(s.ENIs[0].Addresses, netip.MustParseAddr("192.168.1.15")) },
	} {
		s := sound()
		change(&s)
		if err := s.Check(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found, err := firewall{namespace: ns}.list(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if err := acceptable(t, ns, replacement(found, rules(s))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"nftables":[{"metainfo":{}},{"table":{"family":"inet","name":"fabric"}},{"chain":{"family":"inet","table":"fabric","name":"x"}}]}`))
	f.Add([]byte(`{"nftables":[{"set":{"family":"inet","table":"fabric","name":"drop_mac","elem":[{"elem":{"val":"eni-a","counter":{"packets":3,"bytes":180}}}]}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if inv, err := parseInventory(b); err == nil && (inv.chains == nil || inv.sets == nil) {
			t.Error("an inventory without maps")
		}
		counters, err := parseCounters(b)
		if err != nil {
			return
		}
		for set := range counters {
			if !slices.Contains(sortedDropSets(), set) {
				t.Errorf("counters of %q, which isn't a set of drops", set)
			}
		}
	})
}

func TestParseCounters(t *testing.T) {
	got, err := parseCounters([]byte(`{"nftables":[{"metainfo":{}},
		{"set":{"family":"inet","table":"fabric","name":"drop_mac","elem":[{"elem":{"val":"eni-a","counter":{"packets":3,"bytes":180}}}]}},
		{"set":{"family":"inet","table":"other","name":"drop_mac","elem":[{"elem":{"val":"eni-a","counter":{"packets":9,"bytes":9}}}]}},
		{"set":{"family":"inet","table":"fabric","name":"macs","elem":[{"concat":["eni-a","02:00:00:00:00:01"]}]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got["drop_mac"]["eni-a"] != (counter{Packets: 3, Bytes: 180}) {
		t.Errorf("got %v", got)
	}
	if _, err := parseCounters([]byte("{")); err == nil {
		t.Error("half a document is no error")
	}
}

func FuzzTag(f *testing.F) {
	f.Add("eni-1 lab-i-1 4026532000 eth0 02:00:00:00:00:01")
	f.Add("half made")
	f.Fuzz(func(t *testing.T, alias string) {
		if got := parseTag(alias); got != (tag{}) && got.String() != alias {
			t.Errorf("%q parses as %+v, which is written %q", alias, got, got)
		}
	})
}
