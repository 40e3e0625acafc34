// Package install puts weft into a cluster as a Helm release and takes it out again, saying each thing that
// it does. Nothing is changed before every check has passed.
package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	helmkube "helm.sh/helm/v4/pkg/kube"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-cni/weft/internal/kube"
	"github.com/weft-cni/weft/internal/values"
	"github.com/weft-cni/weft/internal/version"
)

// Names of the release and of the chart outside the binary.
const (
	ReleaseName    = "weft"
	ChartReference = "oci://ghcr.io/weft-cni/charts/weft"
)

// Options of an install.
type Options struct {
	Cluster kube.Flags
	Values  ValueFlags
	// Version asked for; empty is this binary's.
	Version      string
	AllowUnknown bool
	DryRun       bool
	// RemoveKubeProxy says that the caller removes kube-proxy when weft is ready.
	RemoveKubeProxy bool
	// Out gets what is done, line by line; Manifest the objects of a dry run.
	Out, Manifest io.Writer
}

// served is what a cluster of today serves, for a dry run without a cluster.
var served = []string{"admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"}

// Install checks everything, then installs.
func Install(ctx context.Context, o Options) error {
	if err := checkVersion(o.Version); err != nil {
		return err
	}
	say := func(format string, a ...any) { fmt.Fprintf(o.Out, format+"\n", a...) }
	result, err := readValues(o.Values, o.AllowUnknown)
	if err != nil {
		return err
	}
	for _, note := range result.Notes {
		say("value %s", note)
	}
	for _, warning := range result.Warnings {
		say("warning: value %s", warning)
	}
	given := result.Values

	client, err := o.Cluster.Connect()
	var found facts
	if err == nil {
		found, err = look(ctx, client)
	}
	if err != nil {
		if o.DryRun && found.version == "" {
			return dryRunAlone(o, given, err)
		}
		return err
	}
	name, how := clusterName(given, found, o.Cluster.ClusterName())
	if name == "" {
		return errors.New("cluster.name is not set, and neither the kubeconfig nor the nodes tell the cluster's name: identities are made of it; add --set cluster.name=NAME")
	}
	setName(given, name)
	narrowed := given["affinity"] != nil
	if err := judge(found, name, narrowed); err != nil {
		return err
	}
	say("cluster: %s, Kubernetes %s, %d nodes", found.kind(), found.version, found.nodes)
	say("cluster.name: %s (%s)", name, how)
	say("weft: %s, datapath mode aws-eni", version.Version)
	replace, lines := chooseServices(given, found, name, o.RemoveKubeProxy)
	for _, line := range lines {
		say("%s", line)
	}
	if o.RemoveKubeProxy && !replace {
		return errRemoveUnasked
	}
	if replace {
		if err := findAPIServer(ctx, client, given, name, say); err != nil {
			return err
		}
	}

	release, err := Render(given, o.Cluster.Namespace, found.version, served)
	if err != nil {
		return err
	}
	if o.DryRun {
		say("dry run: nothing is changed; the same with helm: %s", HelmCommand(o.Cluster.Namespace, version.Version, given))
		_, err := io.WriteString(o.Manifest, release.Manifest)
		return err
	}
	cfg, err := helm(o.Cluster, o.Out)
	if err != nil {
		return err
	}
	if err := notInstalled(cfg, o.Cluster.Namespace); err != nil {
		return err
	}
	objects, err := Objects(release.Manifest)
	if err != nil {
		return err
	}
	if err := access(ctx, client, o.Cluster.Namespace, objects); err != nil {
		return err
	}
	say("the same with helm: %s", HelmCommand(o.Cluster.Namespace, version.Version, given))
	if found.awsNode >= 0 && !narrowed {
		if err := evictVPCCNI(ctx, client); err != nil {
			return err
		}
		say("DaemonSet kube-system/aws-node: patched to run on no node (node selector %s), so that one network owns each node", vpcCNIGate)
	}
	made, err := apply(ctx, cfg, o.Cluster.Namespace, given, say)
	if err != nil {
		if found.awsNode >= 0 && !narrowed {
			err = errors.Join(err, restoreVPCCNI(context.WithoutCancel(ctx), client))
		}
		return err
	}
	objects, err = Objects(made.Manifest)
	if err != nil {
		return err
	}
	for _, object := range objects {
		say("made %s", label(object))
	}
	say("values are kept in Secret %s/sh.helm.release.v1.%s.v%d (see them with: helm get values %s -n %s)",
		o.Cluster.Namespace, ReleaseName, made.Version, ReleaseName, o.Cluster.Namespace)
	return nil
}

// checkVersion refuses a version that this binary doesn't carry.
func checkVersion(asked string) error {
	if asked == "" || "v"+strings.TrimPrefix(asked, "v") == version.Version {
		return nil
	}
	return fmt.Errorf("--version %s: this binary carries the chart of %s only; leave the flag out, or use weft %s", asked, version.Version, "v"+strings.TrimPrefix(asked, "v"))
}

