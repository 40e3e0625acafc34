package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/masquerade"
)

// exceptionsEvery is how often the file is looked at: kubelet takes up to a minute to bring it anyway.
const exceptionsEvery = 5 * time.Second

// exceptions are the destinations that people don't want masqueraded, as far as they could be read.
type exceptions struct {
	mu   sync.Mutex
	is   masquerade.Exceptions
	said string // the last complaint
}

func (e *exceptions) get() masquerade.Exceptions {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.is
}

// put says whether they changed.
func (e *exceptions) put(is masquerade.Exceptions) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said = ""
	same := slices.Equal(e.is.NonMasqueradeCIDRs, is.NonMasqueradeCIDRs) && e.is.MasqLinkLocal == is.MasqLinkLocal && e.is.MasqLinkLocalIPv6 == is.MasqLinkLocalIPv6
	e.is = is
	return !same
}

// complains says whether this complaint is new.
func (e *exceptions) complains(why string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.said
	e.said = why
	return was != why
}

// readExceptions looks at the file and says whether what it says changed. What can't be read leaves things as
// they are.
func (a *agent) readExceptions() bool {
	if !a.Config.IPMasqAgent.Enabled {
		return false
	}
	is, err := masquerade.ReadExceptions(a.Exceptions)
	if err != nil {
		if a.exceptions.complains(err.Error()) {
			a.Log.Error("exceptions from masquerading not followed, the last ones stand", "err", err)
			a.Cluster.Warn("IPMasqAgentUnreadable", fmt.Sprintf("the last exceptions from masquerading stand: %v", err))
		}
		return false
	}
	return a.exceptions.put(is)
}

// followExceptions hands every change of the file to the node.
func (a *agent) followExceptions(ctx context.Context) error {
	for a.Config.IPMasqAgent.Enabled && pause(ctx, exceptionsEvery) == nil {
		if a.readExceptions() {
			a.Log.Info("exceptions from masquerading changed", "exceptions", a.exceptions.get())
			a.source.again()
		}
	}
	return nil
}

// masqueradePorts are those that the configuration names, or the largest range that the node doesn't use by
// itself. They stay while the agent runs: an answer to a port outside of them wouldn't be recognised.
func masqueradePorts(cfg config.Config, procSysNet string) (masquerade.Ports, error) {
	if cfg.BPF.MasqueradePorts != "" {
		return masquerade.ParsePorts(cfg.BPF.MasqueradePorts)
	}
	b, err := os.ReadFile(filepath.Join(procSysNet, "ipv4/ip_local_port_range"))
	if err != nil {
		return masquerade.Ports{}, fmt.Errorf("ports for masquerading: %w", err)
	}
	ephemeral, err := masquerade.ParsePorts(string(b))
	if err != nil {
		return masquerade.Ports{}, fmt.Errorf("net.ipv4.ip_local_port_range: %w", err)
	}
	nodePorts, err := config.ParseNodePorts(cfg.NodePort.Range)
	if err != nil {
		return masquerade.Ports{}, fmt.Errorf("nodePort.range: %w", err)
	}
	ports, err := masquerade.ChoosePorts(ephemeral, nodePorts)
	if err != nil && !(cfg.EnableIPv4Masquerade && cfg.BPF.Masquerade) {
		d := datapath.DefaultSettings().MasqueradePorts
		return masquerade.Ports{First: d[0], Last: d[1]}, nil
	}
	return ports, err
}
