// Command weft installs, explains and tests weft's network in a cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/weft-cni/weft/internal/cli"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := cli.New(cli.Deps{
		Out: os.Stdout, Err: os.Stderr,
		Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(os.Stdout.Fd())),
	})
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case cli.Reported(err):
		return 1
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "weft: interrupted")
		return 130
	}
	fmt.Fprintln(os.Stderr, "weft:", err)
	return 1
}
