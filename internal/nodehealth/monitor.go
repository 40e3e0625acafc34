package nodehealth

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Settings of a Monitor.
type Settings struct {
	Interval time.Duration // of rounds
	Timeout  time.Duration // of a probe
	Failures int           // in a row, until a peer counts as not reached
	Sample   int           // of peers in a round
	Port     uint16
}

// again bounds how many peers beyond the sample are probed in a round because something was wrong with them.
const again = 16

// Report is everything a monitor knows.
type Report struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	// Listening and Pinging say why others can't probe this node, or why probes are by TCP alone; empty: well.
	Listening string       `json:"listening,omitempty"`
	Pinging   string       `json:"pinging,omitempty"`
	Every     string       `json:"everyPairWithin"`
	Known     int          `json:"known"`
	Probed    int          `json:"probed"`
	Reached   int          `json:"reached"`
	Peers     []PeerReport `json:"peers"`
}

// Monitor probes the other nodes.
type Monitor struct {
	Node     string
	Addr     netip.Addr
	Settings Settings
	// OpenPing makes ping sockets possible, as far as it may.
	OpenPing func() error
	// Changed is called when a peer is reached no more, or again.
	Changed func()
	Log     *slog.Logger

	mu                 sync.Mutex
	ring               []Peer
	peers              map[string]PeerReport
	listening, pinging string
}

// SetPeers says which nodes have an agent.
func (m *Monitor) SetPeers(peers []Peer) {
	all := []Peer{{Node: m.Node, Addr: m.Addr}}
	for _, p := range peers {
		if p.Node != m.Node && p.Addr.IsValid() && p.Addr.Is4() == m.Addr.Is4() {
			all = append(all, p)
		}
	}
	ring := Ring(all)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ring = ring
	old := m.peers
	m.peers = map[string]PeerReport{}
	for _, p := range ring {
		if p.Node == m.Node {
			continue
		}
		r, ok := old[p.Node]
		if !ok || r.Address != p.Addr.String() {
			r = PeerReport{Node: p.Node, Address: p.Addr.String(), ICMP: Sight{Outcome: NotProbed}, TCP: Sight{Outcome: NotProbed}}
		}
		m.peers[p.Node] = r
	}
}

// Report returns what is known, by name.
func (m *Monitor) Report() Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.Settings
	r := Report{
		Node: m.Node, Address: m.Addr.String(), Listening: m.listening, Pinging: m.pinging, Known: len(m.peers),
		Every: (time.Duration(Rounds(len(m.ring), s.Sample)) * s.Interval).String(), Peers: []PeerReport{},
	}
	for _, p := range m.peers {
		r.Peers = append(r.Peers, p)
		if !p.TCP.Last.IsZero() {
			r.Probed++
			if p.Reached() {
				r.Reached++
			}
		}
	}
	slices.SortFunc(r.Peers, func(a, b PeerReport) int { return cmp.Compare(a.Node, b.Node) })
	return r
}

// Unreached returns the peers that aren't reached, by name.
func (m *Monitor) Unreached() []PeerReport {
	return slices.DeleteFunc(m.Report().Peers, func(p PeerReport) bool { return p.Reached() })
}

// Run answers the others and probes them until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.answer(ctx) })
	g.Go(func() error { return m.probe(ctx) })
	return g.Wait()
}

// answer listens, and tries again as long as it can't: the port may be another's.
func (m *Monitor) answer(ctx context.Context) error {
	for {
		l, err := Listen(ctx, netip.AddrPortFrom(m.Addr, m.Settings.Port))
		m.note(&m.listening, err)
		if err == nil {
			return Serve(ctx, l)
		}
		if pause(ctx, m.Settings.Interval) != nil {
			return nil
		}
	}
}

// note remembers an error and logs it when it is new.
func (m *Monitor) note(field *string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if *field != text && text != "" {
		m.Log.Warn("node health is incomplete", "err", err)
	}
	*field = text
}

