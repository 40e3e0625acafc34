// Command daemon is containerd, and ctr when it is called by that name.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins"
	"github.com/containerd/containerd/v2/cmd/containerd/command"
	ctr "github.com/containerd/containerd/v2/cmd/ctr/app"
)

func main() {
	var err error
	switch filepath.Base(os.Args[0]) {
	case "ctr":
		err = ctr.New().Run(context.Background(), os.Args)
	default:
		err = command.App().Run(context.Background(), os.Args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
