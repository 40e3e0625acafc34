package nodenet

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
)

const (
	kindFQ = "fq"
	kindMQ = "mq" // one queue below it for each of the device's
)

// horizon, in microseconds, is how far ahead a departure time may be for the fq that we set: some more than
// the programs give. By default a pod could have its packets wait for 10 s and fill the queue with them.
const horizon = 3_000_000

// Pacing says whether what leaves by a device is held back until its departure time.
type Pacing struct {
	FQ  bool
	Own bool // the queue is one that we set
	// Queue is what there is, such as fq, or mq with fq_codel.
	Queue string
	// Why the device has no fq though it was to have it.
	Why string
}

// A queue is one of a device's queueing disciplines for what leaves.
type queue struct {
	kind           string
	handle, parent uint32
}

func major(handle uint32) uint32 { return handle &^ 0xffff }

// queues are a device's, the root first. Those without a name of their own are the kernel's default.
type queues []queue

func listQueues(h *netlink.Handle, l netlink.Link) (queues, error) {
	all, err := dump(func() ([]netlink.Qdisc, error) { return h.QdiscList(l) })
	if err != nil {
		return nil, fmt.Errorf("device %s: list queues: %w", l.Attrs().Name, err)
	}
	var out queues
	for _, q := range all {
		if a := q.Attrs(); a.Parent != netlink.HANDLE_INGRESS {
			out = append(out, queue{kind: q.Type(), handle: a.Handle, parent: a.Parent})
		}
	}
	slices.SortStableFunc(out, func(a, b queue) int {
		switch {
		case a.parent == b.parent:
			return 0
		case a.parent == netlink.HANDLE_ROOT:
			return -1
		case b.parent == netlink.HANDLE_ROOT:
			return 1
		}
		return 0
	})
	return out, nil
}

func (q queues) root() queue {
	if len(q) == 0 || q[0].parent != netlink.HANDLE_ROOT {
		return queue{kind: "none"}
	}
	return q[0]
}

// leaves are those below the root.
func (q queues) leaves() []queue {
	root := q.root()
	var out []queue
	for _, x := range q {
		if x.parent != netlink.HANDLE_ROOT && major(x.parent) == major(root.handle) {
			out = append(out, x)
		}
	}
	return out
}

// paces says whether every packet meets fq.
func (q queues) paces() bool {
	switch q.root().kind {
	case kindFQ:
		return true
	case kindMQ:
		leaves := q.leaves()
		return len(leaves) > 0 && !slices.ContainsFunc(leaves, func(x queue) bool { return x.kind != kindFQ })
	}
	return false
}

// own says whether we made the root.
func (q queues) own() bool {
	root := q.root()
	return root.handle == contract.QueueHandle && (root.kind == kindFQ || root.kind == kindMQ)
}

// byDefault says whether nobody made any of them: they are what the kernel gives a device.
func (q queues) byDefault() bool {
	return !slices.ContainsFunc(q, func(x queue) bool { return x.handle != 0 })
}

func (q queues) String() string {
	root := q.root()
	if root.kind != kindMQ {
		return root.kind
	}
	var kinds []string
	for _, x := range q.leaves() {
		if !slices.Contains(kinds, x.kind) {
			kinds = append(kinds, x.kind)
		}
	}
	if len(kinds) == 0 {
		return kindMQ
	}
	slices.Sort(kinds)
	out := kindMQ + " with " + kinds[0]
	for _, k := range kinds[1:] {
		out += " and " + k
	}
	return out
}

// todo is what has to be done to a device's queues.
type todo int

const (
	leave todo = iota
	setFQ
	takeBack
)

// decide never touches what somebody made.
func (q queues) decide(want bool) todo {
	switch {
	case !want && q.own():
		return takeBack
	case want && !q.paces() && (q.own() || q.byDefault()):
		return setFQ
	}
	return leave
}

// pace gives a device fq if it is wanted and nobody chose otherwise, and says what there is afterwards. A
// device that can't have it is no reason to have no pods. n.mu is held.
func (n *Node) pace(l netlink.Link) (p Pacing, made bool) {
	q, err := listQueues(n.h, l)
	if err != nil {
		return Pacing{Why: err.Error()}, false
	}
	name, want := l.Attrs().Name, n.desired.FQ
	do := q.decide(want)
	if want {
		p.Why = n.noFQ[name]
	}
	switch {
	case do == setFQ && p.Why == "":
		if err := putFQ(n.h, l, q); err != nil {
			p.Why = err.Error()
			if isUnknownQueue(err) {
				p.Why = "the kernel has no fq (CONFIG_NET_SCH_FQ)"
			}
			n.log.Warn("fq not set, what limited pods send isn't paced", "device", name, "why", p.Why, "err", err)
			// Each try replaces queues and loses what they hold: another agent may try again.
			n.noFQ[name] = p.Why
		}
	case do == takeBack:
		if err := dropQueue(n.h, l, q.root()); err != nil {
			p.Why = err.Error()
		}
	}
	if do != leave {
		if q, err = listQueues(n.h, l); err != nil {
			return Pacing{Why: err.Error()}, false
		}
	}
	p.FQ, p.Own, p.Queue = q.paces(), q.own(), q.String()
	switch {
	case p.FQ:
		p.Why = ""
	case want && p.Why == "":
		p.Why = "somebody chose another queue"
	}
	return p, do == setFQ && p.FQ
}

// putFQ makes fq the root, or what is below mq where the device has several queues. A kernel that has no fq
// is left with what it had.
func putFQ(h *netlink.Handle, l netlink.Link, q queues) error {
	index := l.Attrs().Index
	root := netlink.QdiscAttrs{LinkIndex: index, Handle: contract.QueueHandle, Parent: netlink.HANDLE_ROOT}
	if q.root().kind != kindMQ {
		return h.QdiscReplace(fq(root))
	}
	if !q.own() {
		if err := h.QdiscReplace(&netlink.GenericQdisc{QdiscAttrs: root, QdiscType: kindMQ}); err != nil {
			return err
		}
		var err error
		if q, err = listQueues(h, l); err != nil {
			return err
		}
	}
	for _, leaf := range q.leaves() {
		if leaf.kind == kindFQ {
			continue
		}
		if err := h.QdiscReplace(fq(netlink.QdiscAttrs{LinkIndex: index, Parent: leaf.parent})); err != nil {
			return errors.Join(err, dropQueue(h, l, q.root()))
		}
	}
	return nil
}

func fq(a netlink.QdiscAttrs) *netlink.Fq {
	q := netlink.NewFq(a)
	q.Horizon = horizon
	return q
}

// dropQueue takes a root away; the kernel puts its default there.
func dropQueue(h *netlink.Handle, l netlink.Link, root queue) error {
	q := &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: root.handle, Parent: netlink.HANDLE_ROOT}, QdiscType: root.kind}
	if err := h.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("device %s: remove queue %s: %w", l.Attrs().Name, root.kind, err)
	}
	return nil
}

// dropQueues takes away every fq that we set.
func dropQueues(h *netlink.Handle, log *slog.Logger) error {
	links, err := listLinks(h)
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	var errs []error
	for _, l := range links {
		q, err := listQueues(h, l)
		errs = append(errs, err)
		if q.own() {
			log.Info("queue removed", "device", l.Attrs().Name, "queue", q.String())
			errs = append(errs, dropQueue(h, l, q.root()))
		}
	}
	return errors.Join(errs...)
}