// probe makes rounds. They begin at the same time everywhere, by the clock, since whose turn it is depends
// on the round; within a round every probe has a moment of its own.
func (m *Monitor) probe(ctx context.Context) error {
	var pings *pinger
	g, ctx := errgroup.WithContext(ctx)
	defer func() {
		if pings != nil {
			pings.conn.Close()
		}
		g.Wait() //nolint:errcheck // receive returns none
	}()
	for {
		if pings == nil {
			var err error
			if pings, err = m.openPinger(); err == nil {
				g.Go(pings.receive)
			}
			m.note(&m.pinging, err)
		}
		round := uint64(time.Now().UnixNano()) / uint64(m.Settings.Interval)
		m.round(ctx, pings, round)
		next := time.Unix(0, int64((round+1)*uint64(m.Settings.Interval)))
		if pause(ctx, time.Until(next)) != nil {
			return nil
		}
	}
}

func (m *Monitor) openPinger() (*pinger, error) {
	if err := m.OpenPing(); err != nil {
		return nil, err
	}
	p, err := newPinger(m.Addr)
	if err != nil {
		return nil, fmt.Errorf("node health: %w", err)
	}
	return p, nil
}

// turn is whom to probe in a round: those whose turn it is, and those that something is wrong with.
func (m *Monitor) turn(round uint64) []Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Turn(m.Node, m.ring, round, m.Settings.Sample)
	extra := 0
	for i := range m.ring {
		// From another place each round, so that every one of many gets its look.
		p := m.ring[(uint64(i)+round*again)%uint64(len(m.ring))]
		if extra < again && m.peers[p.Node].suspect() && !slices.Contains(out, p) {
			out = append(out, p)
			extra++
		}
	}
	return out
}

func (m *Monitor) round(ctx context.Context, pings *pinger, round uint64) {
	var g errgroup.Group
	before := m.unreached()
	for _, p := range m.turn(round) {
		g.Go(func() error {
			// What is left of the round is enough for the probe itself.
			spread := m.Settings.Interval - min(m.Settings.Timeout+m.Settings.Interval/10, m.Settings.Interval)
			if spread > 0 && pause(ctx, rand.N(spread)) != nil {
				return nil
			}
			m.look(ctx, pings, p)
			return nil
		})
	}
	g.Wait() //nolint:errcheck // they return none
	if ctx.Err() == nil && !slices.Equal(before, m.unreached()) {
		m.Changed()
	}
}

// unreached are names with what was seen, to be compared.
func (m *Monitor) unreached() []string {
	var out []string
	for _, p := range m.Unreached() {
		out = append(out, p.Node+" "+Seen(p.ICMP.Outcome, p.TCP.Outcome, int(m.Settings.Port)))
	}
	return out
}

// look probes one peer in both ways at once.
func (m *Monitor) look(ctx context.Context, pings *pinger, p Peer) {
	probing, cancel := context.WithTimeout(ctx, m.Settings.Timeout)
	defer cancel()
	icmp, tcp := NotProbed, NotProbed
	var icmpLatency, tcpLatency time.Duration
	var g errgroup.Group
	if pings != nil {
		g.Go(func() error {
			icmp, icmpLatency = pings.probe(probing, p.Addr)
			return nil
		})
	}
	tcp, tcpLatency = probeTCP(probing, m.Addr, netip.AddrPortFrom(p.Addr, m.Settings.Port))
	g.Wait() //nolint:errcheck // it returns none
	if ctx.Err() != nil {
		return // cut short, not unreachable
	}
	m.see(p, func(r *PeerReport, at time.Time) {
		if icmp != NotProbed {
			r.ICMP = r.ICMP.See(icmp, icmpLatency, at, m.Settings.Failures)
		}
		r.TCP = r.TCP.See(tcp, tcpLatency, at, m.Settings.Failures)
	})
}

// see changes what is known of a peer that is still there.
func (m *Monitor) see(p Peer, change func(*PeerReport, time.Time)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.peers[p.Node]
	if !ok || r.Address != p.Addr.String() {
		return
	}
	was := r.Reached()
	change(&r, time.Now())
	m.peers[p.Node] = r
	switch {
	case was && !r.Reached():
		m.Log.Warn("node not reached", "node", p.Node, "address", p.Addr, "icmp", r.ICMP.Outcome, "tcp", r.TCP.Outcome)
	case !was && r.Reached():
		m.Log.Info("node reached again", "node", p.Node, "address", p.Addr)
	}
}
