package operator

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/internal/apiserver"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/version"
)

// ErrLeft: a release could not give everything back.
var ErrLeft = errors.New("not everything could be given back")

// NewCommand is the command line of weft-operator.
func NewCommand() *cobra.Command {
	var o Options
	var path string
	root := &cobra.Command{
		Use: "weft-operator", Short: "Owns what a weft cluster shares in EC2 and Kubernetes",
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Config, o.Log, err = load(path, cmd.ErrOrStderr()); err != nil {
				return err
			}
			if o.REST, err = ctrl.GetConfig(); err != nil {
				return fmt.Errorf("API server: %w", err)
			}
			o.REST.Dial = apiserver.Dial(nil)
			o.Pod = os.Getenv("POD_NAME")
			o.Log.Info("weft-operator starts", "version", version.String())
			return Run(cmd.Context(), o)
		},
	}
	root.PersistentFlags().StringVar(&path, "config", config.Path, "configuration file")
	root.PersistentFlags().StringVar(&o.Region, "region", "", "AWS region (default: AWS_REGION, a node's label, or the instance's metadata)")
	root.Flags().StringVar(&o.HealthAddr, "health-addr", fmt.Sprintf(":%d", contract.OperatorHealthPort), "address of /healthz and /readyz")
	root.Flags().StringVar(&o.MetricsAddr, "metrics-addr", fmt.Sprintf(":%d", contract.OperatorMetricsPort), "address of /metrics")
	root.Flags().StringVar(&o.LeaseNamespace, "leader-elect-namespace", namespace(), "namespace of the lease "+LeaseName)

	timeout := 5 * time.Minute
	release := &cobra.Command{
		Use: "release", Short: "Give ENIs and addresses back to EC2, for uninstalling", Args: cobra.NoArgs,
		Long: "Detaches and deletes every ENI that weft made for the cluster and unassigns the addresses that its nodes hold\non their primary ENIs, as far as the role's rights allow. Exits with 3 if something could not be given back.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := load(path, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			rest, err := ctrl.GetConfig()
			if err != nil {
				return fmt.Errorf("API server: %w", err)
			}
			scheme, err := NewScheme()
			if err != nil {
				return err
			}
			c, err := client.New(rest, client.Options{Scheme: scheme})
			if err != nil {
				return fmt.Errorf("API server: %w", err)
			}
			ctx := cmd.Context()
			region, err := findRegion(ctx, c, o.Region, log)
			if err != nil {
				return err
			}
			api, err := ec2.New(ctx, ec2.Options{Region: region})
			if err != nil {
				return fmt.Errorf("AWS SDK: %w", err)
			}
			cluster, err := clusterName(ctx, c, cfg.Cluster.Name)
			if err != nil {
				return err
			}
			r := &Release{Client: c, EC2: api, Cluster: cluster, Out: cmd.OutOrStdout(), Timeout: timeout, Settle: 3 * time.Second, Poll: 2 * time.Second, Now: time.Now}
			left, err := r.Run(ctx)
			if err == nil && left > 0 {
				err = ErrLeft
			}
			return err
		},
	}
	release.Flags().DurationVar(&timeout, "timeout", timeout, "how long to try")
	root.AddCommand(release, &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.String()) },
	})
	return root
}

// load reads the configuration and makes the logger that it asks for, also for the libraries.
func load(path string, w io.Writer) (config.Config, *slog.Logger, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return config.Config{}, nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		return config.Config{}, nil, err
	}
	handler := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	ctrl.SetLogger(logr.FromSlogHandler(handler))
	klog.SetLogger(logr.FromSlogHandler(handler))
	return cfg, slog.New(handler), nil
}

// namespace that the operator runs in.
func namespace() string {
	if ns := os.Getenv("POD_NAMESPACE"); ns != "" {
		return ns
	}
	if b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace"); err == nil {
		return strings.TrimSpace(string(b))
	}
	return "kube-system"
}
