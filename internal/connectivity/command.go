package connectivity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
)

// ErrFailed ends a run in which a test failed; the report was printed already.
var ErrFailed = errors.New("connectivity test failed")

// NewCommand makes `weft connectivity`. connect gives the cluster that the command line chose, image the
// probe's default image.
func NewCommand(connect func() (*rest.Config, error), image string) *cobra.Command {
	root := &cobra.Command{
		Use: "connectivity", Short: "Test that the cluster's network works", Example: "  weft connectivity test",
		// A verb that isn't there is an error, not help and success.
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newTest(connect, image))
	return root
}

type options struct {
	test, namespace, junit, image, output string
	externalName, externalAddress         string
	timeout, actionTimeout                time.Duration
	list                                  bool
}

func newTest(connect func() (*rest.Config, error), image string) *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "test",
		Short: "Send traffic on every path and say what fails and why",
		Long: `Sends real traffic on every path that matters: between pods, to and from nodes, through services and node
ports, to names and addresses outside, and from the API server into pods. It runs in a namespace of its own,
which it leaves for another run; deleting the namespace removes everything that it made.`,
		Example: `  weft connectivity test
  weft connectivity test --list
  weft connectivity test --test 'nodes/|services/node-port'
  weft connectivity test --junit-file report.xml --timeout 5m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, connect) },
	}
	f := c.Flags()
	f.StringVar(&o.test, "test", "", "run only what matches this regular expression over test/scenario")
	f.BoolVar(&o.list, "list", false, "list tests and scenarios and end")
	f.StringVar(&o.namespace, "test-namespace", "weft-test-1", "namespace to run in")
	f.StringVar(&o.junit, "junit-file", "", "write the result as JUnit XML to this file")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "end the whole run after this time")
	f.DurationVar(&o.actionTimeout, "action-timeout", 4*time.Second, "how long one attempt may take")
	f.StringVar(&o.image, "probe-image", image, "image of weft-probe")
	f.StringVar(&o.externalName, "external-target", "one.one.one.one", "name outside the VPC that answers HTTP; empty skips")
	f.StringVar(&o.externalAddress, "external-ip", "1.1.1.1", "address outside the VPC that answers HTTP and ICMP; empty skips")
	f.StringVarP(&o.output, "output", "o", "", "json prints the result as JSON on standard output")
	return c
}

// label is what a namespace may be called.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (o options) run(cmd *cobra.Command, connect func() (*rest.Config, error)) (err error) {
	sel, err := Select(o.test)
	if err != nil {
		return err
	}
	if !label.MatchString(o.namespace) {
		return fmt.Errorf("--test-namespace: found %q, expected lower-case letters, digits and dashes, at most 63", o.namespace)
	}
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("--output: found %q, expected json", o.output)
	}
	tests := Tests()
	if !sel.any(tests) {
		return fmt.Errorf("--test: found %q, which matches no test/scenario; see weft connectivity test --list", o.test)
	}
	if o.list {
		for _, t := range tests {
			for _, s := range t.Scenarios {
				if sel.has(t.Name, s.Name()) {
					fmt.Fprintf(cmd.OutOrStdout(), "%s/%s\n", t.Name, s.Name())
				}
			}
		}
		return nil
	}
	if o.junit != "" {
		// Said now, not after minutes of testing.
		if _, err := os.Stat(filepath.Dir(o.junit)); err != nil {
			return fmt.Errorf("--junit-file: %w", err)
		}
	}
	progress := cmd.OutOrStdout()
	if o.output == "json" {
		progress = cmd.ErrOrStderr()
	}
	config, err := connect()
	if err != nil {
		return err
	}
	cluster, err := Connect(config, o.namespace)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	if err := cluster.check(ctx); err != nil {
		return fmt.Errorf("connectivity test could not start: %w", err)
	}
	defer func() {
		if werr := cluster.Withdraw(context.WithoutCancel(ctx)); werr != nil {
			err = errors.Join(err, fmt.Errorf("connectivity test left something behind: %w", werr))
		}
	}()
	env, err := cluster.Deploy(ctx, o.image, o.actionTimeout, progress)
	if err != nil {
		return fmt.Errorf("connectivity test could not start: %w", err)
	}
	env.Timeout, env.ExternalName, env.ExternalAddress = o.actionTimeout, o.externalName, o.externalAddress
	sum := Run(ctx, tests, sel, env, progress)
	sum.Report(progress)
	if o.output == "json" {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		if err := e.Encode(sum); err != nil {
			return err
		}
	}
	if o.junit != "" {
		if err := writeJUnit(o.junit, sum); err != nil {
			return err
		}
	}
	if !sum.OK() {
		return ErrFailed
	}
	return nil
}

func writeJUnit(file string, sum Summary) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("--junit-file: %w", err)
	}
	if err := sum.JUnit(f); err != nil {
		f.Close()
		return fmt.Errorf("--junit-file: %w", err)
	}
	return f.Close()
}
