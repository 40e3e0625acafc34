package services

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Names in cluster.yaml.
const (
	clusterName = "conformance"
	region      = "us-west-2"
	// nodes are those of cluster.yaml: specs that want more than one ask the command line, not the cluster.
	nodes = 3
)

//go:embed cluster.yaml
var clusterConfig []byte

// lab is EKS in a box with weft on it.
type lab struct {
	name, bin, work string
	// log gets what is said on the way.
	log io.Writer
}

// create brings the cluster up and installs weft from the guide's values. The images of the specs' pods are
// in archive.
func (l *lab) create(ctx context.Context, beside bool, archive string) error {
	file := filepath.Join(l.work, "cluster.yaml")
	if err := os.WriteFile(file, clusterConfig, 0o644); err != nil {
		return err
	}
	args := []string{"create", "cluster", "-f", file, "--name", l.name, "--timeout", "10m"}
	if !beside {
		args = append(args, "--without-kube-proxy")
	}
	if err := l.run(ctx, "lab", args...); err != nil {
		return err
	}
	ours, err := filepath.Glob(filepath.Join(filepath.Dir(l.bin), "build/images/*.tar"))
	if err != nil || len(ours) == 0 {
		return errors.Join(errors.New("found no images in build/images: make build makes them"), err)
	}
	if err := l.run(ctx, "lab", append([]string{"image", "load", "--name", l.name, archive}, ours...)...); err != nil {
		return err
	}
	arn, err := l.shell(ctx, "scripts/iam-role.sh "+clusterName)
	if err != nil {
		return err
	}
	parts := strings.Split(strings.TrimSpace(arn), ":")
	if len(parts) < 6 {
		return fmt.Errorf("scripts/iam-role.sh printed %q, expected an ARN", arn)
	}
	values, err := os.ReadFile("examples/cilium-config.yaml")
	if err != nil {
		return err
	}
	file = filepath.Join(l.work, "values.yaml")
	filled := strings.NewReplacer("<cluster-name>", clusterName, "<cluster-region>", region, "<default-aws-region>", region, "<ACCOUNT_ID>", parts[4]).Replace(string(values))
	if err := os.WriteFile(file, []byte(filled), 0o644); err != nil {
		return err
	}
	more := ""
	if !beside {
		// Without kube-proxy weft's own pods find the API server by its name, not by a service.
		endpoint, err := l.shell(ctx, "aws eks describe-cluster --name "+clusterName+" --query cluster.endpoint --output text")
		if err != nil {
			return err
		}
		more = " --set k8sServiceHost=" + strings.TrimPrefix(strings.TrimSpace(endpoint), "https://")
	}
	_, err = l.shell(ctx, fmt.Sprintf("%[1]q/weft install --values %[2]q%[3]s && %[1]q/weft status --wait --wait-duration 5m", l.bin, file, more))
	return err
}

// delete removes everything of the lab, also when the caller's time is over.
func (l *lab) delete() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return l.run(ctx, "lab", "delete", "cluster", "--name", l.name)
}

func (l *lab) run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin, program), args...)
	cmd.Stdout, cmd.Stderr = l.log, l.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return nil
}

// inLab runs a command in whose environment kubectl, aws and weft mean the lab. When the context ends the command
// is asked to end, so that it can say how far it got; what it leaves running is killed.
func (l *lab) inLab(ctx context.Context, out, errs io.Writer, argv ...string) error {
	const script = `eval "$("$0" env --name "$1")"; shift; exec "$@"`
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-euc", script, filepath.Join(l.bin, "lab"), l.name}, argv...)...)
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 90 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	if gone := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); gone != nil && !errors.Is(gone, syscall.ESRCH) {
		err = errors.Join(err, gone)
	}
	return err
}

// shell runs a command in the lab's environment and returns what it printed.
func (l *lab) shell(ctx context.Context, command string) (string, error) {
	var out bytes.Buffer
	if err := l.inLab(ctx, &out, l.log, "bash", "-euc", command); err != nil {
		return "", fmt.Errorf("%s: %w: %s", command, err, out.String())
	}
	return out.String(), nil
}
