package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/clusterconfig"
	"github.com/weft-cni/weft/lab/internal/eks/addons"
)

// runs returns those of the cluster's add-ons that the lab runs.
func (c *Cluster) runs() []string {
	list := []string{}
	for _, name := range addons.Names() {
		if c.opts.Config.Has(name) && (name != addons.KubeProxy || !c.opts.WithoutKubeProxy) {
			list = append(list, name)
		}
	}
	return list
}

// installAddons applies the add-ons that the lab runs and records all of them with EKS.
func (c *Cluster) installAddons(ctx context.Context) error {
	run := c.runs()
	for _, a := range c.opts.Config.Addons {
		entry := cloud.Addon{Name: a.Name, Version: a.Version, Status: "ACTIVE"}
		if !slices.Contains(run, a.Name) {
			entry.Status = "DEGRADED"
			entry.Issues = []cloud.AddonIssue{{Code: "Unknown", Message: "the lab does not run this add-on"}}
		}
		if err := c.cloud.SetAddon(ctx, c.eks.Name, entry); err != nil {
			return err
		}
	}
	client, err := dynamic.NewForConfig(c.plane.RESTConfig())
	if err != nil {
		return fmt.Errorf("add-ons: client: %w", err)
	}
	for _, name := range run {
		if name == addons.CoreDNS && slices.Contains(run, addons.KubeProxy) && c.schedulable() {
			// A resolver that asks for the API server before there are service rules keeps asking a
			// connection that leads nowhere, for 30 s.
			if err := c.waitProxies(ctx); err != nil {
				return err
			}
		}
		if err := addons.Apply(ctx, client, addons.Options{
			Addons: []string{name}, Region: c.opts.Config.Region, Endpoint: c.eks.Endpoint, ServiceCIDR: c.eks.ServiceCIDR,
		}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) waitProxies(ctx context.Context) error {
	if err := poll(ctx, func() (bool, error) { return c.proxiesUp(ctx) }); err != nil {
		return fmt.Errorf("add-on kube-proxy isn't up on every node (kubectl -n kube-system describe pods -l k8s-app=kube-proxy): %w", err)
	}
	return nil
}

// waitAddons waits for those add-ons that can run: without a CNI that is what uses the nodes' own network.
func (c *Cluster) waitAddons(ctx context.Context) error {
	run := c.runs()
	var up, waiting []string
	if slices.Contains(run, addons.KubeProxy) {
		if err := c.waitProxies(ctx); err != nil {
			return err
		}
		up = append(up, addons.KubeProxy)
	}
	if slices.Contains(run, addons.CoreDNS) {
		if c.schedulable() {
			if err := poll(ctx, func() (bool, error) { return c.resolversUp(ctx) }); err != nil {
				return fmt.Errorf("add-on coredns isn't up (kubectl -n kube-system describe pods -l k8s-app=kube-dns): %w", err)
			}
			up = append(up, addons.CoreDNS)
		} else {
			why := "Pending until a CNI runs"
			if c.opts.CNI != CNINone {
				why = "Pending: every node has a taint"
			}
			waiting = append(waiting, addons.CoreDNS+" ("+why+")")
		}
	}
	if len(up) == 0 {
		up = []string{"none"}
	}
	text := "add-ons up: " + strings.Join(up, ", ")
	if len(waiting) > 0 {
		text += "; waiting: " + strings.Join(waiting, ", ")
	}
	if len(run) > 0 {
		c.done(text)
	}
	return nil
}

// schedulable says whether ordinary pods can start: the nodes have a network and one of them has no taint.
func (c *Cluster) schedulable() bool {
	return c.opts.CNI == CNIPTP && slices.ContainsFunc(c.opts.Config.NodeGroups, func(g clusterconfig.NodeGroup) bool {
		return g.Desired > 0 && len(g.Taints) == 0
	})
}

// proxiesUp asks each kube-proxy, as a load balancer would, whether its rules are in place.
func (c *Cluster) proxiesUp(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DialContext: c.dialFromVPC, DisableKeepAlives: true}}
	for _, n := range c.Record().Nodes {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(n.PrivateIP, "10256")+"/healthz", nil)
		if err != nil {
			return false, fmt.Errorf("kube-proxy on %s: %w", n.Name, err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return false, nil //nolint:nilerr // the deadline ends what doesn't mend itself
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			return false, nil //nolint:nilerr // as above
		}
	}
	return true, nil
}

func (c *Cluster) resolversUp(ctx context.Context) (bool, error) {
	d, err := c.client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, addons.CoreDNS, metav1.GetOptions{})
	if err != nil {
		return false, nil //nolint:nilerr // the deadline ends what doesn't mend itself
	}
	return d.Status.AvailableReplicas > 0 && d.Status.AvailableReplicas == d.Status.Replicas, nil
}
