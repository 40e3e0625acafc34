package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/eks/cloudcontroller"
	"github.com/weft-cni/weft/lab/internal/eks/podidentity"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/netns"
)

// machinery starts what EKS runs beside the API server, once that is ready.
func (c *Cluster) machinery(ctx context.Context) error {
	jwks, err := c.client.CoreV1().RESTClient().Get().AbsPath("/openid/v1/jwks").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("keys of service account tokens: %w", err)
	}
	if err := c.cloud.SetClusterTrust(ctx, c.eks.Name, c.plane.Certificates().CA.PEM, jwks); err != nil {
		return err
	}
	controller, err := cloudcontroller.New(cloudcontroller.Config{Client: c.client, Cloud: instances{c.cloud}, Log: c.log})
	if err != nil {
		return err
	}
	c.background("cloud controller", controller.Run)
	webhook, err := podidentity.New(podidentity.Config{
		Client: c.client, Region: c.opts.Config.Region, Log: c.log,
		Listen: func(network, address string) (net.Listener, error) {
			return netns.Listen(c.lab.Netns("cp"), network, address)
		},
	})
	if err != nil {
		return err
	}
	c.background("pod identity webhook", webhook.Run)
	// Pods created before it answers would go without their role.
	select {
	case <-webhook.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.done("EKS' own controllers: cloud controller, pod identity webhook")
	return c.installAddons(ctx)
}

// instances shows the cloud's instances to the cloud controller.
type instances struct{ cloud *cloud.Cloud }

// Instance finds an instance by provider id or by the node's name.
func (i instances) Instance(_ context.Context, providerID, nodeName string) (cloudcontroller.Instance, error) {
	id := providerID[strings.LastIndex(providerID, "/")+1:]
	nodes := i.cloud.Nodes()
	at := slices.IndexFunc(nodes, func(n cloud.Node) bool {
		if id != "" {
			return n.ID == id
		}
		return n.PrivateDNSName == nodeName
	})
	if at < 0 {
		return cloudcontroller.Instance{}, cloudcontroller.ErrNoInstance
	}
	return describe(nodes[at]), nil
}

func (c *Cluster) waitNodeGone(ctx context.Context, n labstate.Node) error {
	err := poll(ctx, func() (bool, error) {
		_, err := c.client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("node %s: the instance is gone but the Node object is still there: %w", n.Name, err)
	}
	return nil
}

func describe(n cloud.Node) cloudcontroller.Instance {
	return cloudcontroller.Instance{
		ProviderID:  "aws:///" + n.AZ + "/" + n.ID,
		State:       cloudcontroller.State(n.State),
		InternalIPs: []netip.Addr{n.PrivateIP},
		ExternalIP:  n.PublicIP,
		PrivateDNS:  n.PrivateDNSName,
		PublicDNS:   n.PublicDNSName,
		Type:        n.Type,
		Region:      n.Region,
		Zone:        n.AZ,
		ZoneID:      n.ZoneID,
	}
}
