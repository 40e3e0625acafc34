package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weft-cni/weft/internal/agent"
	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/datapath"
	flowrecord "github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/test/rig"
)

// metricsAt is where agents of a flood serve their metrics, each in its own namespace.
const metricsAt = "127.0.0.1:9962"

// counted is how many packets of its pods each reason met on the node.
func (n *node) counted(ctx context.Context) (map[string]uint64, error) {
	c := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			err = n.space.Do(func() error {
				c, err = new(net.Dialer).DialContext(ctx, network, addr)
				return err
			})
			return c, err
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsAt+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", n.spec.Name, err)
	}
	defer resp.Body.Close()
	return parsePackets(resp.Body)
}

// parsePackets sums up the packets of from_pod by reason.
func parsePackets(r io.Reader) (map[string]uint64, error) {
	out := map[string]uint64{}
	s := bufio.NewScanner(r)
	for s.Scan() {
		rest, ok := strings.CutPrefix(s.Text(), "weft_datapath_packets_total{")
		if !ok || !strings.Contains(rest, `hook="from_pod"`) {
			continue
		}
		labels, value, _ := strings.Cut(rest, "} ")
		_, reason, _ := strings.Cut(labels, `reason="`)
		reason, _, _ = strings.Cut(reason, `"`)
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || reason == "" {
			return nil, fmt.Errorf("metric %q is not understood", s.Text())
		}
		out[reason] += uint64(v)
	}
	if len(out) == 0 {
		return nil, errors.Join(errors.New("there are no metrics of packets"), s.Err())
	}
	return out, s.Err()
}

// outcomes sums up what each packet has exactly one of, drops those that went no further.
func outcomes(counted map[string]uint64) (all, drops uint64) {
	for _, r := range datapath.Reasons() {
		v := counted[r.String()]
		if r.Note() {
			continue
		}
		all += v
		if r.Drop() {
			drops += v
		}
	}
	return all, drops
}

// told makes a connection and waits until the agent's ring has its first packet: its reader reads.
func (n *network) told(ctx context.Context) error {
	a, b := n.nodes[0], n.nodes[1]
	return rig.Await(ctx, 2*time.Minute, "the agent tells of a new connection", func() error {
		c, err := a.client.asks(b.server.server).dial()
		if err != nil {
			return err
		}
		defer c.Close()
		from := c.LocalAddr().(*net.TCPAddr).AddrPort()
		return rig.Await(ctx, 5*time.Second, "its record", func() error {
			list, err := a.records(ctx, flowrecord.Filter{Types: []flowrecord.Type{flowrecord.New}, From: []flowrecord.Peer{{Prefix: netip.PrefixFrom(from.Addr().Unmap(), 32)}}, Ports: []uint16{from.Port()}}.Values())
			for _, r := range list {
				if r.From.Port == from.Port() {
					return nil
				}
			}
			return errors.Join(err, fmt.Errorf("%d records, none of %s", len(list), from))
		})
	})
}

// records are those that the node's agent keeps.
func (n *node) records(ctx context.Context, query url.Values) (out []flowrecord.Record, err error) {
	var b bytes.Buffer
	if err := agentapi.NewClient(n.spec.APISocket()).Get(ctx, "/v1/flows?"+query.Encode(), &b); err != nil {
		return nil, fmt.Errorf("agent of %s: %w", n.spec.Name, err)
	}
	for d := json.NewDecoder(&b); ; {
		var r flowrecord.Record
		err := d.Decode(&r)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("records of %s: %w", n.spec.Name, err)
		}
		out = append(out, r)
	}
}

// events sums up what became of the node's events.
func (n *node) events(ctx context.Context) (sum agent.EventStat, err error) {
	var b bytes.Buffer
	if err := agentapi.NewClient(n.spec.APISocket()).Get(ctx, "/v1/flows/stats", &b); err != nil {
		return sum, fmt.Errorf("agent of %s: %w", n.spec.Name, err)
	}
	var got agent.FlowStats
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		return sum, fmt.Errorf("events of %s: %w", n.spec.Name, err)
	}
	for _, e := range got.Events {
		sum.Sent += e.Sent
		sum.Suppressed += e.Suppressed
		sum.Lost += e.Lost
	}
	return sum, nil
}
