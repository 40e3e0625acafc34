package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/internal/agentapi"
)

// serveAPI answers what people ask this node. Each subject is one line here and a file of its own.
func (a *agent) serveAPI(ctx context.Context) error {
	s := agentapi.NewServer(a.Log)
	s.JSON("GET /v1/status", func(*http.Request) (any, error) { return a.health(), nil })
	a.registerFlows(s)
	s.JSON("GET /v1/peers", func(*http.Request) (any, error) { return a.peerReport() })
	a.registerWhy(s)
	a.registerInspect(s)
	a.registerServices(s)
	return s.Serve(ctx, a.paths.api())
}

// whenServing is the error of what can't be answered before the agent has taken over the node.
func (a *agent) whenServing() error {
	if a.serving.Load() {
		return nil
	}
	step, reason := a.progress.current()
	return agentapi.Unavailable("the agent of %s is starting: %s: %s", a.Node, step, reason)
}

// ErrTold ends a command whose error stands on standard error already.
var ErrTold = errors.New("failed as told")

// apiCommand asks the agent that runs beside it: the image has no shell and no other client, and this is
// what weft runs in it.
func (f *flags) apiCommand() *cobra.Command {
	var hold bool
	c := &cobra.Command{
		Use: "api PATH", Short: "Ask this node's agent, and print its answer", Args: cobra.ExactArgs(1),
		Example: "  weft-agent api /v1/status",
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			if hold {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				defer cancel()
				untilEnd(c.InOrStdin(), cancel)
			}
			err := agentapi.NewClient(paths{run: f.runDir}.api()).Get(ctx, args[0], c.OutOrStdout())
			var answer *agentapi.Error
			switch {
			case errors.Is(err, context.Canceled):
				return nil
			case errors.As(err, &answer):
				if err := json.NewEncoder(c.ErrOrStderr()).Encode(answer); err != nil {
					return err
				}
				return ErrTold
			case err != nil:
				fmt.Fprintln(c.ErrOrStderr(), err)
				return ErrTold
			}
			return nil
		},
	}
	c.Flags().BoolVar(&hold, "hold", false, "end when standard input ends: so does a stream whose reader on another machine is gone")
	return c
}

// untilEnd calls end when there is nothing more to read. The reader ends with the process.
func untilEnd(r io.Reader, end func()) {
	new(errgroup.Group).Go(func() error {
		_, err := io.Copy(io.Discard, r)
		end()
		return err
	})
}
