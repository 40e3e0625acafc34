package install

import (
	"fmt"
	"io/fs"
	"log/slog"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"

	"github.com/weft-cni/weft/charts"
	"github.com/weft-cni/weft/internal/version"
)

// Chart is the embedded chart, with this binary's version.
func Chart() (*chart.Chart, error) {
	root, err := charts.Weft()
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	var files []*archive.BufferedFile
	err = fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		files = append(files, &archive.BufferedFile{Name: path, Data: b})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	c.Metadata.AppVersion = version.Version
	return c, nil
}

// Render gives the chart's objects without asking a cluster. kube is the Kubernetes version to render
// for, served the APIs beside Kubernetes' own that the cluster has.
func Render(values map[string]any, namespace, kube string, served []string) (*releasev1.Release, error) {
	c, err := Chart()
	if err != nil {
		return nil, err
	}
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	in := action.NewInstall(cfg)
	in.DryRunStrategy = action.DryRunClient
	in.ReleaseName, in.Namespace = ReleaseName, namespace
	in.APIVersions = served
	if kube != "" {
		v, err := common.ParseKubeVersion(kube)
		if err != nil {
			return nil, fmt.Errorf("kubernetes version %q: %w", kube, err)
		}
		in.KubeVersion = v
	}
	r, err := in.Run(c, values)
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	release, ok := r.(*releasev1.Release)
	if !ok {
		return nil, fmt.Errorf("chart: rendered a %T", r)
	}
	return release, nil
}
