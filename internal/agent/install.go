package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weft-cni/weft/internal/cni"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/nodenet"
)

// Install says where the plugin goes: directories of the host as this process sees them.
type Install struct {
	// Plugin is the plugin in the agent's own image.
	Plugin string
	// BinDir and ConfDir are the host's.
	BinDir, ConfDir string
	// HostPorts says that weft serves host ports itself. Otherwise the plugin portmap does, where it is there.
	HostPorts bool
}

// startEvery is how often a step of the start that can't be done yet is tried again. Each is cheap, and
// every pod of a new node waits for it.
const startEvery = 250 * time.Millisecond

// installAndKeep tells the runtime that pods can be made, after a trial, and keeps it told: the conflist
// is written last, and put back when something removes it.
func (a *agent) installAndKeep(ctx context.Context) error {
	a.progress.begin(stepInstalled)
	said := ""
	for {
		err := a.trial(ctx)
		if err == nil {
			err = a.Install.apply(a.paths)
		}
		wait := 5 * time.Second
		if err != nil {
			if err.Error() != said {
				a.Log.Warn("cni not installed", "reason", err)
				said = err.Error()
			}
			a.progress.waits(stepInstalled, err.Error())
			a.tellSoon()
			wait = startEvery
		} else {
			if err := touch(a.paths.ready()); err != nil {
				a.Log.Warn("ready file not touched", "err", err)
			}
			if !a.ready.Swap(true) {
				a.progress.done(stepInstalled)
				a.tellSoon()
				a.Log.Info("ready")
			}
		}
		if pause(ctx, wait) != nil {
			return nil
		}
	}
}

// trial asks through the socket as the plugin would. Only the first time must the pool hold an address:
// later an empty one concerns single pods.
func (a *agent) trial(ctx context.Context) error {
	conf, err := cni.Conflist(a.paths.socket(), a.paths.deletes(), false)
	if err != nil {
		return err
	}
	reply, err := cni.NewShim().Ask(a.paths.socket(), cni.Request{Command: cni.Status, Config: conf})
	if err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	if reply.Error != nil {
		return fmt.Errorf("trial: %w", reply.Error)
	}
	if u := a.manager.Usage(); !a.ready.Load() && u.Held == 0 && u.Used == 0 {
		nn, _, _ := a.source.get()
		a.mu.Lock()
		capacity := a.view.capacity
		a.mu.Unlock()
		return fmt.Errorf("the pool holds no address: %s", whyNoAddress(nn, capacity))
	}
	return a.trialAdd(ctx)
}

// trialAdd makes and removes an endpoint before the first pod does. A node that was ready in this boot has
// proved it; so has one with pods.
func (a *agent) trialAdd(ctx context.Context) error {
	if a.tried || a.ready.Load() || cni.ReadyLately(a.paths.ready(), time.Now()) {
		return nil
	}
	u := a.manager.Usage()
	for _, e := range u.Endpoints {
		if e.Network != trialNetwork {
			return nil
		}
	}
	if u.Free == 0 {
		return fmt.Errorf("trial: none of the node's %d addresses is free: %d rest after use", u.Held, u.Resting)
	}
	ns, err := nodenet.NewNamespace()
	if err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	defer ns.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	k := endpoint.Key{Network: trialNetwork, ContainerID: "trial", IfName: "eth0"}
	if err := a.manager.Trial(ctx, k, ns); err != nil {
		return err
	}
	a.tried = true
	a.Log.Info("a trial endpoint was made and removed")
	return nil
}

// trialNetwork is the network's name in the key of the trial endpoint: no runtime has one of this name.
const trialNetwork = "weft-trial"

// apply writes what differs: the plugin, then the conflist.
func (i Install) apply(p paths) error {
	if err := i.copyPlugin(); err != nil {
		return fmt.Errorf("install the plugin: %w", err)
	}
	portmap, err := exists(filepath.Join(i.BinDir, "portmap"))
	if err != nil {
		return fmt.Errorf("install the conflist: %w", err)
	}
	want, err := cni.Conflist(p.socket(), p.deletes(), portmap && !i.HostPorts)
	if err != nil {
		return err
	}
	path := filepath.Join(i.ConfDir, contract.CNIConfName)
	have, err := os.ReadFile(path)
	if err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("install the conflist: %w", err)
	}
	if err := cni.WriteFileSync(path, want, 0o644); err != nil {
		return fmt.Errorf("install the conflist: %w", err)
	}
	return nil
}

func (i Install) copyPlugin() error {
	want, err := os.ReadFile(i.Plugin)
	if err != nil {
		return err
	}
	path := filepath.Join(i.BinDir, contract.CNIBinName)
	have, err := os.ReadFile(path)
	if err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return cni.WriteFileSync(path, want, 0o755)
}

// remove takes conflist and plugin away, in that order.
func (i Install) remove() error {
	for _, path := range []string{filepath.Join(i.ConfDir, contract.CNIConfName), filepath.Join(i.BinDir, contract.CNIBinName)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// touch says that the agent was ready just now.
func touch(path string) error {
	now := time.Now()
	err := os.Chtimes(path, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return os.WriteFile(path, nil, 0o600)
	}
	return err
}
