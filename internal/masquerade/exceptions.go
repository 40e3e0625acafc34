package masquerade

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"sigs.k8s.io/yaml"
)

// Exceptions is the document of the ip-masq-agent, as Cilium reads it: its names, its defaults.
type Exceptions struct {
	NonMasqueradeCIDRs []netip.Prefix `json:"nonMasqueradeCIDRs"`
	MasqLinkLocal      bool           `json:"masqLinkLocal"`
	MasqLinkLocalIPv6  bool           `json:"masqLinkLocalIPv6"`
}

// reserved is what an ip-masq-agent leaves alone that was given no list: private and special-purpose blocks.
func reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	}
}

// linkLocal knows endpoints by their own address: instance metadata, the DNS of the VPC.
func linkLocal() (v4, v6 netip.Prefix) {
	return netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10")
}

// ParseExceptions reads a document in YAML or JSON. An empty one is the default. The agent's own interval of
// looking again, resyncInterval, is known and means nothing here.
func ParseExceptions(b []byte) (Exceptions, error) {
	var doc struct {
		NonMasqueradeCIDRs []string `json:"nonMasqueradeCIDRs"`
		MasqLinkLocal      bool     `json:"masqLinkLocal"`
		MasqLinkLocalIPv6  bool     `json:"masqLinkLocalIPv6"`
		ResyncInterval     any      `json:"resyncInterval"`
	}
	if err := yaml.UnmarshalStrict(b, &doc); err != nil {
		return Exceptions{}, err
	}
	e := Exceptions{MasqLinkLocal: doc.MasqLinkLocal, MasqLinkLocalIPv6: doc.MasqLinkLocalIPv6}
	for _, s := range doc.NonMasqueradeCIDRs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return Exceptions{}, fmt.Errorf("nonMasqueradeCIDRs has %q, expected a prefix such as 10.0.0.0/8", s)
		}
		e.NonMasqueradeCIDRs = append(e.NonMasqueradeCIDRs, canonical(p))
	}
	return e, nil
}

// ReadExceptions reads the file at path; one that isn't there is the default.
func ReadExceptions(path string) (Exceptions, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Exceptions{}, nil
	}
	if err != nil {
		return Exceptions{}, fmt.Errorf("exceptions from masquerading: %w", err)
	}
	e, err := ParseExceptions(b)
	if err != nil {
		return Exceptions{}, fmt.Errorf("exceptions from masquerading in %s: %w", path, err)
	}
	return e, nil
}

// Native are the destinations that aren't masqueraded, beside the VPC's. With the ip-masq-agent off only
// link-local ones are.
func Native(enabled bool, e Exceptions) []netip.Prefix {
	v4, v6 := linkLocal()
	if !enabled {
		return []netip.Prefix{v4, v6}
	}
	out := append([]netip.Prefix(nil), e.NonMasqueradeCIDRs...)
	if len(out) == 0 {
		out = reserved()
	}
	if !e.MasqLinkLocal {
		out = append(out, v4)
	}
	if !e.MasqLinkLocalIPv6 {
		out = append(out, v6)
	}
	return out
}
