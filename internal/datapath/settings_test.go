package datapath

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestSettingsAreWrittenAndChanged(t *testing.T) {
	newSpace(t).enter(t)
	cfg := testConfig(t)
	cfg.Settings = DefaultSettings()
	cfg.Settings.NodeAddr = netip.MustParseAddr(nodeAddr)
	d := openDatapath(t, cfg)
	read := func() (c configValue) {
		must(t, d.maps[weftMapWeftConfig].Lookup(uint32(0), &c))
		return c
	}
	c := read()
	if c.Families != familyIPv4 || c.Flags != 0 || fromWire(c.NodeAddr) != cfg.Settings.NodeAddr || c.Layout != layoutVersion {
		t.Errorf("the programs read %+v", c)
	}
	if seconds := c.Lifetime[lifetimeSYN] / c.JiffiesPerSecond; seconds != 60 {
		t.Errorf("a beginning flow lives %d s, expected 60", seconds)
	}
	s := d.Settings()
	s.IPv6, s.Masquerade, s.Lifetimes.SYN = true, true, 5*time.Second
	must(t, d.Configure(s))
	must(t, d.SetWatch(Watch{Trace: true}))
	if c := read(); c.Families != familyIPv4|familyIPv6 || c.Flags != configMasquerade|configTrace || c.Lifetime[lifetimeSYN] != 5*c.JiffiesPerSecond {
		t.Errorf("after the change the programs read %+v", c)
	}
	// Other settings leave the trace on, and the trace leaves the settings.
	must(t, d.Configure(cfg.Settings))
	if c := read(); c.Flags != configTrace {
		t.Errorf("flags are %#x, expected the trace alone", c.Flags)
	}
	must(t, d.SetWatch(Watch{}))
	if c := read(); c.Flags != 0 || c.Families != familyIPv4 {
		t.Errorf("without the trace the programs read %+v", c)
	}
}

// An agent that doesn't say what it wants changes nothing; on an empty node it gets the default.
func TestSettingsOutliveTheAgent(t *testing.T) {
	newSpace(t).enter(t)
	cfg := testConfig(t)
	d := openDatapath(t, cfg)
	if d.Settings() != DefaultSettings() {
		t.Errorf("on an empty node the settings are %+v", d.Settings())
	}
	want := Settings{
		IPv4: true, IPv6: true, Masquerade: true, MasqueradePorts: [2]uint16{2000, 2999}, MetadataClosed: true, EventsPerSecond: 7,
		Lifetimes: Lifetimes{TCP: time.Hour, SYN: 2 * time.Second, FIN: 3 * time.Second, Any: 4 * time.Second, Stack: 5 * time.Second},
		NodeAddr:  netip.MustParseAddr(nodeAddr), NodeAddr6: netip.MustParseAddr("fd00::5"),
	}
	must(t, d.Configure(want))
	var before, after configValue
	must(t, d.maps[weftMapWeftConfig].Lookup(uint32(0), &before))
	must(t, d.Close())
	d = openDatapath(t, cfg)
	must(t, d.maps[weftMapWeftConfig].Lookup(uint32(0), &after))
	if after.Epoch != before.Epoch+1 {
		t.Errorf("the next agent is the %d. one, expected the %d.", after.Epoch, before.Epoch+1)
	}
	before.Epoch = after.Epoch
	if d.Settings() != want || before != after {
		t.Errorf("the next agent has %+v, expected %+v", d.Settings(), want)
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Settings){
		"no address family":       func(s *Settings) { s.IPv4 = false },
		"masquerading ports":      func(s *Settings) { s.MasqueradePorts = [2]uint16{2000, 1999} },
		"lifetime of established": func(s *Settings) { s.Lifetimes.TCP = maxLifetime + 1 },
		"lifetime of closed TCP":  func(s *Settings) { s.Lifetimes.FIN = 0 },
		"the node's address":      func(s *Settings) { s.NodeAddr = netip.MustParseAddr("fd00::1") },
		"second address":          func(s *Settings) { s.NodeAddr6 = netip.MustParseAddr("10.0.0.1") },
	} {
		s := DefaultSettings()
		change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected an error about %q", err, want)
		}
	}
	if err := DefaultSettings().Validate(); err != nil {
		t.Error(err)
	}
}

// A tick is what the coarse clock moves by.
func TestJiffiesPerSecond(t *testing.T) {
	hz, err := jiffiesPerSecond()
	must(t, err)
	if hz != 100 && hz != 250 && hz != 300 && hz != 1000 {
		t.Errorf("the kernel has %d jiffies a second, expected 100, 250, 300 or 1000", hz)
	}
}
