package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/lab/internal/assets"
	"github.com/weft-cni/weft/lab/internal/cluster"
	"github.com/weft-cni/weft/lab/internal/clusterconfig"
	"github.com/weft-cni/weft/lab/internal/daemon"
	"github.com/weft-cni/weft/lab/internal/upstream"
)

type createOptions struct {
	file             string
	timeout          time.Duration
	strictVersion    bool
	withoutKubeProxy bool
	cni              string
}

func (a *app) createCommand() *cobra.Command {
	create := group(&cobra.Command{Use: "create", Short: "Create a lab's cluster"})
	var o createOptions
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Bring up a cluster from eksctl's ClusterConfig",
		Long: `Reads eksctl's ClusterConfig, with eksctl's defaults where it is silent, and brings the cluster up: one line
for each stage that is done. Nodes have no CNI, so they become Ready when one is installed.`,
		Example: `  lab create cluster -f eks-config.yaml
  lab create cluster -f eks-config.yaml --name two --timeout 5m
  lab create cluster -f - < eks-config.yaml
  lab create cluster -f eks-config.yaml --cni ptp    # Ready nodes without weft`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.create(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "config-file", "f", "", "the ClusterConfig; - reads standard input")
	f.DurationVar(&o.timeout, "timeout", 3*time.Minute, "give up after this time (building programs isn't counted)")
	f.BoolVar(&o.strictVersion, "strict-version", false, "refuse a file that asks for another Kubernetes version than the lab has")
	f.BoolVar(&o.withoutKubeProxy, "without-kube-proxy", false, "leave the add-on kube-proxy out")
	f.StringVar(&o.cni, "cni", cluster.CNINone, "network of the pods: none, for a CNI to be installed, or ptp")
	create.AddCommand(cmd)
	return create
}

