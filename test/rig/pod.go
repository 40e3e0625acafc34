package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Add gives a pod its network as a runtime does, by the node's plugin, and returns its address.
func (s Spec) Add(ctx context.Context, pod Space, id string) (netip.Addr, error) {
	c, list, err := s.libcni()
	if err != nil {
		return netip.Addr{}, err
	}
	if err := s.PutSandbox(id); err != nil {
		return netip.Addr{}, err
	}
	res, err := c.AddNetworkList(ctx, list, conf(pod, id))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ADD of %s on %s: %w", id, s.Name, err)
	}
	r, err := types100.NewResultFromResult(res)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(r.IPs) == 0 {
		return netip.Addr{}, fmt.Errorf("ADD of %s on %s gave no address", id, s.Name)
	}
	a, ok := netip.AddrFromSlice(r.IPs[0].Address.IP)
	if !ok {
		return netip.Addr{}, fmt.Errorf("ADD of %s on %s gave address %v", id, s.Name, r.IPs[0].Address)
	}
	return a.Unmap(), nil
}

// Del is the opposite of Add.
func (s Spec) Del(ctx context.Context, pod Space, id string) error {
	c, list, err := s.libcni()
	if err != nil {
		return err
	}
	if err := c.DelNetworkList(ctx, list, conf(pod, id)); err != nil {
		return errors.Join(fmt.Errorf("DEL of %s on %s: %w", id, s.Name, err), s.DropSandbox(id))
	}
	return s.DropSandbox(id)
}

// Check has the plugin compare a pod with what it was given.
func (s Spec) Check(ctx context.Context, pod Space, id string) error {
	c, list, err := s.libcni()
	if err != nil {
		return err
	}
	if err := c.CheckNetworkList(ctx, list, conf(pod, id)); err != nil {
		return fmt.Errorf("CHECK of %s on %s: %w", id, s.Name, err)
	}
	return nil
}

func (s Spec) libcni() (*libcni.CNIConfig, *libcni.NetworkConfigList, error) {
	list, err := libcni.ConfListFromFile(s.Conflist())
	if err != nil {
		return nil, nil, err
	}
	return libcni.NewCNIConfigWithCacheDir([]string{s.BinDir()}, filepath.Join(s.Dir, "cache"), nil), list, nil
}

func conf(pod Space, id string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: id, NetNS: pod.Path(), IfName: "eth0"}
}
