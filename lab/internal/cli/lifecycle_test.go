package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-cni/weft/lab/internal/assets"
	"github.com/weft-cni/weft/lab/internal/cgroup"
	"github.com/weft-cni/weft/lab/internal/cluster"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/netns"
)

const oneNode = `apiVersion: eksctl.io/v1alpha5
kind: ClusterConfig
metadata: {name: lifecycle, region: us-west-2}
managedNodeGroups:
- {name: a, desiredCapacity: 1, privateNetworking: true}
`

// rig is a built lab command and a lab name of its own.
type rig struct {
	t      *testing.T
	binary string
	lab    labstate.Lab
	config string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root to make namespaces and control groups")
	}
	if testing.Short() {
		t.Skip("SKIPPED: brings clusters up; not with -short")
	}
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := assets.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (assets.Builder{Source: source, Cache: cache, Out: os.Stderr}).Build(t.Context(), assets.Programs()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &rig{t: t, binary: filepath.Join(dir, "lab"), config: filepath.Join(dir, "cluster.yaml")}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", r.binary, "./cmd/lab")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Setenv("WEFT_LAB_SOURCE", source)
	if err := os.WriteFile(r.config, []byte(oneNode), 0o600); err != nil {
		t.Fatal(err)
	}
	if r.lab, err = labstate.New(fmt.Sprintf("t%d", os.Getpid())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := cluster.Down(ctx, r.lab); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) command(args ...string) *exec.Cmd {
	return exec.Command(r.binary, append([]string{"--name", r.lab.Name}, args...)...)
}

// run runs a lab command and returns what it prints and its exit code.
func (r *rig) run(args ...string) (string, int) {
	r.t.Helper()
	cmd := r.command(args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		r.t.Fatalf("lab %v: %v", args, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, code := r.run(args...)
	if code != 0 {
		r.t.Fatalf("lab %v: exit code %d\n%s", args, code, out)
	}
	return out
}

// create starts bringing the lab up and returns when a line with that text was printed.
func (r *rig) create(until string) *exec.Cmd {
	r.t.Helper()
	cmd := r.command("create", "cluster", "-f", r.config)
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), until) {
			return cmd
		}
	}
	_ = cmd.Wait()
	r.t.Fatalf("create ended without %q: %s", until, said.String())
	return nil
}

