package nodenet

import (
	"errors"
	"fmt"
	"math"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a limited device's queue lets through at once, and holds back at most.
const (
	burstParts = 50 // of what may pass in a second
	queueParts = 20
	// A packet of the largest MTU must fit into the bucket, and some into the queue.
	leastBurst = 20 << 10
	leastQueue = 100 << 10
)

// limit paces what a device sends, at rate bytes a second, by its queue; 0: nothing is there.
func limit(h *netlink.Handle, l netlink.Link, rate uint64) error {
	if rate == 0 {
		return nil
	}
	q := queueFor(l.Attrs().Index, rate)
	if err := h.QdiscReplace(q); err != nil {
		return fmt.Errorf("device %s: limit to %d bytes/s: %w", l.Attrs().Name, rate, err)
	}
	return nil
}

// isUnknownQueue tells that the kernel has no tbf.
func isUnknownQueue(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP)
}

func queueFor(ifindex int, rate uint64) *netlink.Tbf {
	burst := min(max(rate/burstParts, leastBurst), math.MaxInt32)
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate,
		Buffer:     netlink.Xmittime(rate, uint32(burst)),
		Limit:      uint32(min(burst+max(rate/queueParts, leastQueue), math.MaxUint32)),
	}
}

// hasQueue says whether a device has the queue that limit gives it.
func hasQueue(h *netlink.Handle, l netlink.Link, rate uint64) (bool, error) {
	all, err := dump(func() ([]netlink.Qdisc, error) { return h.QdiscList(l) })
	if err != nil {
		return false, fmt.Errorf("device %s: list queues: %w", l.Attrs().Name, err)
	}
	for _, q := range all {
		if t, ok := q.(*netlink.Tbf); ok && t.Parent == netlink.HANDLE_ROOT {
			return t.Rate == rate, nil
		}
	}
	return false, nil
}
