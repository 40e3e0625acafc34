// Command weft-agent is weft's process on a node.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/weft-cni/weft/internal/agent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := agent.NewCommand().ExecuteContext(ctx)
	stop()
	if errors.Is(err, agent.ErrTold) {
		os.Exit(1)
	}
	if err != nil {
		slog.Error("weft-agent ends", "err", err)
		fmt.Fprintln(os.Stderr, "weft-agent:", err)
		os.Exit(1)
	}
}
