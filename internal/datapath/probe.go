package datapath

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Features is what the kernel offers, and so which variant runs.
type Features struct {
	Kernel        string
	TCX           bool // else clsact
	RedirectNeigh bool
	// Netkit: pods' devices may be netkit's, and are guarded. Nothing stands in for it where nobody asks for it.
	Netkit bool
	// Found is everything that was asked for, in the order of asking.
	Found []Feature
}

// A Feature is something that the datapath uses of the kernel.
type Feature struct {
	Name string `json:"name"`
	Have bool   `json:"have"`
	// Option of the kernel's configuration and release that it comes with.
	Option string `json:"option,omitempty"`
	Since  string `json:"since,omitempty"`
	// Fallback is what happens without it; empty: nothing does.
	Fallback string `json:"fallback,omitempty"`
	// Cost of the fallback.
	Cost string `json:"cost,omitempty"`
}

// Variant is how programs are attached.
func (f Features) Variant() string {
	if f.TCX {
		return string(AttachTCX)
	}
	return string(AttachClsact)
}

// Missing are the features that something else stands in for.
func (f Features) Missing() []Feature {
	var out []Feature
	for _, x := range f.Found {
		if !x.Have {
			out = append(out, x)
		}
	}
	return out
}

// A FeatureError says that the kernel, or this process in it, lacks something that weft needs.
type FeatureError struct {
	Kernel, What, Needs string
	Err                 error
}

func (e *FeatureError) Error() string {
	return fmt.Sprintf("kernel %s: %s is missing; weft needs %s: %v", e.Kernel, e.What, e.Needs, e.Err)
}

func (e *FeatureError) Unwrap() error { return e.Err }

// minimum is the oldest kernel that is tried in tests.
const minimum = "6.1"

// A question is a feature and how the kernel is asked. ask returns nil: it is there; ebpf.ErrNotSupported:
// it isn't; anything else: it can't be told.
type question struct {
	Feature
	ask func() error
}

// questions in the order that makes the first error the telling one.
func questions() []question {
	program := func(name, option, since string, ask func() error) question {
		return question{Feature{Name: name, Option: option, Since: since}, ask}
	}
	helper := func(name, option, since string, fn asm.BuiltinFunc) question {
		return program("the helper "+name, option, since, func() error { return features.HaveProgramHelper(ebpf.SchedCLS, fn) })
	}
	kind := func(name, since string, t ebpf.MapType) question {
		return program(name, "CONFIG_BPF_SYSCALL", since, func() error { return features.HaveMapType(t) })
	}
	return []question{
		program("eBPF for traffic control", "CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT", "4.1", func() error { return features.HaveProgramType(ebpf.SchedCLS) }),
		kind("maps for prefixes", "4.11", ebpf.LPMTrie),
		kind("maps that forget the oldest", "4.10", ebpf.LRUHash),
		kind("ring buffers", "5.8", ebpf.RingBuf),
		program("reading maps in batches", "CONFIG_BPF_SYSCALL", "5.13", haveBatches),
		helper("redirect_neigh", "CONFIG_NET and CONFIG_INET", "5.10", asm.FnRedirectNeigh),
		helper("redirect_peer", "CONFIG_NET", "5.10", asm.FnRedirectPeer),
		helper("skb_set_tstamp", "CONFIG_NET", "5.18", asm.FnSkbSetTstamp),
		helper("jiffies64", "CONFIG_BPF_SYSCALL", "5.6", asm.FnJiffies64),
		helper("timer_init", "CONFIG_BPF_SYSCALL", "5.15", asm.FnTimerInit),
		helper("loop", "CONFIG_BPF_SYSCALL", "5.17", asm.FnLoop),
		helper("skc_lookup_tcp", "CONFIG_INET", "5.2", asm.FnSkcLookupTcp),
		helper("sk_lookup_udp", "CONFIG_INET", "4.20", asm.FnSkLookupUdp),
		{Feature{Name: "tcx", Option: "CONFIG_NET_XGRESS", Since: "6.6", Fallback: "clsact",
			Cost: "programs of others with a lower preference run before weft's, and whoever removes the qdisc removes weft's programs until the agent looks again"}, askTCX},
		{Feature{Name: "the JIT compiler", Option: "CONFIG_BPF_JIT and net.core.bpf_jit_enable=1", Since: "3.0", Fallback: "the interpreter",
			Cost: "several times the CPU for each packet"}, haveJIT},
	}
}

// probe asks the kernel. What can't be told is an error, never a "no".
func probe() (Features, error) {
	release := kernelRelease()
	if Older(release, minimum) {
		return Features{Kernel: release}, &FeatureError{Kernel: release, What: "everything since", Needs: "kernel " + minimum + " or later", Err: ebpf.ErrNotSupported}
	}
	f, err := answers(release, questions())
	if err != nil {
		return f, err
	}
	switch err := askNetkit(); {
	case err == nil:
		f.Netkit = true
	case !errors.Is(err, ebpf.ErrNotSupported):
		return f, fmt.Errorf("kernel %s: find out whether it has netkit: %w", release, err)
	}
	return f, nil
}

// answers asks every question; the first that needs a yes and gets a no ends it.
func answers(release string, list []question) (Features, error) {
	f := Features{Kernel: release}
	for _, q := range list {
		err := q.ask()
		x := q.Feature
		switch {
		case err == nil:
			x.Have = true
		case errors.Is(err, unix.EPERM):
			return f, &FeatureError{Kernel: release, What: "the right to load programs",
				Needs: "the capabilities BPF, NET_ADMIN and PERFMON, or SYS_ADMIN (securityContext of the agent; a locked-down kernel or seccomp may refuse too)", Err: err}
		case !errors.Is(err, ebpf.ErrNotSupported):
			return f, fmt.Errorf("kernel %s: find out whether it has %s: %w", release, x.Name, err)
		case x.Fallback == "":
			return f, &FeatureError{Kernel: release, What: x.Name, Needs: fmt.Sprintf("kernel %s or later built with %s", minimum, x.Option), Err: err}
		}
		switch x.Name {
		case "tcx":
			f.TCX = x.Have
		case "the helper redirect_neigh":
			f.RedirectNeigh = x.Have
		}
		f.Found = append(f.Found, x)
	}
	return f, nil
}

// Older compares the first two numbers of kernels' releases. What isn't one isn't older.
func Older(release, than string) bool {
	number := func(s string) (major, minor int, ok bool) {
		a, rest, _ := strings.Cut(s, ".")
		b := rest
		if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
			b = rest[:i]
		}
		major, err1 := strconv.Atoi(a)
		minor, err2 := strconv.Atoi(b)
		return major, minor, err1 == nil && err2 == nil
	}
	a, b, ok := number(release)
	c, d, _ := number(than)
	return ok && (a < c || a == c && b < d)
}

// haveBatches writes to a small map of prefixes, the last kind of map that learned it.
func haveBatches() error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "weft_probe", Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 4, MaxEntries: 1, Flags: unix.BPF_F_NO_PREALLOC})
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = m.BatchUpdate([][8]byte{{0: 32}}, []uint32{1}, nil)
	return err
}

// haveJIT reads the setting; a kernel that always compiles has none.
func haveJIT() error {
	b, err := os.ReadFile("/proc/sys/net/core/bpf_jit_enable")
	if errors.Is(err, os.ErrNotExist) {
		return nil // also in a network namespace other than the first
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(b)) == "0" {
		return ebpf.ErrNotSupported
	}
	return nil
}

func askTCX() error {
	return askLink(func(prog *ebpf.Program) (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Interface: noDevice, Program: prog, Attach: ebpf.AttachTCXIngress})
	})
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
