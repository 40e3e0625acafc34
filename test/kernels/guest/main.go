// Command guest is the init of a virtual machine that has one purpose: to show what its kernel makes of the
// datapath. It loads every program, runs the datapath's tests, prints the result and powers off.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/test/kernels/report"
	"github.com/weft-cni/weft/test/kernels/suites"
	"github.com/weft-cni/weft/test/kernels/variants"
)

func main() {
	r := run()
	line, err := r.Encode()
	if err != nil {
		line = report.Prefix + `{"error":"the result has no JSON form"}`
	}
	fmt.Println(line)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("power off:", err)
	}
}

func run() (r report.Result) {
	if err := prepare(); err != nil {
		r.Error = err.Error()
		return r
	}
	f, tried := variants.Load()
	r.Kernel, r.TCX, r.Variants = f.Kernel, f.TCX, tried
	var err error
	if r.Devices, err = variants.Devices(); err != nil {
		r.Error = err.Error()
		return r
	}
	if measures, err := os.ReadFile("/measures"); err == nil {
		if r.Measured, err = measure(string(measures)); err != nil {
			r.Error = err.Error()
		}
		return r
	}
	if r.Tests, err = runTests(); err != nil {
		r.Error = err.Error()
	}
	return r
}

// measure runs the benchmark and returns its table.
func measure(measures string) (string, error) {
	var table bytes.Buffer
	cmd := exec.Command("/bench", "-only="+measures, "-bin=/", "-out=/tmp/bench.json", "-timeout=2h")
	cmd.Env = environment()
	cmd.Stdout = io.MultiWriter(os.Stdout, &table)
	cmd.Stderr = os.Stdout
	err := cmd.Run()
	return table.String(), err
}

func environment() []string {
	return append(os.Environ(), "HOME=/tmp", "TMPDIR=/tmp", "WEFT_CNI=/weft-cni")
}

// prepare makes the little that a node has.
func prepare() error {
	for _, m := range []struct{ source, target, kind string }{
		{"proc", "/proc", "proc"},
		{"sysfs", "/sys", "sysfs"},
		{"devtmpfs", "/dev", "devtmpfs"},
		{"tmpfs", "/tmp", "tmpfs"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	list, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(list)) {
		module, err := os.ReadFile("/modules/" + name)
		if err != nil {
			return err
		}
		if err := unix.InitModule(module, ""); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func runTests() (report.Tests, error) {
	only, err := os.ReadFile("/tests")
	if err != nil {
		return report.Tests{}, err
	}
	all := report.Tests{Ended: true}
	for _, suite := range suites.All() {
		var output bytes.Buffer
		cmd := exec.Command("/"+suite.Binary, suite.Arguments(string(only))...)
		cmd.Env = environment()
		cmd.Stdout = io.MultiWriter(os.Stdout, &output)
		cmd.Stderr = cmd.Stdout
		err := cmd.Run()
		tests, readErr := report.ReadTests(&output)
		tests.Ended = err == nil
		all = all.And(tests)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = nil // the failed tests say it
		}
		if err := errors.Join(err, readErr); err != nil {
			return all, err
		}
	}
	return all, nil
}
