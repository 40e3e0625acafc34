package agent

import (
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/masquerade"
)

// What the programs are told is the datapath's default where the configuration says nothing.
func TestSettingsOfAnEmptyConfiguration(t *testing.T) {
	if got, want := settings(config.Default(), view{}, masquerade.Ports{}).Lifetimes, datapath.DefaultSettings().Lifetimes; got != want {
		t.Errorf("lifetimes are %+v, expected %+v", got, want)
	}
}

func TestLifetimesOfTheConfiguration(t *testing.T) {
	c, err := config.Parse([]byte(`{cluster: {name: c}, extraConfig: {bpf-ct-timeout-regular-tcp: 2h, bpf-ct-timeout-regular-tcp-syn: 20s, bpf-ct-timeout-regular-tcp-fin: 5s, bpf-ct-timeout-regular-any: 10m}}`))
	if err != nil {
		t.Fatal(err)
	}
	s := settings(c, view{}, masquerade.Ports{First: 1024, Last: 29999})
	want := datapath.Lifetimes{TCP: 2 * time.Hour, SYN: 20 * time.Second, FIN: 5 * time.Second, Any: 10 * time.Minute, Stack: 10 * time.Minute}
	if s.Lifetimes != want {
		t.Errorf("lifetimes are %+v, expected %+v", s.Lifetimes, want)
	}
	if err := s.Validate(); err != nil {
		t.Errorf("the programs don't take them: %v", err)
	}
}

// What the configuration takes, the programs take.
func TestBoundsOfLifetimes(t *testing.T) {
	for _, d := range []time.Duration{config.MinLifetime, config.MaxLifetime} {
		c := config.Default()
		c.Cluster.Name = "c"
		for _, one := range []*time.Duration{&c.ExtraConfig.CTTimeoutTCP.Duration, &c.ExtraConfig.CTTimeoutSYN.Duration, &c.ExtraConfig.CTTimeoutFIN.Duration, &c.ExtraConfig.CTTimeoutAny.Duration} {
			*one = d
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", d, err)
		}
		if err := settings(c, view{}, masquerade.Ports{First: 1, Last: 2}).Validate(); err != nil {
			t.Errorf("%s: %v", d, err)
		}
	}
	for _, d := range []time.Duration{0, -time.Minute, config.MinLifetime - 1, config.MaxLifetime + 1} {
		c := config.Default()
		c.Cluster.Name = "c"
		c.ExtraConfig.CTTimeoutFIN.Duration = d
		if c.Validate() == nil {
			t.Errorf("a lifetime of %s was taken", d)
		}
	}
}
