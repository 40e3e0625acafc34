package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/weft-cni/weft/test/kernels/suites"
)

const (
	guestBinary = "guest"
	pluginName  = "weft-cni"
	benchBinary = "bench"
)

// buildPayload builds what runs in the guest, static and for its architecture.
func buildPayload(ctx context.Context, dir string, measures bool) error {
	all := [][]string{
		{"build", "-trimpath", "-o", filepath.Join(dir, guestBinary), "github.com/weft-cni/weft/test/kernels/guest"},
		{"build", "-trimpath", "-o", filepath.Join(dir, pluginName), "github.com/weft-cni/weft/cmd/weft-cni"},
	}
	if measures {
		all = append(all, []string{"build", "-trimpath", "-o", filepath.Join(dir, benchBinary), "github.com/weft-cni/weft/test/bench"})
	} else {
		for _, s := range suites.All() {
			all = append(all, []string{"test", "-trimpath", "-c", "-o", filepath.Join(dir, s.Binary), s.Package})
		}
	}
	for _, args := range all {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", args[0], err, out)
		}
	}
	return nil
}

// initramfs writes the guest's file system and returns its path.
func initramfs(ctx context.Context, img image, work, name string, o options) (string, error) {
	modules, err := collectModules(ctx, img.modules, neededModules())
	if err != nil {
		return "", err
	}
	path := filepath.Join(work, "initramfs-"+name)
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	buffered := bufio.NewWriter(file)
	a := &archive{w: buffered}
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "modules"} {
		a.add(dir, modeDirectory, nil)
	}
	a.addDevice("dev/console", 5, 1)
	var order strings.Builder
	for _, m := range modules {
		a.add("modules/"+m.name, modeFile, m.data)
		order.WriteString(m.name + "\n")
	}
	a.add("tests", modeFile, []byte(o.tests))
	programs := map[string]string{"init": guestBinary, pluginName: pluginName}
	if o.bench != "" {
		a.add("measures", modeFile, []byte(o.bench))
		programs[benchBinary] = benchBinary
	} else {
		for _, s := range suites.All() {
			programs[s.Binary] = s.Binary
		}
	}
	a.add("modules/order", modeFile, []byte(order.String()))
	for target, source := range programs {
		data, err := os.ReadFile(filepath.Join(work, source))
		if err != nil {
			return "", err
		}
		a.add(target, modeExecutable, data)
	}
	a.end()
	if a.err != nil {
		return "", a.err
	}
	if err := buffered.Flush(); err != nil {
		return "", err
	}
	return path, file.Close()
}

const (
	modeDirectory  = 0o040755
	modeFile       = 0o100644
	modeExecutable = 0o100755
	modeCharacter  = 0o020600
)

// An archive is a cpio archive as the kernel unpacks it: "newc", with 13 hexadecimal fields before each name.
type archive struct {
	w     io.Writer
	inode int
	size  int
	err   error
}

func (a *archive) write(b []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(b)
	a.size += n
	a.err = err
}

func (a *archive) pad() { a.write(make([]byte, (4-a.size%4)%4)) }

func (a *archive) entry(name string, mode, major, minor int, data []byte) {
	a.inode++
	fields := []int{a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0}
	header := "070701"
	for _, f := range fields {
		header += fmt.Sprintf("%08x", f)
	}
	a.write([]byte(header + name + "\x00"))
	a.pad()
	a.write(data)
	a.pad()
}

func (a *archive) add(name string, mode int, data []byte) { a.entry(name, mode, 0, 0, data) }

func (a *archive) addDevice(name string, major, minor int) {
	a.entry(name, modeCharacter, major, minor, nil)
}

func (a *archive) end() { a.entry("TRAILER!!!", 0, 0, 0, nil) }
