package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/masquerade"
)

// settings are what the programs are told, as far as the sources say.
func settings(cfg config.Config, v view, ports masquerade.Ports) datapath.Settings {
	s := datapath.DefaultSettings()
	s.Lifetimes = lifetimes(cfg.ExtraConfig, s.Lifetimes.Stack)
	s.EventsPerSecond = uint32(cfg.Events.PerSecond)
	s.Masquerade = v.masquerade
	s.MetadataClosed = !cfg.PodMetadataAccess
	s.MasqueradePorts = [2]uint16{ports.First, ports.Last}
	s.NodeAddr = v.nodeAddress()
	return s
}

// lifetimes are those of the configuration. What goes by the kernel's stack isn't forgotten before the
// stack forgets it.
func lifetimes(c config.ExtraConfig, stack time.Duration) datapath.Lifetimes {
	return datapath.Lifetimes{
		TCP: c.CTTimeoutTCP.Duration, SYN: c.CTTimeoutSYN.Duration, FIN: c.CTTimeoutFIN.Duration, Any: c.CTTimeoutAny.Duration,
		Stack: max(stack, c.CTTimeoutAny.Duration),
	}
}

// prefixes are what the programs know of addresses that aren't this node's.
func prefixes(v view, services []netip.Prefix) map[netip.Prefix]datapath.PrefixInfo {
	out := map[netip.Prefix]datapath.PrefixInfo{}
	for p, t := range masquerade.Flatten(masquerade.Destinations{Native: v.desired.Direct, Stack: services}) {
		out[p] = datapath.PrefixInfo{Native: t.Native, Stack: t.Stack}
	}
	return out
}

// tell makes the programs follow these settings and know these prefixes.
func (p *programs) tell(s datapath.Settings, prefixes map[netip.Prefix]datapath.PrefixInfo) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told && p.settings == s && maps.Equal(p.prefixes, prefixes) {
		return nil
	}
	p.told = false
	if err := p.dp.Configure(s); err != nil {
		return fmt.Errorf("datapath: %w", err)
	}
	if err := p.dp.SetPrefixes(prefixes); err != nil {
		return fmt.Errorf("datapath: %w", err)
	}
	p.told, p.settings, p.prefixes = true, s, prefixes
	return nil
}
