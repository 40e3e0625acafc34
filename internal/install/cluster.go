package install

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	authv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/kube"
)

// MinKubernetes is the oldest version that the chart's templates are valid for.
const MinKubernetes = "1.27.0"

// facts are what install wants to know of a cluster before it touches it.
type facts struct {
	version   string // v1.31.2-eks-…
	nodes     int
	awsNodes  int
	name      string // guessed from the nodes' labels
	kubeProxy bool
	awsNode   int32 // pods that the VPC CNI's DaemonSet wants; -1: there is none
	cilium    bool
	// recorded is the cluster's name of an earlier install.
	recorded string
}

func (f facts) eks() bool { return strings.Contains(f.version, "-eks-") || f.awsNodes > 0 }

// kind is the cluster's kind on one line.
func (f facts) kind() string {
	if f.eks() {
		return "EKS"
	}
	return "not EKS"
}

// look reads the facts; each error says what to do.
func look(ctx context.Context, c *kube.Client) (facts, error) {
	f := facts{awsNode: -1}
	short, cancel := context.WithTimeout(ctx, kube.ProbeTimeout)
	defer cancel()
	v, err := serverVersion(short, c)
	if err != nil {
		return f, kube.Unreachable(c.Config.Host, err)
	}
	f.version = v
	nodes, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return f, denied(fmt.Errorf("nodes: %w", err))
	}
	f.nodes = len(nodes.Items)
	names := map[string]bool{}
	for _, n := range nodes.Items {
		if strings.HasPrefix(n.Spec.ProviderID, "aws:///") {
			f.awsNodes++
		}
		if name := n.Labels["alpha.eksctl.io/cluster-name"]; name != "" {
			names[name] = true
		}
	}
	if len(names) == 1 {
		for name := range names {
			f.name = name
		}
	}
	sets, err := c.Kube.AppsV1().DaemonSets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return f, denied(fmt.Errorf("daemonsets in %s: %w", metav1.NamespaceSystem, err))
	}
	for _, d := range sets.Items {
		switch d.Name {
		case "kube-proxy":
			f.kubeProxy = true
		case "aws-node":
			f.awsNode = d.Status.DesiredNumberScheduled
		case "cilium":
			f.cilium = true
		}
	}
	var cn v1alpha1.ClusterNetwork
	err = c.Objects.Get(ctx, client.ObjectKey{Name: v1alpha1.ClusterNetworkName}, &cn)
	switch {
	case err == nil:
		f.recorded = cn.Spec.ClusterName
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
	default:
		return f, denied(fmt.Errorf("clusternetwork %s: %w", v1alpha1.ClusterNetworkName, err))
	}
	return f, nil
}

func serverVersion(ctx context.Context, c *kube.Client) (string, error) {
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	raw, err := c.Kube.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return "", err
	}
	if err := decode(raw, &v); err != nil {
		return "", err
	}
	if v.GitVersion == "" {
		return "", errors.New("its answer to /version has no gitVersion: it is not a Kubernetes API server")
	}
	return v.GitVersion, nil
}

// denied adds what to do to an answer of RBAC.
func denied(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w; installing a network needs a cluster administrator's rights", err)
	}
	return err
}

// judge says whether weft can be installed there; pure.
func judge(f facts, clusterName string, narrowed bool) error {
	v, err := version.ParseGeneric(f.version)
	if err != nil {
		return fmt.Errorf("kubernetes version: found %q, expected one such as v1.31.2", f.version)
	}
	if v.LessThan(version.MustParseGeneric(MinKubernetes)) {
		return fmt.Errorf("kubernetes version: found %s, expected %s or later", f.version, strings.TrimSuffix(MinKubernetes, ".0"))
	}
	if !f.eks() {
		if f.nodes == 0 {
			return errors.New("the cluster has no nodes, and its version doesn't say EKS: ipam.mode=eni needs EC2 instances; add a node group first")
		}
		return fmt.Errorf("the cluster is not EKS: of %d nodes none has a provider ID that begins with aws:///; ipam.mode=eni, the only mode of this version, gives pods addresses of EC2's network interfaces", f.nodes)
	}
	if f.cilium && !narrowed {
		return errors.New("DaemonSet kube-system/cilium is in this cluster: two networks can't own one node; uninstall it first, or narrow both with the value affinity so that they share no node")
	}
	if f.recorded != "" && f.recorded != clusterName {
		return fmt.Errorf("cluster.name is %q, but this cluster was installed as %q before: identities are made of the name, so it can't change; use --set cluster.name=%s, or run weft uninstall first", clusterName, f.recorded, f.recorded)
	}
	return nil
}

// access asks the API server whether the person may make each of the objects, and says all that is missing.
func access(ctx context.Context, c *kube.Client, namespace string, objects []*unstructured.Unstructured) error {
	type ask struct{ group, resource, namespace string }
	asks := map[ask]bool{{"", "secrets", namespace}: true}
	for _, o := range objects {
		asks[ask{o.GroupVersionKind().Group, resourceOf(o.GetKind()), o.GetNamespace()}] = true
	}
	var missing []string
	for a := range asks {
		review, err := c.Kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authv1.SelfSubjectAccessReview{
			Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authv1.ResourceAttributes{
				Verb: "create", Group: a.group, Resource: a.resource, Namespace: a.namespace,
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("own rights: %w", err)
		}
		if review.Status.Allowed {
			continue
		}
		where := "in the cluster"
		if a.namespace != "" {
			where = "in namespace " + a.namespace
		}
		name := a.resource
		if a.group != "" {
			name += "." + a.group
		}
		missing = append(missing, "create "+name+" "+where)
	}
	if len(missing) == 0 {
		return nil
	}
	sort.Strings(missing)
	return fmt.Errorf("you lack rights in this cluster: %s; installing a network needs a cluster administrator's rights (ask for the ClusterRole cluster-admin, on EKS the access policy AmazonEKSClusterAdminPolicy)", strings.Join(missing, ", "))
}
