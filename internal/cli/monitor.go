package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/flow"
)

type monitorOptions struct {
	types, from, to, peers, protocols, reasons, ports []string
	last                                              int
	since                                             time.Duration
	follow                                            bool
	output, pcap                                      string
	capture                                           int
	nodes                                             remote.Flags
}

func newMonitor(e *env) *cobra.Command {
	var o monitorOptions
	c := &cobra.Command{
		Use:   "monitor",
		Short: "Show what happens to packets and connections",
		Long: `Shows drops with the reason, what decided and what to do, and connections as they begin and end, from
the agents of all nodes or of some. Each agent keeps the last ones: --last shows those and ends, unless
--follow is given too. --type trace shows every packet that passes, as far as each CPU's budget of events
goes. What is above a budget is counted and said.`,
		Example: `  weft monitor
  weft monitor --type drop --last 20
  weft monitor --from shop/web-0 --to 10.1.2.3 --port 443 --protocol tcp
  weft monitor --type drop,trace --node ip-10-0-1-5.ec2.internal --pcap drops.pcapng
  weft monitor --since 10m -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), e, cmd.Flags().Changed("follow"))
		},
	}
	f := c.Flags()
	f.StringSliceVarP(&o.types, "type", "t", nil, "drop, new, close, trace, verdict (default drop,new,close)")
	f.StringSliceVar(&o.from, "from", nil, "sender: NAMESPACE/POD, NAMESPACE/, an address or a CIDR")
	f.StringSliceVar(&o.to, "to", nil, "receiver, likewise")
	f.StringSliceVar(&o.peers, "peer", nil, "sender or receiver, likewise")
	f.StringSliceVar(&o.ports, "port", nil, "port of either side")
	f.StringSliceVar(&o.protocols, "protocol", nil, "tcp, udp, icmp, icmpv6, sctp or a number")
	f.StringSliceVar(&o.reasons, "reason", nil, "reason of a drop, such as source-address")
	f.IntVar(&o.last, "last", 0, "show the last N of each node")
	f.DurationVar(&o.since, "since", 0, "show those of this time back")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what comes (default unless --last or --since is given)")
	f.StringVarP(&o.output, "output", "o", "", "json prints one record on each line")
	f.StringVar(&o.pcap, "pcap", "", "write the packets of drops and traces to this file, for tcpdump or Wireshark")
	f.IntVar(&o.capture, "capture-bytes", 128, "bytes of each packet for --pcap, at most 128")
	o.nodes.Add(f)
	return c
}

// query is what the agents are asked.
func (o monitorOptions) query(now time.Time) (url.Values, error) {
	if o.output != "" && o.output != "json" {
		return nil, fmt.Errorf("--output: found %q, expected json", o.output)
	}
	if o.last < 0 {
		return nil, fmt.Errorf("--last: found %d, expected 1 or more", o.last)
	}
	if o.capture < 1 || o.capture > 128 {
		return nil, fmt.Errorf("--capture-bytes: found %d, expected 1 to 128", o.capture)
	}
	types := o.types
	if len(types) == 0 {
		types = []string{string(flow.Drop), string(flow.New), string(flow.Close)}
		if o.pcap != "" {
			types = types[:1]
		}
	}
	filter, err := flow.ParseFilter(url.Values{
		"type": types, "from": o.from, "to": o.to, "peer": o.peers, "port": o.ports, "protocol": o.protocols, "reason": o.reasons,
	})
	if err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	if o.since > 0 {
		filter.Since = now.Add(-o.since)
	}
	q := filter.Values()
	q.Set("follow", fmt.Sprint(o.follow))
	switch {
	case o.last > 0:
		q.Set("last", fmt.Sprint(o.last))
	case o.since == 0:
		q.Set("last", "0")
	}
	if o.pcap != "" {
		if !o.follow {
			return nil, errors.New("--pcap: packets are captured only while somebody looks on; leave out --last and --since, or add --follow")
		}
		q.Set("capture", fmt.Sprint(o.capture))
	}
	return q, nil
}

func (o monitorOptions) run(ctx context.Context, e *env, chosen bool) (err error) {
	if !chosen {
		o.follow = o.last == 0 && o.since == 0
	}
	if _, err := o.query(time.Now()); err != nil {
		return err // before anything is asked
	}
	agents, err := e.agents()
	if err != nil {
		return err
	}
	chosenAgents, err := agents.Select(ctx, o.nodes)
	if err != nil {
		return err
	}
	names, err := podNames(ctx, e)
	if err != nil {
		fmt.Fprintln(e.Err, "pods of other nodes are shown by their addresses:", err)
	}
	for _, peers := range []*[]string{&o.from, &o.to, &o.peers} {
		*peers = withAddresses(*peers, names)
	}
	q, err := o.query(time.Now())
	if err != nil {
		return err
	}
	out := &monitorWriter{e: e, json: o.output == "json", names: names}
	if o.pcap != "" {
		file, err := os.Create(o.pcap)
		if err != nil {
			return fmt.Errorf("--pcap: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		if out.capture, err = flow.NewCapture(file); err != nil {
			return err
		}
	}
	path := "/v1/flows?" + q.Encode()
	if !o.follow {
		return out.past(ctx, agents, chosenAgents, path)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, a := range chosenAgents {
		g.Go(func() error { return out.follow(ctx, agents, a, path) })
	}
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// monitorWriter shows records of several nodes.
type monitorWriter struct {
	e       *env
	json    bool
	names   map[string]string // by address
	mu      sync.Mutex
	capture *flow.Capture
}

// againAfter is the pause before a stream that broke is asked for again: an agent that is replaced comes back.
const againAfter = 2 * time.Second

func (w *monitorWriter) follow(ctx context.Context, agents *remote.Agents, a remote.Agent, path string) error {
	for {
		err := agents.Stream(ctx, a, path, func(line []byte) error {
			var r flow.Record
			if err := json.Unmarshal(line, &r); err != nil {
				return fmt.Errorf("node %s: a record was not understood: %w; is the agent of another version?", a.Node, err)
			}
			return w.write(r)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			err = fmt.Errorf("node %s: the agent ended", a.Node)
		}
		if !temporary(err) {
			return err
		}
		w.mu.Lock()
		fmt.Fprintf(w.e.Err, "%v; asking again\n", err)
		w.mu.Unlock()
		t := time.NewTimer(againAfter)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		if fresh, err := agents.Select(ctx, remote.Flags{Nodes: []string{a.Node}}); err == nil {
			a = fresh[0]
		}
	}
}

func (w *monitorWriter) write(r flow.Record) error {
	nameSides(w.names, &r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.capture != nil {
		if err := w.capture.Write(r); err != nil {
			return err
		}
	}
	if w.json {
		return json.NewEncoder(w.e.Out).Encode(r)
	}
	_, err := fmt.Fprintln(w.e.Out, flow.Line(r, true))
	return err
}

func nameSides(names map[string]string, r *flow.Record) {
	for _, s := range []*flow.Side{&r.From, &r.To} {
		if s.Pod == "" && s.Addr.IsValid() {
			s.Pod = names[s.Addr.String()]
		}
	}
}

// withAddresses adds the addresses of the pods that are named: an agent knows the names of its own only.
func withAddresses(peers []string, names map[string]string) []string {
	out := peers
	for _, s := range peers {
		p, err := flow.ParsePeer(s)
		if err != nil || p.Pod == "" {
			continue
		}
		for addr, pod := range names {
			if p.Match(flow.Side{Pod: pod}) {
				out = append(out, addr)
			}
		}
	}
	return out
}