func readValues(flags ValueFlags, allowUnknown bool) (values.Result, error) {
	v, err := flags.Read()
	if err != nil {
		return values.Result{}, err
	}
	catalogue, err := values.Load()
	if err != nil {
		return values.Result{}, err
	}
	result := catalogue.Check(v, values.Options{AllowUnknown: allowUnknown})
	if err := result.Err(); err != nil {
		return result, fmt.Errorf("values:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return result, nil
}

// dryRunAlone renders for a cluster of today when there is none to ask.
func dryRunAlone(o Options, given map[string]any, why error) error {
	fmt.Fprintf(o.Out, "dry run without a cluster, for Kubernetes 1.33: %s\n", why)
	name, _ := clusterName(given, facts{}, o.Cluster.ClusterName())
	if name == "" {
		return errors.New("cluster.name is not set: identities are made of it; add --set cluster.name=NAME")
	}
	setName(given, name)
	release, err := Render(given, o.Cluster.Namespace, "v1.33.0", served)
	if err != nil {
		return err
	}
	_, err = io.WriteString(o.Manifest, release.Manifest)
	return err
}

func clusterName(given map[string]any, found facts, configured string) (name, how string) {
	if cluster, ok := given["cluster"].(map[string]any); ok {
		if s, ok := cluster["name"].(string); ok && s != "" {
			return s, "from the values"
		}
	}
	switch {
	case configured != "":
		return configured, "from the kubeconfig"
	case found.name != "":
		return found.name, "from the nodes' label alpha.eksctl.io/cluster-name"
	}
	return "", ""
}

func setName(given map[string]any, name string) {
	cluster, ok := given["cluster"].(map[string]any)
	if !ok {
		cluster = map[string]any{}
		given["cluster"] = cluster
	}
	cluster["name"] = name
}

// helm is Helm's configuration; what it warns of goes to out.
func helm(flags kube.Flags, out io.Writer) (*action.Configuration, error) {
	handler := slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelError})
	// As helm itself does, or its upgrades would meet fields that are somebody else's.
	helmkube.ManagedFieldsManager = "helm"
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(handler))
	if err := cfg.Init(flags.Getter(), flags.Namespace, ""); err != nil {
		return nil, fmt.Errorf("helm: %w", err)
	}
	return cfg, nil
}

// notInstalled refuses a second install.
func notInstalled(cfg *action.Configuration, namespace string) error {
	history, err := cfg.Releases.History(ReleaseName)
	if errors.Is(err, driver.ErrReleaseNotFound) || err == nil && len(history) == 0 {
		return nil
	}
	if err != nil {
		return denied(fmt.Errorf("helm releases in %s: %w", namespace, err))
	}
	last, ok := history[len(history)-1].(*releasev1.Release)
	if !ok {
		return fmt.Errorf("helm release %s in %s: found a %T", ReleaseName, namespace, history[len(history)-1])
	}
	return fmt.Errorf("weft is installed already: Helm release %s in namespace %s, revision %d, %s, status %s; see it with weft status, remove it with weft uninstall",
		ReleaseName, namespace, last.Version, last.Chart.AppVersion(), last.Info.Status)
}

// apply installs the release; one that failed is taken out again, so that nothing is half there.
func apply(ctx context.Context, cfg *action.Configuration, namespace string, given map[string]any, say func(string, ...any)) (*releasev1.Release, error) {
	c, err := Chart()
	if err != nil {
		return nil, err
	}
	in := action.NewInstall(cfg)
	in.ReleaseName, in.Namespace = ReleaseName, namespace
	in.CreateNamespace = namespace != metav1.NamespaceSystem
	in.WaitStrategy = helmkube.HookOnlyStrategy
	in.Timeout = time.Minute
	in.Description = "weft install " + version.Version
	r, err := in.RunWithContext(ctx, c, given)
	release, _ := r.(*releasev1.Release)
	if err == nil {
		return release, nil
	}
	err = fmt.Errorf("install: %w", err)
	if release == nil || release.Info == nil {
		return nil, denied(err)
	}
	out := action.NewUninstall(cfg)
	out.IgnoreNotFound = true
	out.WaitStrategy = helmkube.HookOnlyStrategy
	if _, undo := out.Run(ReleaseName); undo != nil {
		return nil, errors.Join(denied(err), fmt.Errorf("what was made so far could not be removed: %w; run weft uninstall", undo))
	}
	say("what was made so far is removed again")
	return nil, denied(err)
}

// vpcCNIGate is the label that, put on the VPC CNI's node selector, leaves it no node; Cilium's name, so that
// a runbook written for one finds what the other did.
const vpcCNIGate = "io.cilium/aws-node-enabled"

func evictVPCCNI(ctx context.Context, c *kube.Client) error {
	return gateVPCCNI(ctx, c, `"true"`)
}

// restoreVPCCNI takes the gate off; a DaemonSet that is gone is fine.
func restoreVPCCNI(ctx context.Context, c *kube.Client) error {
	return gateVPCCNI(ctx, c, "null")
}

func gateVPCCNI(ctx context.Context, c *kube.Client, value string) error {
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"nodeSelector":{%q:%s}}}}}`, vpcCNIGate, value)
	_, err := c.Kube.AppsV1().DaemonSets(metav1.NamespaceSystem).Patch(ctx, "aws-node", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return denied(fmt.Errorf("daemonset kube-system/aws-node: %w", err))
	}
	return nil
}

func decode(b []byte, into any) error {
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("answer %.60q: %w", b, err)
	}
	return nil
}
