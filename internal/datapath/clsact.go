package datapath

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Our place among the filters of a device, fixed so that a later agent replaces an earlier one's.
const (
	filterPriority = 77
	filterHandle   = 1
	filterPrefix   = "weft_"
)

// clsactAttacher uses direct-action filters: for kernels before 6.6, which have no tcx.
type clsactAttacher struct{}

func parent(hook Hook) uint32 {
	if hook.ingress() {
		return netlink.HANDLE_MIN_INGRESS
	}
	return netlink.HANDLE_MIN_EGRESS
}

func filter(hook Hook, ifindex int) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex,
			Parent:    parent(hook),
			Handle:    filterHandle,
			Protocol:  unix.ETH_P_ALL,
			Priority:  filterPriority,
		},
		Name:         filterPrefix + hook.String(),
		DirectAction: true,
	}
}

func (c *clsactAttacher) attach(hook Hook, ifindex int, prog *ebpf.Program) error {
	qdisc := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
	err := netlink.QdiscAdd(qdisc)
	if errors.Is(err, unix.ENODEV) {
		return &DeviceError{Ifindex: ifindex, Err: err}
	}
	if errors.Is(err, unix.ENOENT) {
		return &FeatureError{Kernel: kernelRelease(), What: "clsact", Needs: "a kernel built with CONFIG_NET_SCH_INGRESS, or with tcx (6.6)", Err: err}
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact to interface index %d: %w", ifindex, err)
	}
	f := filter(hook, ifindex)
	f.Fd = prog.FD()
	if err := netlink.FilterReplace(f); errors.Is(err, unix.ENOENT) {
		return &FeatureError{Kernel: kernelRelease(), What: "the classifier of eBPF programs", Needs: "a kernel built with CONFIG_NET_CLS_BPF, or with tcx (6.6)", Err: err}
	} else if err != nil {
		return fmt.Errorf("attach %s to interface index %d: %w", hook, ifindex, err)
	}
	return nil
}

func (c *clsactAttacher) detach(hook Hook, ifindex int) error {
	err := netlink.FilterDel(filter(hook, ifindex))
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("detach %s from interface index %d: %w", hook, ifindex, err)
	}
	return nil
}

func (c *clsactAttacher) attached() ([]attachment, error) {
	links, err := devices()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var out []attachment
	for _, l := range links {
		for _, h := range Hooks() {
			filters, err := ourFilters(h, l)
			if err != nil {
				return nil, err
			}
			if len(filters) > 0 {
				out = append(out, attachment{h, l.Attrs().Index})
			}
		}
	}
	return out, nil
}

func (c *clsactAttacher) close() error { return nil }

// ourFilters are those at our place on a device. A device without clsact, or gone since, has none.
func ourFilters(hook Hook, device netlink.Link) ([]*netlink.BpfFilter, error) {
	filters, err := listed(func() ([]netlink.Filter, error) { return netlink.FilterList(device, parent(hook)) })
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list filters of %s: %w", device.Attrs().Name, err)
	}
	var out []*netlink.BpfFilter
	for _, f := range filters {
		// The kernel appends the program's tag to the name.
		if b, ok := f.(*netlink.BpfFilter); ok && b.Priority == filterPriority && strings.HasPrefix(b.Name, filterPrefix+hook.String()) {
			out = append(out, b)
		}
	}
	return out, nil
}
