package connectivity

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/weft-cni/weft/internal/probe"
)

// execGrace is what running a probe may take beside the probe's own time.
const execGrace = 10 * time.Second

// causes tells, for each way to fail, what likely is wrong on this path.
type causes map[probe.Kind]string

// httpAction gets a URL from a pod; judge, if set, looks at a successful result.
func (e *Env) httpAction(from Pod, label, url string, likely causes, judge func(probe.Result) Outcome) Action {
	return e.probeAction(fmt.Sprintf("%s -> %s", from, label), from, "HTTP 200 from "+url, likely, judge,
		"http", "--timeout", e.Timeout.String(), url)
}

// icmpAction pings an address from a pod.
func (e *Env) icmpAction(from Pod, label, addr string, likely causes) Action {
	return e.probeAction(fmt.Sprintf("%s -> %s: ICMP", from, label), from, "an echo reply from "+addr, likely, nil,
		"icmp", "--timeout", e.Timeout.String(), addr)
}

func (e *Env) probeAction(name string, from Pod, want string, likely causes, judge func(probe.Result) Outcome, args ...string) Action {
	return Action{Name: name, Do: func(ctx context.Context) Outcome {
		// A kubelet that can't be reached isn't waited for longer than a path.
		ctx, cancel := context.WithTimeout(ctx, e.Timeout+execGrace)
		defer cancel()
		r, err := e.Prober.Probe(ctx, from, args...)
		if err != nil {
			return Outcome{Want: want, Seen: err.Error(), Cause: "the probe could not be run in the pod: the way from the API server to the kubelet of " + from.Node + " is closed, or the pod is gone"}
		}
		if r.Kind != probe.OK {
			return Outcome{Want: want, Seen: seen(r), Cause: likely.of(r.Kind)}
		}
		if judge != nil {
			if o := judge(r); !o.OK {
				return o
			}
		}
		return Outcome{OK: true}
	}}
}

func (c causes) of(k probe.Kind) string {
	if s, ok := c[k]; ok {
		return s
	}
	switch k {
	case probe.Timeout:
		return "packets are dropped on the way there or back: a security group, a source/destination check, or a route that is missing"
	case probe.Refused:
		return "the destination answered but nothing listens there: the pod isn't serving, or an address belongs to another pod"
	case probe.Unreachable:
		return "a router or this node has no route to the destination"
	case probe.NameError:
		return "the name did not resolve: look at CoreDNS and at the way to it"
	}
	return "unknown"
}

func seen(r probe.Result) string {
	switch r.Kind {
	case probe.Timeout:
		return "no answer (" + r.Error + ")"
	case probe.BadStatus:
		return fmt.Sprintf("HTTP status %d", r.Status)
	}
	return r.Error
}

// fromAddress judges that the server saw the client's own address: nothing masqueraded on the way.
func fromAddress(want, path string) func(probe.Result) Outcome {
	return func(r probe.Result) Outcome {
		reply, ok := r.ReplyOf()
		if !ok {
			return Outcome{Want: "an answer of weft-probe", Seen: "another body", Cause: "another server has the address"}
		}
		host, _, err := net.SplitHostPort(reply.Client)
		if err != nil {
			return Outcome{Want: "an answer of weft-probe", Seen: reply.Client, Cause: "another server has the address"}
		}
		got, err := netip.ParseAddr(host)
		if err == nil && got.Unmap().String() == want {
			return Outcome{OK: true}
		}
		return Outcome{Want: "source address " + want, Seen: "source address " + host, Cause: "the source was rewritten " + path + ": masquerading takes a destination for one outside the VPC, or another program rewrites it"}
	}
}

// fromPod judges that the given pod answered.
func fromPod(want string) func(probe.Result) Outcome {
	return func(r probe.Result) Outcome {
		reply, ok := r.ReplyOf()
		if ok && reply.Pod == want {
			return Outcome{OK: true}
		}
		return Outcome{Want: "an answer of pod " + want, Seen: "an answer of " + strconv.Quote(reply.Pod), Cause: "the address belongs to another pod, or the service has another backend"}
	}
}

func url(host string, port int32) string {
	return "http://" + net.JoinHostPort(host, strconv.Itoa(int(port))) + "/"
}

// String names a pod as reports do.
func (p Pod) String() string { return fmt.Sprintf("%s (%s)", p.Name, p.Node) }
