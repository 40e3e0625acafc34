// Command weft-probe is what `weft connectivity test` runs in its pods: a server that tells what it saw and
// clients that tell what they got.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/probe"
	"github.com/weft-cni/weft/internal/version"
)

// errFailed makes the exit code 1 after a result was printed: the result says the rest.
var errFailed = errors.New("the probe failed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errFailed) {
			fmt.Fprintln(os.Stderr, "weft-probe:", err)
		}
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{Use: "weft-probe", Short: "Both ends of a connectivity test", Version: version.Version, SilenceUsage: true, SilenceErrors: true}
	var timeout time.Duration
	root.PersistentFlags().DurationVar(&timeout, "timeout", 5*time.Second, "how long a client waits")
	done := func(r probe.Result) error {
		if err := r.Write(os.Stdout); err != nil {
			return err
		}
		if r.Kind != probe.OK {
			return errFailed
		}
		return nil
	}

	s := probe.Server{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	serve := &cobra.Command{Use: "serve", Short: "Answer HTTP, and webhook calls over TLS", Args: cobra.NoArgs,
		Example: "  weft-probe serve --http :8080 --tls :8443 --cert /tls/tls.crt --key /tls/tls.key",
		RunE:    func(c *cobra.Command, _ []string) error { return s.Run(c.Context()) }}
	serve.Flags().StringVar(&s.Addr, "http", ":8080", "address to serve HTTP on")
	serve.Flags().StringVar(&s.TLSAddr, "tls", ":8443", "address to serve the API server on")
	serve.Flags().StringVar(&s.CertFile, "cert", "", "certificate for --tls; none serves no TLS")
	serve.Flags().StringVar(&s.KeyFile, "key", "", "key for --tls")

	var want int
	var anyStatus bool
	get := &cobra.Command{Use: "http URL", Short: "Get a URL", Args: cobra.ExactArgs(1),
		Example: "  weft-probe http --timeout 2s http://echo:8080/",
		RunE: func(c *cobra.Command, a []string) error {
			r := probe.HTTP(c.Context(), a[0], want, timeout)
			if anyStatus && r.Kind == probe.BadStatus {
				r.Kind = probe.OK
			}
			return done(r)
		}}
	get.Flags().IntVar(&want, "status", 200, "status that is success")
	get.Flags().BoolVar(&anyStatus, "any-status", false, "take any answer for success")

	var count, size int
	ping := &cobra.Command{Use: "icmp ADDRESS", Short: "Send echo requests", Args: cobra.ExactArgs(1),
		Example: "  weft-probe icmp --count 2 --size 1400 192.168.1.5",
		RunE: func(c *cobra.Command, a []string) error {
			return done(probe.ICMP(c.Context(), a[0], count, size, timeout))
		}}
	ping.Flags().IntVar(&count, "count", 2, "requests to send")
	ping.Flags().IntVar(&size, "size", 56, "bytes of payload")

	lookup := &cobra.Command{Use: "dns NAME", Short: "Resolve a name", Args: cobra.ExactArgs(1),
		Example: "  weft-probe dns kubernetes.default.svc.cluster.local",
		RunE:    func(c *cobra.Command, a []string) error { return done(probe.Lookup(c.Context(), a[0], timeout)) }}

	root.AddCommand(serve, get, ping, lookup)
	return root
}
