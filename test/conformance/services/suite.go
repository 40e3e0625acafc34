// Package services holds weft to Kubernetes' own end-to-end tests of services and what belongs to them: its
// specs in [sig-network], unchanged, on a lab.
package services

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/weft-cni/weft/test/conformance/report"
)

//go:embed skipped.txt
var skippedList []byte

// Time that the specs get: those that must pass, and those that are expected not to.
const (
	mustLimit   = 40 * time.Minute
	listedLimit = 6 * time.Minute
)

// Options says how to run.
type Options struct {
	// Bin is the folder of weft's programs; images are in build/images beside it.
	Bin string
	// Out is a folder for logs and reports.
	Out string
	// Only limits the specs to those whose names match.
	Only string
	// Lab is a lab that is there, with weft on it; empty makes one.
	Lab string
	// Beside runs with kube-proxy in the cluster.
	Beside bool
	// Workers is how many specs run at a time.
	Workers int
}

// Run runs the suite.
func Run(ctx context.Context, o Options, r *report.Report) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: the lab makes namespaces and control groups")
	}
	only, err := regexp.Compile(o.Only)
	if err != nil {
		return fmt.Errorf("which specs: %w", err)
	}
	section := sectionWithout
	if o.Beside {
		section = sectionBeside
	}
	skip, err := readList(bytes.NewReader(skippedList), section)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return err
	}
	l := &lab{name: o.Lab, bin: o.Bin, work: o.Out, log: os.Stderr}
	tools, err := l.tools(ctx)
	if err != nil {
		return err
	}
	all, err := specs(ctx, tools, o.Out)
	if err != nil {
		return err
	}
	p, err := makePlan(all, skip, only)
	if err != nil {
		return err
	}
	r.Note(fmt.Sprintf("%d specs in [sig-network]: %d must pass, %d are listed, %d are other suites'", len(all), len(p.must), len(p.listed), p.outside))
	if o.Lab == "" {
		l.name = fmt.Sprintf("conf%d", os.Getpid()%100_000)
		defer func() { err = errors.Join(err, l.delete()) }()
		if err := l.create(ctx, o.Beside, filepath.Join(tools, "images.tar")); err != nil {
			return err
		}
	}
	results := map[string]result{}
	for _, part := range []struct {
		name  string
		specs []string
		limit time.Duration
	}{{"must", p.must, mustLimit}, {"listed", p.listed, listedLimit}} {
		if len(part.specs) == 0 {
			continue
		}
		got, err := l.ginkgo(ctx, tools, part.name, part.specs, o.Workers, part.limit)
		if err != nil {
			return err
		}
		for name, res := range got.specs {
			results[name] = res
		}
		if part.name == "must" {
			for _, failure := range got.aside {
				r.Check("outside of specs", errors.New(failure))
			}
		}
	}
	for _, v := range judge(p, skip, results) {
		if v.why != "" && v.err == nil {
			r.CouldNot(v.name, v.why)
			continue
		}
		r.Check(fmt.Sprintf("%s (%.0f s)", v.name, v.took.Seconds()), v.err)
	}
	return nil
}

// tools is the folder with upstream's tests, ginkgo and the images.
func (l *lab) tools(ctx context.Context) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(l.bin, "lab"), "assets", "--e2e")
	cmd.Stdout, cmd.Stderr = &out, l.log
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("upstream's tests and their images: %w", err)
	}
	return strings.TrimSpace(out.String()), nil
}

// specs lists upstream's specs of the network, by running it dry.
func specs(ctx context.Context, tools, out string) ([]string, error) {
	file := filepath.Join(out, "dry.json")
	cmd := exec.CommandContext(ctx, filepath.Join(tools, "e2e.test"), "--ginkgo.dry-run", "--ginkgo.silence-skips", "--ginkgo.focus", `\[sig-network\]`, "--ginkgo.json-report", file)
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("list upstream's specs: %w: %s", err, firstLines(string(said), 20))
	}
	got, err := readFile(file)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range got.specs {
		names = append(names, name)
	}
	return names, nil
}

func readFile(file string) (outcome, error) {
	f, err := os.Open(file)
	if err != nil {
		return outcome{}, fmt.Errorf("ginkgo wrote no report: %w", err)
	}
	defer f.Close()
	return readReport(f)
}

// ginkgo runs specs side by side. That some fail is no error.
func (l *lab) ginkgo(ctx context.Context, tools, name string, specs []string, workers int, limit time.Duration) (outcome, error) {
	log, err := os.Create(filepath.Join(l.work, name+".log"))
	if err != nil {
		return outcome{}, err
	}
	defer log.Close()
	file := filepath.Join(l.work, name+".json")
	if err := os.RemoveAll(file); err != nil {
		return outcome{}, err
	}
	fmt.Fprintf(l.log, "%s: %d specs, %d at a time, for %s at most; what they say goes to %s\n", name, len(specs), workers, limit, log.Name())
	tell := &progress{log: log, tell: l.log, name: name, total: len(specs)}
	began := time.Now()
	err = l.inLab(ctx, tell, tell, filepath.Join(tools, "ginkgo"), "run", "--no-color", "-v", "--keep-going",
		"--nodes="+strconv.Itoa(workers), "--timeout="+limit.String(), "--focus="+focus(specs),
		"--output-dir="+l.work, "--json-report="+name+".json", filepath.Join(tools, "e2e.test"), "--",
		"--provider=skeleton", "--num-nodes="+strconv.Itoa(nodes), "--disable-log-dump", "--dump-logs-on-failure=true", "--e2e-output-dir="+l.work)
	fmt.Fprintf(l.log, "%s: %.0f s\n", name, time.Since(began).Seconds())
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return outcome{}, fmt.Errorf("ginkgo: %w", err)
	}
	got, err := readFile(file)
	return got, errors.Join(err, ctx.Err())
}
