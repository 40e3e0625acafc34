// Package labbench measures what needs a cluster: EKS in a box with weft on it.
package labbench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The names that the examples' placeholders get.
const (
	cluster = "bench"
	region  = "us-west-2"
)

// Lab is a running lab of three nodes.
type Lab struct {
	name, bin, work string
	out             io.Writer
}

// Create brings a lab up and says how long that took. The programs that it runs must be built.
func Create(ctx context.Context, bin, work string, progress io.Writer) (*Lab, time.Duration, error) {
	l := &Lab{name: fmt.Sprintf("bench%d", os.Getpid()), bin: bin, work: work, out: progress}
	if err := l.run(ctx, "lab", "assets"); err != nil {
		return nil, 0, err
	}
	file, err := l.fill("eks-config.yaml", nil)
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	if err := l.run(ctx, "lab", "create", "cluster", "-f", file, "--name", l.name); err != nil {
		return nil, 0, errors.Join(err, l.Delete())
	}
	return l, time.Since(began), nil
}

// Delete removes everything of the lab, also when the caller's time is over.
func (l *Lab) Delete() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return l.run(ctx, "lab", "delete", "cluster", "--name", l.name)
}

// Install installs weft from the guide's values and says how long it took from the command until everything
// is healthy. Images and the operator's role are there before.
func (l *Lab) Install(ctx context.Context) (time.Duration, error) {
	images, err := filepath.Glob("build/images/*.tar")
	if err != nil || len(images) == 0 {
		return 0, fmt.Errorf("found no images in build/images (make build): %w", err)
	}
	if err := l.run(ctx, "lab", append([]string{"image", "load", "--name", l.name}, images...)...); err != nil {
		return 0, err
	}
	arn, err := l.shell(ctx, "scripts/iam-role.sh "+cluster)
	if err != nil {
		return 0, err
	}
	parts := strings.Split(strings.TrimSpace(arn), ":")
	if len(parts) < 6 {
		return 0, fmt.Errorf("scripts/iam-role.sh printed %q, expected an ARN", arn)
	}
	values, err := l.fill("cilium-config.yaml", []string{"<ACCOUNT_ID>", parts[4]})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := l.shell(ctx, fmt.Sprintf("%q/weft install --values %q && %q/weft status --wait --wait-duration 3m", l.bin, values, l.bin)); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// fill writes an example with its placeholders filled in.
func (l *Lab) fill(example string, more []string) (string, error) {
	b, err := os.ReadFile(filepath.Join("examples", example))
	if err != nil {
		return "", err
	}
	r := strings.NewReplacer(append([]string{"<cluster-name>", cluster, "<cluster-region>", region, "<default-aws-region>", region}, more...)...)
	path := filepath.Join(l.work, example)
	return path, os.WriteFile(path, []byte(r.Replace(string(b))), 0o644)
}

func (l *Lab) run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin, program), args...)
	cmd.Stdout, cmd.Stderr = l.out, l.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return nil
}

// shell runs a command where kubectl, aws and weft mean the lab, and returns what it printed.
func (l *Lab) shell(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-euc", fmt.Sprintf("eval \"$(%q/lab env --name %s)\"; %s", l.bin, l.name, command))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, l.out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", command, err, out.String())
	}
	return out.String(), nil
}

// node runs a command on a node.
func (l *Lab) node(ctx context.Context, node, command string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin, "lab"), "exec", "--name", l.name, node, "--", "sh", "-c", command)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", node, command, err)
	}
	return string(out), nil
}
