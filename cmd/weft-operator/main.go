// Command weft-operator owns what a weft cluster shares in EC2 and Kubernetes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/weft-cni/weft/internal/operator"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := operator.NewCommand().ExecuteContext(ctx)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, operator.ErrLeft):
		os.Exit(3)
	default:
		fmt.Fprintln(os.Stderr, "weft-operator:", err)
		os.Exit(1)
	}
}