// leftovers lists everything on the machine that belongs to the lab.
func leftovers(t *testing.T, lab labstate.Lab) []string {
	t.Helper()
	var found []string
	list := func(kind string, names []string, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			found = append(found, kind+" "+n)
		}
	}
	names, err := netns.List(lab.Prefix() + "-")
	list("namespace", names, err)
	groups, err := cgroup.List(lab.Prefix() + "-")
	for _, g := range groups {
		list("control group", []string{g.Path}, err)
	}
	for _, dir := range []string{lab.Dir(), lab.RunDir(), lab.EtcdDir()} {
		if _, err := os.Lstat(dir); err == nil {
			found = append(found, "directory "+dir)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, lab.Prefix()+"-") || strings.Contains(line, lab.Dir()+"/") {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cgroup")
	list("", nil, err)
	for _, p := range processes {
		// A process may end while it is looked at; one that ended but wasn't collected by the machine's pid 1
		// yet is no process of the lab any more.
		b, _ := os.ReadFile(p)
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "stat"))
		if _, after, ok := strings.Cut(string(stat), ") "); !ok || strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X") {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "cmdline"))
		if strings.Contains(string(b), "/"+lab.Prefix()+"-") || bytes.Contains(command, []byte(lab.Dir()+"/")) {
			found = append(found, "process "+filepath.Base(filepath.Dir(p))+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	links, err := filepath.Glob("/sys/class/net/eni*")
	list("link", links, err)
	pins, err := filepath.Glob("/sys/fs/bpf/weft*")
	list("pin", pins, err)
	return found
}

func (r *rig) clean(when string) {
	r.t.Helper()
	if found := leftovers(r.t, r.lab); len(found) > 0 {
		r.t.Fatalf("%s, %d things are there:\n%s", when, len(found), strings.Join(found, "\n"))
	}
}

func (r *rig) status() cluster.Status {
	r.t.Helper()
	out, _ := r.run("status", "-o", "json")
	var s cluster.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		r.t.Fatalf("status: %v\n%s", err, out)
	}
	return s
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// TestLifecycle brings a lab up, uses it, kills its parts and looks for what is left.
func TestLifecycle(t *testing.T) {
	r := newRig(t)
	r.clean("before")
	if out, code := r.run("status"); code != exitNoLab || !strings.Contains(out, "no such lab") {
		t.Errorf("status without a lab: exit code %d\n%s", code, out)
	}

	t.Run("up and down", func(t *testing.T) {
		r := r.in(t)
		out := r.must("create", "cluster", "-f", r.config)
		for _, want := range []string{"control plane", "1 of 1 nodes registered", "kube-proxy", "cluster lifecycle is up"} {
			if !strings.Contains(out, want) {
				t.Errorf("create doesn't say %q:\n%s", want, out)
			}
		}
		s := r.status()
		if len(s.Nodes) != 1 || !s.Nodes[0].Running || len(s.Problems) > 0 || len(s.Components) != 4 {
			t.Fatalf("status = %+v", s)
		}
		n := s.Nodes[0].Name
		if out := r.must("exec", n, "--", "hostname"); strings.TrimSpace(out) != n {
			t.Errorf("hostname of %s is %q", n, out)
		}
		if out := r.must("run", "--", "curl", "-sS", "--max-time", "10", "http://www.lab.example/"); !strings.Contains(out, `"host":"www.lab.example"`) {
			t.Errorf("the workstation's way to the internet: %s", out)
		}
		if out, code := r.run("create", "cluster", "-f", r.config); code != 1 || !strings.Contains(out, "exists already") {
			t.Errorf("create twice: exit code %d\n%s", code, out)
		}
		if len(leftovers(t, r.lab)) == 0 {
			t.Fatal("the count of what is left sees nothing of a lab that runs")
		}
		before := s.Nodes[0]
		r.must("node", "reboot", n)
		r.eventually("the node runs again", func() bool {
			s := r.status()
			return len(s.Nodes) == 1 && s.Nodes[0].Running && s.Nodes[0].PrivateIP == before.PrivateIP && s.Nodes[0].Services["kubelet"].Restarts == 0
		})
		r.must("node", "add")
		if s := r.status(); len(s.Nodes) != 2 {
			t.Errorf("after node add: %+v", s.Nodes)
		}
		r.must("node", "delete", n)
		if s := r.status(); len(s.Nodes) != 1 || s.Nodes[0].Name == n {
			t.Errorf("after node delete: %+v", s.Nodes)
		}
		r.must("delete", "cluster")
		r.clean("after delete")
		r.must("delete", "cluster")
	})

	for _, until := range []string{"VPC", "instances booted", "control plane"} {
		t.Run("create killed after "+until, func(t *testing.T) {
			r := r.in(t)
			cmd := r.create(until)
			kill(t, cmd.Process.Pid)
			_ = cmd.Wait()
			r.must("delete", "cluster")
			r.clean("after delete")
		})
		t.Run("daemon killed after "+until, func(t *testing.T) {
			r := r.in(t)
			cmd := r.create(until)
			rec, err := r.lab.Load()
			if err != nil {
				t.Fatal(err)
			}
			kill(t, rec.DaemonPID)
			if err := cmd.Wait(); err == nil {
				t.Error("create succeeded without its daemon")
			}
			if out, code := r.run("status"); code != 1 || !strings.Contains(out, "daemon") {
				t.Errorf("status without a daemon: exit code %d\n%s", code, out)
			}
			r.must("delete", "cluster")
			r.clean("after delete")
		})
	}
}

// in is the rig for a subtest.
func (r *rig) in(t *testing.T) *rig {
	c := *r
	c.t = t
	return &c
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			r.t.Fatalf("not within 30 s: %s", what)
		case <-tick.C:
		}
	}
}