func (a *app) create(ctx context.Context, o createOptions) error {
	if o.file == "" {
		return usageError{errors.New("create cluster: expected -f FILE with eksctl's ClusterConfig")}
	}
	if o.cni != cluster.CNINone && o.cni != cluster.CNIPTP {
		return usageError{fmt.Errorf("--cni: found %q, expected none or ptp", o.cni)}
	}
	lab, err := a.lab()
	if err != nil {
		return usageError{err}
	}
	raw, config, err := readConfig(o.file)
	if err != nil {
		return fmt.Errorf("%s: %w", o.file, err)
	}
	if err := a.tell(config, o); err != nil {
		return err
	}
	if err := needRoot(); err != nil {
		return err
	}
	if lab.Exists() {
		return fmt.Errorf("lab %s exists already: delete it with: lab delete cluster --name %s, or choose another --name", lab.Name, lab.Name)
	}
	if err := room(config.Nodes()); err != nil {
		return err
	}
	dir, err := a.build(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	client, err := daemon.Spawn(ctx, lab)
	if err != nil {
		return err
	}
	err = client.Create(ctx, daemon.CreateRequest{
		Config: raw, Assets: dir, CNI: o.cni, WithoutKubeProxy: o.withoutKubeProxy, Timeout: o.timeout,
	}, func(e daemon.Event) { fmt.Fprintf(a.out, "%5.1f s  %s\n", e.Elapsed.Seconds(), e.Stage) })
	if err != nil {
		return fmt.Errorf("create cluster %s: %w\nwhat there is stays for a look (lab status, lab logs); remove it with: lab delete cluster --name %s", config.Name, err, lab.Name)
	}
	suffix := ""
	if lab.Name != "lab" {
		suffix = " --name " + lab.Name
	}
	fmt.Fprintf(a.out, "%5.1f s  cluster %s is up\n\nnext: eval \"$(lab env%s)\" && kubectl get nodes\nremove it with: lab delete cluster%s\n",
		time.Since(began).Seconds(), config.Name, suffix, suffix)
	return nil
}

func readConfig(file string) ([]byte, clusterconfig.Config, error) {
	var raw []byte
	var err error
	if file == "-" {
		raw, err = io.ReadAll(os.Stdin)
	} else {
		raw, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, clusterconfig.Config{}, err
	}
	c, err := clusterconfig.Parse(raw)
	return raw, c, err
}

// runs says which add-ons the lab has; the others are accepted.
var runs = map[string]bool{"coredns": true, "kube-proxy": true}

var instead = map[string]string{
	"vpc-cni":                "the lab doesn't run it yet: nodes wait for the CNI that you install",
	"eks-pod-identity-agent": "the lab doesn't run it yet: pods get roles by IRSA",
	"aws-ebs-csi-driver":     "the lab has no EBS",
}

// tell says what differs from what the file asks for.
func (a *app) tell(c clusterconfig.Config, o createOptions) error {
	has := strings.TrimPrefix(assets.KubernetesVersion, "v")
	if c.Version != "" && !strings.HasPrefix(has+".", c.Version+".") {
		if o.strictVersion {
			return fmt.Errorf("the file asks for Kubernetes %s, the lab has %s: change metadata.version or leave out --strict-version", c.Version, has)
		}
		fmt.Fprintf(a.out, "note: the file asks for Kubernetes %s, the lab runs %s\n", c.Version, has)
	}
	for _, n := range c.Notices {
		fmt.Fprintf(a.out, "note: %s\n", n)
	}
	for _, addon := range c.Addons {
		if runs[addon.Name] {
			continue
		}
		why := instead[addon.Name]
		if why == "" {
			why = "the lab doesn't run it"
		}
		fmt.Fprintf(a.out, "note: add-on %s: %s\n", addon.Name, why)
	}
	return nil
}

func (a *app) deleteCommand() *cobra.Command {
	del := group(&cobra.Command{Use: "delete", Short: "Delete a lab's cluster"})
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Remove a lab: processes, namespaces, control groups, files",
		Long:  "Removes everything of a lab, found by name, so it also works after a crash at any point, and twice.",
		Example: `  lab delete cluster
  lab delete cluster --name two`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			lab, err := a.lab()
			if err != nil {
				return usageError{err}
			}
			if err := needRoot(); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			existed := lab.Exists()
			began := time.Now()
			if err := cluster.Down(ctx, lab); err != nil {
				return err
			}
			if !existed {
				fmt.Fprintf(a.out, "lab %s: nothing was there\n", lab.Name)
				return nil
			}
			fmt.Fprintf(a.out, "lab %s deleted in %.1f s\n", lab.Name, time.Since(began).Seconds())
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this time")
	del.AddCommand(cmd)
	return del
}

// build makes sure that the lab's programs are built and returns their folder.
func (a *app) build(ctx context.Context) (string, error) {
	b, err := a.builder()
	if err != nil {
		return "", err
	}
	return b.Build(ctx, assets.Programs())
}

func (a *app) builder() (assets.Builder, error) {
	exe, err := os.Executable()
	if err != nil {
		return assets.Builder{}, err
	}
	source, err := assets.FindSource(a.source, exe)
	if err != nil {
		return assets.Builder{}, err
	}
	cache, err := assets.CacheDir()
	if err != nil {
		return assets.Builder{}, err
	}
	return assets.Builder{Source: source, Cache: cache, Out: a.err}, nil
}

func (a *app) assetsCommand() *cobra.Command {
	var e2e bool
	cmd := &cobra.Command{
		Use:   "assets",
		Short: "Build the programs that a lab runs and print their folder",
		Long: `Builds Kubernetes, containerd, runc, CoreDNS, Helm and the CNI plugins from their Go modules, each once, into
$WEFT_CACHE (default: ~/.cache/weft). With --e2e: Kubernetes' own end-to-end tests, and an archive of the images
that their pods run, from Go modules and Debian packages.`,
		Example: "  lab assets\n  ls $(lab assets)\n  lab image load $(lab assets --e2e)/" + upstream.Archive,
		Args:    exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := a.builder()
			if err != nil {
				return err
			}
			var dir string
			if e2e {
				dir, err = upstream.Build(cmd.Context(), b)
			} else {
				dir, err = b.Build(cmd.Context(), assets.Programs())
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, dir)
			return nil
		},
	}
	cmd.Flags().BoolVar(&e2e, "e2e", false, "what Kubernetes' own end-to-end tests need, instead")
	return cmd
}
