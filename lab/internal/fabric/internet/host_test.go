package internet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/lab/internal/netns"
)

func host() Host {
	return Host{
		Address: netip.MustParseAddr("198.51.100.80"),
		Names:   map[string]netip.Addr{"elsewhere.example.": netip.MustParseAddr("198.51.100.81"), "six.example.": netip.MustParseAddr("2001:db8::1")},
		Log:     slog.New(slog.DiscardHandler),
	}
}

func TestAnswer(t *testing.T) {
	client := &net.UDPAddr{IP: net.IPv4(203, 0, 113, 10), Port: 4000}
	for _, c := range []struct {
		name  string
		kind  uint16
		rcode int
		want  string // of the one answer's data, "" for none
	}{
		{"one.lab.example.", dns.TypeA, dns.RcodeSuccess, "198.51.100.80"},
		{"ONE.Lab.Example.", dns.TypeA, dns.RcodeSuccess, "198.51.100.80"},
		{"lab.example.", dns.TypeA, dns.RcodeSuccess, "198.51.100.80"},
		{"one.lab.example.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"elsewhere.example.", dns.TypeA, dns.RcodeSuccess, "198.51.100.81"},
		{"six.example.", dns.TypeAAAA, dns.RcodeSuccess, "2001:db8::1"},
		{"client.lab.example.", dns.TypeTXT, dns.RcodeSuccess, "203.0.113.10"},
		{"notlab.example.", dns.TypeA, dns.RcodeNameError, ""},
		{"example.com.", dns.TypeA, dns.RcodeNameError, ""},
	} {
		q := new(dns.Msg)
		q.SetQuestion(c.name, c.kind)
		m := host().answer(q, client)
		if _, err := m.Pack(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got := ""
		if len(m.Answer) == 1 {
			got = data(m.Answer[0])
		}
		if m.Rcode != c.rcode || got != c.want || m.Id != q.Id {
			t.Errorf("%s %s: %s %q, want %s %q", c.name, dns.TypeToString[c.kind], dns.RcodeToString[m.Rcode], got, dns.RcodeToString[c.rcode], c.want)
		}
	}
	if m := host().answer(new(dns.Msg), client); m.Rcode != dns.RcodeNotImplemented {
		t.Errorf("no question: %s", dns.RcodeToString[m.Rcode])
	}
}

func data(rr dns.RR) string {
	switch v := rr.(type) {
	case *dns.A:
		return v.A.String()
	case *dns.AAAA:
		return v.AAAA.String()
	case *dns.TXT:
		return v.Txt[0]
	}
	return rr.String()
}

func FuzzAnswer(f *testing.F) {
	q := new(dns.Msg)
	q.SetQuestion("one.lab.example.", dns.TypeA)
	b, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := new(dns.Msg)
		if r.Unpack(b) != nil {
			return
		}
		m := host().answer(r, &net.UDPAddr{IP: net.IPv4(203, 0, 113, 10), Port: 4000})
		if m.Id != r.Id || !m.Response {
			t.Errorf("the answer to %v is %v", r, m)
		}
	})
}

func TestRun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a network namespace needs root")
	}
	h := host()
	ns := fmt.Sprintf("inet%d", os.Getpid())
	if err := netns.Create(ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(ns); err != nil {
			t.Error(err)
		}
	})
	nl, err := netns.Netlink(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := nl.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	if err := nl.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: h.Address.AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
		t.Fatal(err)
	}
	sockets, err := h.Listen(ns)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, sockets) }()

	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: netns.DialContext(ns), DisableKeepAlives: true}}
	resp, err := client.Get("http://198.51.100.80/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var seen Seen
	if err := json.NewDecoder(resp.Body).Decode(&seen); err != nil || seen != (Seen{Client: "198.51.100.80", Host: "198.51.100.80"}) {
		t.Errorf("HTTP: %+v, %v", seen, err)
	}
	for _, network := range []string{"udp", "tcp"} {
		conn, err := netns.DialContext(ns)(ctx, network, "198.51.100.80:53")
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		q := new(dns.Msg)
		q.SetQuestion("one.lab.example.", dns.TypeA)
		c := &dns.Conn{Conn: conn}
		if err := c.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		m, err := c.ReadMsg()
		if err != nil || len(m.Answer) != 1 || data(m.Answer[0]) != "198.51.100.80" {
			t.Errorf("%s: %v, %v", network, m, err)
		}
		conn.Close()
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run doesn't end with its context")
	}
	if l, err := netns.Listen(ns, "tcp", "198.51.100.80:53"); err != nil {
		t.Errorf("the port is still taken: %v", err)
	} else {
		l.Close()
	}
}
