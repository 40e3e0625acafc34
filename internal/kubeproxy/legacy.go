package kubeproxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// lockPath is what all programs that change the older iptables hold while they do.
const lockPath = "/run/xtables.lock"

// Options of the kernel's older iptables; the same numbers for both families, at their levels.
const (
	optInfo        = 64
	optEntries     = 65
	optReplace     = 64
	optAddCounters = 65
)

// A family is one of the kernel's older iptables.
type family struct {
	level, domain int
	layout        layout
	names         string // lists the tables that there are
	nft           nftables.TableFamily
}

func families() []family {
	return []family{
		{unix.SOL_IP, unix.AF_INET, ipv4(), "/proc/thread-self/net/ip_tables_names", nftables.TableFamilyIPv4},
		{unix.SOL_IPV6, unix.AF_INET6, ipv6(), "/proc/thread-self/net/ip6_tables_names", nftables.TableFamilyIPv6},
	}
}

// each calls do with every table that there is. Asking for another would make it.
func (f family) each(do func(fd int, name string) error) error {
	b, err := os.ReadFile(f.names)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the kernel doesn't have it
	}
	if err != nil {
		return fmt.Errorf("iptables-legacy: %w", err)
	}
	names := strings.Fields(string(b))
	if len(names) == 0 {
		return nil
	}
	fd, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("iptables-legacy: %w", err)
	}
	defer unix.Close(fd)
	for _, name := range names {
		if err := do(fd, name); err != nil {
			return fmt.Errorf("iptables-legacy: table %s: %w", name, err)
		}
	}
	return nil
}

// read asks for a table, again if it changed between the two questions.
func (f family) read(fd int, name string) (*table, error) {
	for range 10 {
		info := make([]byte, 84)
		copy(info, name)
		if err := getOption(fd, f.level, optInfo, info); err != nil {
			return nil, err
		}
		t := &table{layout: f.layout, name: name, valid: binary.NativeEndian.Uint32(info[32:])}
		for h := range hooks {
			t.entry[h] = binary.NativeEndian.Uint32(info[36+4*h:])
			t.underflow[h] = binary.NativeEndian.Uint32(info[56+4*h:])
		}
		size := binary.NativeEndian.Uint32(info[80:])
		entries := make([]byte, 40+size)
		copy(entries, name)
		binary.NativeEndian.PutUint32(entries[32:], size)
		if err := getOption(fd, f.level, optEntries, entries); errors.Is(err, unix.EAGAIN) {
			continue
		} else if err != nil {
			return nil, err
		}
		return t, t.parse(entries[40:])
	}
	return nil, errors.New("changes all the time")
}

// replace makes t the table in place of old, and gives its rules the counts that they had.
func (f family) replace(fd int, old, t *table, from []int) error {
	entries := t.bytes()
	counts := make([]byte, 16*len(old.rules))
	b := make([]byte, 96, 96+len(entries))
	copy(b, t.name)
	head := []uint32{t.valid, uint32(len(t.rules)), uint32(len(entries))}
	head = append(append(head, t.entry[:]...), t.underflow[:]...)
	head = append(head, uint32(len(old.rules)))
	for i, v := range head {
		binary.NativeEndian.PutUint32(b[32+4*i:], v)
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&counts[0])
	binary.NativeEndian.PutUint64(b[88:], uint64(uintptr(unsafe.Pointer(&counts[0]))))
	if err := setOption(fd, f.level, optReplace, append(b, entries...)); err != nil {
		return err
	}
	add := make([]byte, 40+16*len(t.rules))
	copy(add, t.name)
	binary.NativeEndian.PutUint32(add[32:], uint32(len(t.rules)))
	for i, was := range from {
		copy(add[40+16*i:], counts[16*was:16*was+16])
	}
	return setOption(fd, f.level, optAddCounters, add)
}

func getOption(fd, level, option int, b []byte) error {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func setOption(fd, level, option int, b []byte) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// findLegacy reads what kube-proxy over the kernel's older iptables left.
func findLegacy(out *Found) error {
	var errs []error
	for _, f := range families() {
		errs = append(errs, f.each(func(fd int, name string) error {
			t, err := f.read(fd, name)
			if err != nil {
				return err
			}
			for _, r := range t.rules {
				if !isOwn(r.chain) || r.base {
					continue
				}
				if r.head {
					out.add(KindLegacy, 1)
				}
				if slices.Contains([]string{"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS"}, r.chain) {
					if fe, ok := t.frontend(r, r.chain == "KUBE-NODEPORTS"); ok {
						out.Frontends[fe] = true
					}
				}
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// removeLegacy removes kube-proxy's rules there, each table at once.
func removeLegacy() (int, error) {
	removed := 0
	var errs []error
	for _, f := range families() {
		errs = append(errs, f.each(func(fd int, name string) error {
			return locked(func() error {
				t, err := f.read(fd, name)
				if err != nil {
					return err
				}
				next, from, chains, err := t.without()
				if err != nil || bytes.Equal(next.bytes(), t.bytes()) {
					return err
				}
				c, err := nftables.New()
				if err != nil {
					return fmt.Errorf("nftables: %w", err)
				}
				if err := hold(c, f.nft); err != nil {
					return err
				}
				removed += chains
				return f.replace(fd, t, next, from)
			})
		}))
	}
	return removed, errors.Join(errs...)
}

// locked runs do while no other program changes the tables.
func locked(do func() error) error {
	f, err := os.OpenFile(lockPath, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return &os.PathError{Op: "lock", Path: lockPath, Err: err}
	}
	return do()
}
