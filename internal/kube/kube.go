// Package kube makes the clients that the command line speaks to a cluster with, from kubectl's own
// configuration.
package kube

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// DefaultNamespace is where weft lives unless a person says otherwise.
const DefaultNamespace = "kube-system"

// Flags choose the cluster.
type Flags struct {
	Kubeconfig string
	Context    string
	Namespace  string
}

// Add puts the flags on a command.
func (f *Flags) Add(flags *pflag.FlagSet) {
	flags.StringVar(&f.Kubeconfig, "kubeconfig", "", "path of the kubeconfig file (default $KUBECONFIG, then ~/.kube/config)")
	flags.StringVar(&f.Context, "context", "", "context of the kubeconfig to use")
	flags.StringVarP(&f.Namespace, "namespace", "n", DefaultNamespace, "namespace that weft is in")
}

// Getter is what Helm's SDK wants.
func (f *Flags) Getter() genericclioptions.RESTClientGetter {
	g := genericclioptions.NewConfigFlags(true).WithDiscoveryBurst(300).WithDiscoveryQPS(50).
		WithWrapConfigFn(func(c *rest.Config) *rest.Config { return tuned(c) })
	g.KubeConfig, g.Context, g.Namespace = &f.Kubeconfig, &f.Context, &f.Namespace
	return g
}

// ErrNoConfig says that nothing names a cluster.
var ErrNoConfig = errors.New("no cluster is configured: found no kubeconfig, expected one at --kubeconfig, in $KUBECONFIG or at ~/.kube/config; on EKS run: aws eks update-kubeconfig --name CLUSTER")

// Config is the chosen cluster's address and credentials.
func (f *Flags) Config() (*rest.Config, error) {
	if f.Kubeconfig != "" {
		if _, err := os.Stat(f.Kubeconfig); err != nil {
			return nil, fmt.Errorf("--kubeconfig: %w; check the path, or leave the flag out for $KUBECONFIG, then ~/.kube/config", err)
		}
	}
	g := f.Getter()
	c, err := g.ToRESTConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, ErrNoConfig
		}
		return nil, fmt.Errorf("kubeconfig: %w%s", err, f.contexts())
	}
	// Without any configuration client-go falls back to a server on this machine.
	if raw, err := g.ToRawKubeConfigLoader().RawConfig(); err == nil && len(raw.Clusters) == 0 && strings.Contains(c.Host, "localhost:8080") {
		return nil, ErrNoConfig
	}
	return tuned(c), nil
}

func tuned(c *rest.Config) *rest.Config {
	c.QPS, c.Burst = 50, 100
	return c
}

// contexts names those that there are, if the one that was asked for isn't among them.
func (f *Flags) contexts() string {
	raw, err := clientcmd.NewDefaultClientConfigLoadingRules().Load()
	if f.Kubeconfig != "" {
		raw, err = clientcmd.LoadFromFile(f.Kubeconfig)
	}
	if err != nil || f.Context == "" || raw.Contexts[f.Context] != nil || len(raw.Contexts) == 0 {
		return ""
	}
	return "; there are: " + strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", ")
}

// Unreachable says what to do about a first question that a cluster didn't answer, or refused.
func Unreachable(host string, err error) error {
	if apierrors.IsUnauthorized(err) {
		return fmt.Errorf("cluster %s refuses the kubeconfig's credentials: %w; renew them (on EKS: aws eks update-kubeconfig --name CLUSTER)", host, err)
	}
	return fmt.Errorf("no cluster reachable at %s: %w; check --context and --kubeconfig, and that this machine may reach the API server", host, err)
}

// ClusterName guesses the cluster's name from the kubeconfig: the last part of EKS' ARN, or the first of
// eksctl's NAME.REGION.eksctl.io. Empty if neither is there.
func (f *Flags) ClusterName() string {
	raw, err := f.Getter().ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return ""
	}
	name := f.Context
	if name == "" {
		name = raw.CurrentContext
	}
	if c := raw.Contexts[name]; c != nil {
		return clusterName(c.Cluster)
	}
	return ""
}

var (
	arnName    = regexp.MustCompile(`^arn:[a-z0-9-]+:eks:[a-z0-9-]+:[0-9]+:cluster/([0-9A-Za-z][0-9A-Za-z_-]*)$`)
	eksctlName = regexp.MustCompile(`^([0-9A-Za-z][0-9A-Za-z_-]*)\.[a-z0-9-]+\.eksctl\.io$`)
)

func clusterName(entry string) string {
	for _, form := range []*regexp.Regexp{arnName, eksctlName} {
		if m := form.FindStringSubmatch(strings.TrimSpace(entry)); m != nil {
			return m[1]
		}
	}
	return ""
}

// Client is a cluster.
type Client struct {
	Config *rest.Config
	Kube   kubernetes.Interface
	// Objects reads and writes weft.dev beside Kubernetes' own.
	Objects client.Client
}

// Connect makes the clients; it sends nothing yet.
func (f *Flags) Connect() (*Client, error) {
	config, err := f.Config()
	if err != nil {
		return nil, err
	}
	k, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	// Its mapper asks the server when it first meets a kind, and again for one that wasn't there: the CRDs
	// of weft.dev appear while an install waits.
	objects, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return &Client{Config: config, Kube: k, Objects: objects}, nil
}

// Scheme knows Kubernetes' types and weft's.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("scheme: %w", err)
		}
	}
	return s, nil
}

// ProbeTimeout bounds the first question to a cluster: one that doesn't answer is said to be away.
const ProbeTimeout = 10 * time.Second
