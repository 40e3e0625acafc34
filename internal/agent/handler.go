package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weft-cni/weft/internal/cni"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/nodenet"
)

// handler answers the CNI plugin.
type handler struct{ a *agent }

var _ cni.Handler = handler{}

func key(r cni.Request, conf cni.NetConf) endpoint.Key {
	return endpoint.Key{Network: conf.Name, ContainerID: r.ContainerID, IfName: r.IfName}
}

// podOf reads CNI_ARGS as kubelet's runtimes write them: K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop.
func podOf(args string) endpoint.Pod {
	values := map[string]string{}
	for _, kv := range strings.Split(args, ";") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			values[k] = v
		}
	}
	p := endpoint.Pod{UID: values["K8S_POD_UID"]}
	if values["K8S_POD_NAME"] != "" {
		p.Name = values["K8S_POD_NAMESPACE"] + "/" + values["K8S_POD_NAME"]
	}
	return p
}

func limitsOf(conf cni.NetConf) endpoint.Limits {
	b := conf.RuntimeConfig.Bandwidth
	if b == nil {
		return endpoint.Limits{}
	}
	return endpoint.Limits{Ingress: b.IngressRate, Egress: b.EgressRate}
}

func (h handler) Add(ctx context.Context, r cni.Request, conf cni.NetConf, netns *os.File) (types.Result, error) {
	k := key(r, conf)
	// A DEL of this name that was kept is older than this ADD.
	if err := h.a.queue.ReplayOne(ctx, k.Network, k.ContainerID, k.IfName, h.delQueued); err != nil {
		return nil, types.NewError(types.ErrTryAgainLater, "an earlier DEL of this interface could not be done", err.Error())
	}
	pod := podOf(r.Args)
	pod.Limits = limitsOf(conf)
	var err error
	if pod.HostPorts, err = hostPortsOf(conf); err != nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "the pod's host ports can't be read", err.Error())
	}
	e, err := h.a.manager.Add(ctx, k, pod, netns)
	if err != nil {
		return nil, h.addError(err)
	}
	h.a.tellHostPorts()
	return result(e, r.Netns), nil
}

// addError gives an error the code by which the runtime and people know what to do.
func (h handler) addError(err error) *types.Error {
	switch {
	case errors.Is(err, endpoint.ErrNoAddress):
		nn, _, _ := h.a.source.get()
		h.a.mu.Lock()
		capacity := h.a.view.capacity
		h.a.mu.Unlock()
		return types.NewError(types.ErrTryAgainLater, "no free address for the pod: "+whyNoAddress(nn, capacity), err.Error())
	case errors.Is(err, endpoint.ErrJournal):
		return types.NewError(types.ErrIOFailure, "the node's journal can't be written; is the disk of "+contract.StateDir+" full?", err.Error())
	case errors.Is(err, nodenet.ErrOwnNamespace):
		return types.NewError(types.ErrInvalidNetNS, err.Error(), "")
	case errors.Is(err, context.Canceled):
		return types.NewError(types.ErrTryAgainLater, "the weft agent is stopping", err.Error())
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}

// result describes an endpoint as the CNI specification does.
func result(e endpoint.Endpoint, netns string) *types100.Result {
	inPod := 1
	return &types100.Result{
		CNIVersion: cni.Version,
		Interfaces: []*types100.Interface{
			{Name: e.Device(), Mac: e.HostMAC().String()},
			{Name: e.IfName, Mac: e.MAC().String(), Sandbox: netns},
		},
		IPs: []*types100.IPConfig{{
			Interface: &inPod,
			Address:   net.IPNet{IP: e.Address.AsSlice(), Mask: net.CIDRMask(32, 32)},
			Gateway:   contract.Gateway.AsSlice(),
		}},
		Routes: []*types.Route{{
			Dst: net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			GW:  contract.Gateway.AsSlice(),
		}},
	}
}

func (h handler) Del(ctx context.Context, r cni.Request, conf cni.NetConf) error {
	defer h.a.tellHostPorts()
	return h.a.manager.Del(ctx, key(r, conf))
}

// delQueued is Del for a request that waited on disk.
func (h handler) delQueued(ctx context.Context, r cni.Request) error {
	conf, err := cni.ParseNetConf(r.Config)
	if err != nil {
		return err
	}
	return h.Del(ctx, r, conf)
}

func (h handler) Check(ctx context.Context, r cni.Request, conf cni.NetConf, netns *os.File) error {
	e, err := h.a.manager.Check(ctx, key(r, conf), netns)
	if errors.Is(err, endpoint.ErrUnknown) {
		return types.NewError(types.ErrUnknownContainer, "weft has no such endpoint on this node", err.Error())
	}
	if err != nil {
		return err
	}
	return checkPrevious(conf, e)
}

// checkPrevious compares the endpoint with what its ADD answered.
func checkPrevious(conf cni.NetConf, e endpoint.Endpoint) error {
	if err := version.ParsePrevResult(&conf.PluginConf); err != nil {
		return types.NewError(types.ErrDecodingFailure, "prevResult can't be read", err.Error())
	}
	if conf.PrevResult == nil {
		return nil
	}
	prev, err := types100.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, "prevResult can't be read", err.Error())
	}
	for _, ip := range prev.IPs {
		if ip.Address.IP.Equal(net.IP(e.Address.AsSlice())) {
			return nil
		}
	}
	return fmt.Errorf("check %s: prevResult lacks its address %s", e.Key, e.Address)
}

// GC is one more trigger of the comparison, with the runtime's own list.
func (h handler) GC(ctx context.Context, _ cni.Request, conf cni.NetConf) error {
	asked := time.Now()
	valid := map[[2]string]bool{}
	for _, at := range conf.ValidAttachments {
		valid[[2]string{at.ContainerID, at.IfName}] = true
	}
	_, err := h.a.manager.Collect(ctx, asked, func(e endpoint.Endpoint) bool {
		return e.Network != conf.Name || valid[[2]string{e.ContainerID, e.IfName}]
	})
	return err
}

// codeNotAvailable is the CNI specification's answer to STATUS of a plugin that can't serve an ADD.
const codeNotAvailable = 50

// Status is OK once pods can be made; an empty pool is no error, since it concerns single pods and an
// error makes the node NotReady.
func (h handler) Status(context.Context) error {
	if h.a.serving.Load() || cni.ReadyLately(h.a.paths.ready(), time.Now()) {
		return nil
	}
	step, reason := h.a.progress.current()
	return types.NewError(codeNotAvailable, "the weft agent is starting: "+step, reason)
}
