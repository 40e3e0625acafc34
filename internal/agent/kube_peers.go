package agent

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/nodehealth"
)

// peersEvery is how often changes of the nodes are passed on at most: a cluster comes up all at once.
const peersEvery = time.Second

// WatchPeers implements Cluster by an informer of all NodeNetworks that keeps hardly anything of them.
func (k *Kubernetes) WatchPeers(ctx context.Context, changed func([]nodehealth.Peer)) error {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		return err
	}
	c, err := cache.New(k.config, cache.Options{Scheme: s, ByObject: map[client.Object]cache.ByObject{
		&v1alpha1.NodeNetwork{}: {Transform: func(o any) (any, error) {
			if n, ok := o.(*v1alpha1.NodeNetwork); ok {
				return stripPeer(n), nil
			}
			return o, nil
		}},
	}})
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	inf, err := c.GetInformer(ctx, &v1alpha1.NodeNetwork{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("kubernetes: watch all nodes: %w", err)
	}
	t := &peerTable{peers: map[string]netip.Addr{}, news: make(chan struct{}, 1)}
	if _, err := inf.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { t.put(o, false) },
		UpdateFunc: func(_, o any) { t.put(o, false) },
		DeleteFunc: func(o any) { t.put(o, true) },
	}); err != nil {
		return fmt.Errorf("kubernetes: watch all nodes: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Start(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-t.news:
				changed(t.list())
			}
			if pause(ctx, peersEvery) != nil {
				return nil
			}
		}
	})
	return g.Wait()
}

// stripPeer keeps what peerOf reads.
func stripPeer(n *v1alpha1.NodeNetwork) *v1alpha1.NodeNetwork {
	out := &v1alpha1.NodeNetwork{}
	out.Name, out.ResourceVersion, out.DeletionTimestamp = n.Name, n.ResourceVersion, n.DeletionTimestamp
	for _, i := range n.Spec.Interfaces {
		if i.DeviceIndex == 0 {
			out.Spec.Interfaces = []v1alpha1.Interface{{PrimaryAddress: i.PrimaryAddress}}
		}
	}
	out.Status.AgentVersion = n.Status.AgentVersion
	return out
}

// peerOf says where a node's agent answers. One that never had an agent isn't expected to.
func peerOf(n *v1alpha1.NodeNetwork) (netip.Addr, bool) {
	if n.DeletionTimestamp != nil || n.Status.AgentVersion == "" || len(n.Spec.Interfaces) == 0 {
		return netip.Addr{}, false
	}
	for _, i := range n.Spec.Interfaces {
		if i.DeviceIndex == 0 {
			a, err := netip.ParseAddr(i.PrimaryAddress)
			return a, err == nil
		}
	}
	return netip.Addr{}, false
}

type peerTable struct {
	mu    sync.Mutex
	peers map[string]netip.Addr
	news  chan struct{}
}

func (t *peerTable) put(o any, gone bool) {
	n, ok := lastKnown(o).(*v1alpha1.NodeNetwork)
	if !ok {
		return
	}
	addr, is := peerOf(n)
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, had := t.peers[n.Name]; gone || !is {
		if !had {
			return
		}
		delete(t.peers, n.Name)
	} else if had && old == addr {
		return
	} else {
		t.peers[n.Name] = addr
	}
	select {
	case t.news <- struct{}{}:
	default:
	}
}

func (t *peerTable) list() []nodehealth.Peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]nodehealth.Peer, 0, len(t.peers))
	for node, addr := range t.peers {
		out = append(out, nodehealth.Peer{Node: node, Addr: addr})
	}
	return out
}
