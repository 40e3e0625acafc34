package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// neededModules are those that the datapath's tests use and Debian doesn't build in.
func neededModules() []string {
	return []string{"veth", "sch_ingress", "cls_bpf", "8021q", "sctp", "sch_fq", "sch_tbf", "sch_fq_codel", "nf_tables", "nft_chain_nat", "nft_nat", "nf_conntrack_netlink", "tun", "udp_diag"}
}

// A module is a kernel module, uncompressed.
type module struct {
	name string
	data []byte
}

// collectModules returns the named modules behind those that they need. One that isn't in the folder is
// built in, or fails the tests that need it.
func collectModules(ctx context.Context, dir string, names []string) ([]module, error) {
	files, err := moduleFiles(dir)
	if err != nil {
		return nil, err
	}
	var out []module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		if seen[name] || files[name] == "" {
			return nil
		}
		seen[name] = true
		data, err := readModule(ctx, files[name])
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		needs, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		out = append(out, module{name: name, data: data})
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func moduleFiles(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		name, _, ok := strings.Cut(filepath.Base(path), ".ko")
		if ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	return files, err
}

func readModule(ctx context.Context, path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".ko":
		return os.ReadFile(path)
	case ".xz":
		text, err := output(ctx, "", "xz", "--decompress", "--stdout", path)
		return []byte(text), err
	case ".zst":
		text, err := output(ctx, "", "zstd", "--decompress", "--stdout", path)
		return []byte(text), err
	}
	return nil, fmt.Errorf("%s is compressed in a way that isn't known", filepath.Base(path))
}

// dependencies reads "depends=a,b" from the module's information.
func dependencies(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(entry), "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
