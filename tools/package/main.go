// Command package makes weft's images and releases: `package images`, `package release`.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/weft-cni/weft/internal/release"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("found no verb, expected images or release")
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	bin := fs.String("bin", "bin", "images: directory of the static binaries")
	out := fs.String("out", "build/"+args[0], "directory to write to")
	arch := fs.String("arch", runtime.GOARCH, "images: architecture of the binaries")
	epoch := fs.Int64("epoch", 0, "time stamp of what is made, in seconds since 1970")
	commit := fs.String("commit", "unknown", "release: commit that it is made from")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	created := time.Unix(*epoch, 0)
	switch args[0] {
	case "images":
		files, err := release.Images(*bin, *out, *arch, created)
		for _, f := range files {
			fmt.Println(f)
		}
		return err
	case "release":
		return release.Run(ctx, release.Options{Source: ".", Out: *out, Commit: *commit, Created: created, Log: os.Stdout})
	}
	return fmt.Errorf("found verb %q, expected images or release", args[0])
}
