package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/weft-cni/weft/test/kernels/report"
)

const qemu = "qemu-system-x86_64"

// boot runs the kernel until it powers off, and returns what the guest printed.
func boot(ctx context.Context, vmlinuz, initrd string, measures bool, console io.Writer) (report.Result, error) {
	path, err := ensureQEMU(ctx)
	if err != nil {
		return report.Result{}, fmt.Errorf("%w: %w", errCouldNotRun, err)
	}
	var output bytes.Buffer
	memory := "1024"
	if measures {
		memory = "4096" // for four agents with tables of full size
	}
	// Without cx16: some versions of QEMU spoil the flags after a 16-byte compare-and-exchange, and the
	// allocator of newer kernels uses it.
	cmd := exec.CommandContext(ctx, path,
		"-accel", "tcg", "-cpu", "max,-cx16", "-smp", "2", "-m", memory,
		"-kernel", vmlinuz, "-initrd", initrd,
		"-append", "console=ttyS0 panic=-1 quiet net.ifnames=0",
		"-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot",
		"-net", "none")
	cmd.Stdout = io.MultiWriter(&output, console)
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()
	if ctx.Err() != nil {
		return report.Result{}, fmt.Errorf("the kernel didn't power off in time; its console ends with:\n%s", tail(output.String(), 30))
	}
	r, findErr := report.Find(bytes.NewReader(output.Bytes()))
	if findErr != nil {
		return r, errors.Join(fmt.Errorf("%w; the console ends with:\n%s", findErr, tail(output.String(), 30)), err)
	}
	if len(r.Problems()) > 0 {
		fmt.Fprintln(console, tail(output.String(), 60))
	}
	return r, nil
}

// ensureQEMU finds QEMU, and has Debian install it where it may.
func ensureQEMU(ctx context.Context) (string, error) {
	path, err := exec.LookPath(qemu)
	if err == nil {
		return path, nil
	}
	const hint = "install it: apt-get install --no-install-recommends qemu-system-x86"
	if os.Getuid() != 0 {
		return "", fmt.Errorf("%w; %s", err, hint)
	}
	if _, err := output(ctx, "", "apt-get", "install", "-q", "-y", "--no-install-recommends", "qemu-system-x86"); err != nil {
		return "", fmt.Errorf("%s is missing and installing it failed: %w; %s", qemu, err, hint)
	}
	return exec.LookPath(qemu)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
