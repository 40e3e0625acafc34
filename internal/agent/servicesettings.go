package agent

import (
	"net/netip"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/loadbalancer"
)

// serviceSettings are what the choice of frontends and backends is told of the configuration.
func serviceSettings(c config.Config) loadbalancer.Settings {
	s := loadbalancer.Settings{
		NorthSouth: c.KubeProxyReplacement, WithoutHints: !c.LoadBalancer.ServiceTopology, ClusterIPOutside: c.BPF.LBExternalClusterIP,
		Silent: c.ServiceNoBackendResponse == config.NoBackendDrop, Maglev: c.LoadBalancer.Algorithm == config.AlgorithmMaglev,
	}
	for _, text := range c.NodePort.Addresses {
		if p, err := netip.ParsePrefix(text); err == nil { // Validate refuses others
			s.NodePortAddresses = append(s.NodePortAddresses, p.Masked())
		}
	}
	return s
}
