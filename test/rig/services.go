package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"

	"github.com/weft-cni/weft/internal/agent"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/service"
)

// Services are all services of a cluster, as an agent is told of them.
type Services struct {
	Services []*corev1.Service
	Slices   []*discoveryv1.EndpointSlice
}

// API is where an agent watches services instead: a real API server.
type API struct{ Host, Token string }

func (s Spec) servicesFile() string { return filepath.Join(s.Dir, "services.json") }

// PutServices tells the node's agent that these are the services now. Before the first call it knows of none.
func (s Spec) PutServices(v Services) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := s.servicesFile() + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, s.servicesFile())
}

// lookEvery is how soon a change of services is seen.
const lookEvery = 5 * time.Millisecond

// WatchServices tells of what the driver has put, or of what a real API server has.
func (g given) WatchServices(ctx context.Context, t *service.Table, lb *loadbalancer.Table, synced func()) error {
	if g.API != nil {
		k, err := agent.NewKubernetes(&rest.Config{Host: g.API.Host, BearerToken: g.API.Token, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, g.Name)
		if err != nil {
			return err
		}
		defer k.Close()
		return k.WatchServices(ctx, t, lb, synced)
	}
	told := told{table: t, lb: lb, services: map[loadbalancer.Name]string{}, slices: map[loadbalancer.Name]string{}}
	if err := told.read(g.servicesFile()); err != nil {
		return err
	}
	synced()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := told.read(g.servicesFile()); err != nil {
			return err
		}
	}
}

// told is what an agent knows already: objects by name, with their versions.
type told struct {
	table            *service.Table
	lb               *loadbalancer.Table
	services, slices map[loadbalancer.Name]string
	file             os.FileInfo
}

// read tells the agent what the file has otherwise than before.
func (t *told) read(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || t.file != nil && os.SameFile(info, t.file) && info.ModTime().Equal(t.file.ModTime()) {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var v Services
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	t.file = info
	t.tell(v)
	return nil
}

func (t *told) tell(v Services) {
	services, slices := map[loadbalancer.Name]string{}, map[loadbalancer.Name]string{}
	for _, s := range v.Services {
		name := loadbalancer.Name{Namespace: s.Namespace, Name: s.Name}
		before, known := t.services[name]
		if services[name] = s.ResourceVersion; !known || before != s.ResourceVersion {
			t.table.Set("service "+name.String(), service.Hosts(service.Addresses(s)))
			t.lb.SetService(service.Strip(s))
		}
	}
	for _, s := range v.Slices {
		name := loadbalancer.Name{Namespace: s.Namespace, Name: s.Name}
		before, known := t.slices[name]
		if slices[name] = s.ResourceVersion; !known || before != s.ResourceVersion {
			t.lb.SetSlice(loadbalancer.Strip(s))
		}
	}
	for name := range t.slices {
		if _, ok := slices[name]; !ok {
			t.lb.DeleteSlice(name)
		}
	}
	for name := range t.services {
		if _, ok := services[name]; !ok {
			t.table.Set("service "+name.String(), nil)
			t.lb.DeleteService(name)
		}
	}
	t.services, t.slices = services, slices
}
