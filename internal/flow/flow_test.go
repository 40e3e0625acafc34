package flow

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket/pcapgo"
)

func record(seq int) Record {
	return Record{
		Time: time.Date(2026, 7, 1, 12, 0, seq, 0, time.UTC), Node: "n1", Type: Drop, Reason: "source-address", Protocol: "tcp",
		From: Side{Addr: netip.MustParseAddr("10.0.1.5"), Port: 4242, Pod: "shop/web-0"},
		To:   Side{Addr: netip.MustParseAddr("10.0.2.6"), Port: 80, Pod: "shop/db-0"},
	}
}

func TestFilter(t *testing.T) {
	r := record(5)
	for _, tc := range []struct {
		query string
		want  bool
	}{
		{"", true},
		{"type=drop", true}, {"type=new,close", false}, {"type=new&type=drop", true},
		{"reason=source-address", true}, {"reason=vlan", false},
		{"protocol=tcp", true}, {"protocol=6", true}, {"protocol=udp", false},
		{"port=80", true}, {"port=4242", true}, {"port=81", false},
		{"peer=shop/web-0", true}, {"peer=shop/db-0", true}, {"peer=shop/", true}, {"peer=sho/", false}, {"peer=shop/web", false},
		{"from=shop/web-0", true}, {"from=shop/db-0", false}, {"to=shop/db-0", true}, {"to=shop/web-0", false},
		{"from=10.0.1.5", true}, {"from=10.0.1.0/24", true}, {"to=10.0.1.0/24", false}, {"peer=::/0", false},
		{"from=10.9.9.9,shop/web-0", true}, {"from=shop/web-0&to=10.0.2.6&port=80&type=drop", true},
		{"since=2026-07-01T12:00:05Z", true}, {"since=2026-07-01T12:00:06Z", false},
	} {
		q, err := url.ParseQuery(tc.query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := ParseFilter(q)
		if err != nil {
			t.Fatalf("%s: %v", tc.query, err)
		}
		if got := f.Match(r); got != tc.want {
			t.Errorf("%q matches: %v, expected %v", tc.query, got, tc.want)
		}
		again, err := ParseFilter(f.Values())
		if diff := cmp.Diff(f, again, cmpopts.EquateComparable(netip.Prefix{})); err != nil || diff != "" {
			t.Errorf("%q: written and read again: %v\n%s", tc.query, err, diff)
		}
		if !f.Match(Record{Type: Lost}) {
			t.Errorf("%q hides that records were lost", tc.query)
		}
	}
	for _, bad := range []string{"type=lost", "type=drops", "port=0", "port=x", "protocol=tpc", "from=web-0", "from=10.0.0.0/33", "since=now", "peer=A/b"} {
		q, err := url.ParseQuery(bad)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := ParseFilter(q); err == nil || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%q: %+v, %v; expected an error that says what was expected", bad, f, err)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	f.Add("type=drop&from=shop/web-0&to=10.0.0.0/8,fd00::1&port=80&since=2026-07-01T12:00:05Z")
	f.Fuzz(func(t *testing.T, s string) {
		q, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		a, err := ParseFilter(q)
		if err != nil {
			return
		}
		b, err := ParseFilter(a.Values())
		if diff := cmp.Diff(a, b, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", s, err, diff)
		}
	})
}

func TestRing(t *testing.T) {
	r := NewRing(4)
	into := make([]Record, 3)
	c := r.All()
	if n, lost, _ := r.Read(&c, into); n != 0 || lost != 0 {
		t.Errorf("an empty ring gave %d, lost %d", n, lost)
	}
	_, _, changed := r.Read(&c, into)
	r.Add(record(1), record(2))
	select {
	case <-changed:
	default:
		t.Error("a waiting reader isn't told")
	}
	if n, lost, _ := r.Read(&c, into); n != 2 || lost != 0 || into[0].Seq != 1 || into[1].Seq != 2 {
		t.Errorf("read %d, lost %d: %+v", n, lost, into[:n])
	}
	for i := range 9 {
		r.Add(record(3 + i))
	}
	// 11 were added, the last 4 are kept: 3 to 7 are gone for this reader.
	n, lost, _ := r.Read(&c, into)
	if n != 3 || lost != 5 || into[0].Seq != 8 || into[0].Time.Second() != 8 {
		t.Errorf("read %d, lost %d: %+v; expected 8, 9, 10 after 5 that were lost", n, lost, into[:n])
	}
	if n, lost, _ := r.Read(&c, into); n != 1 || lost != 0 || into[0].Seq != 11 {
		t.Errorf("then read %d, lost %d: %+v", n, lost, into[:n])
	}
	tail := r.Tail(2)
	if n, _, _ := r.Read(&tail, into); n != 2 || into[0].Seq != 10 {
		t.Errorf("the last 2 are %+v", into[:n])
	}
	all := r.Tail(100)
	if n, lost, _ := r.Read(&all, into); n != 3 || lost != 0 || into[0].Seq != 8 {
		t.Errorf("more than there are: %d, lost %d", n, lost)
	}
}

// Whoever reads sees every record once and in order, or is told how many it missed.
func TestRingUnderLoad(t *testing.T) {
	const total = 20000
	r := NewRing(64)
	var readers sync.WaitGroup
	for range 3 {
		c := r.All()
		readers.Go(func() {
			into := make([]Record, 7)
			var seen, lost, last uint64
			for seen+lost < total {
				n, l, changed := r.Read(&c, into)
				lost += l
				for _, rec := range into[:n] {
					if rec.Seq <= last {
						t.Errorf("%d after %d", rec.Seq, last)
					}
					last = rec.Seq
				}
				seen += uint64(n)
				if n == 0 {
					<-changed
				}
			}
			if seen+lost != total || last != total {
				t.Errorf("seen %d, lost %d, last %d of %d", seen, lost, last, total)
			}
		})
	}
	for i := range total {
		r.Add(record(i % 60))
	}
	// A reader that saw the last one needs no further change.
	readers.Wait()
}

func TestLines(t *testing.T) {
	drop := record(5)
	drop.Hook, drop.Direction, drop.Text, drop.Where, drop.Advice = "from_pod", "egress", "sent with another's address", "bpf/from_pod.c:83", "look for a forgotten NAT"
	drop.Object, drop.Length, drop.From.TCP, drop.Suppressed = "pod shop/web-0", 74, "SYN", 12
	closed := Record{Time: drop.Time, Node: "n1", Type: Close, Protocol: "tcp", Seconds: 1.5, NAT: "10.0.1.2:1024",
		From: Side{Addr: drop.From.Addr, Port: 4242, Pod: "shop/web-0", Gone: true, Packets: 5, Bytes: 700},
		To:   Side{Addr: netip.MustParseAddr("fd00::1"), Port: 443, Packets: 4, Bytes: 12_345_678}, Connection: []string{"stack"}}
	arp := Record{Time: drop.Time, Node: "n1", Type: Drop, Family: "arp", Text: "ARP", Reason: "arp-target", Hook: "from_pod", Direction: "egress",
		From: Side{Addr: drop.From.Addr}, To: Side{Addr: drop.To.Addr}}
	lost := Record{Time: drop.Time, Node: "n1", Type: Lost, Count: 7, Text: "the reader was too slow"}
	for _, tc := range []struct {
		r    Record
		want string
	}{
		{drop, "n1 DROP  shop/web-0 (10.0.1.5:4242) -> shop/db-0 (10.0.2.6:80) tcp SYN 74 bytes: sent with another's address (source-address) at from_pod egress, pod shop/web-0 [bpf/from_pod.c:83]; look for a forgotten NAT (+12 more, only counted)"},
		{closed, "n1 CLOSE shop/web-0 (10.0.1.5:4242, gone) -> [fd00::1]:443 tcp: sent 5 packets, 700 B; received 4 packets, 12.3 MB; 1.5s, outside as 10.0.1.2:1024 (stack)"},
		{arp, "n1 DROP  10.0.1.5 -> 10.0.2.6 arp: ARP (arp-target) at from_pod egress"},
		{lost, "n1 LOST  7 records: the reader was too slow"},
	} {
		if got := Line(tc.r, true); !strings.HasSuffix(got, " "+tc.want) {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

func TestTCPFlags(t *testing.T) {
	if got := TCPFlags(0x12); got != "SYN,ACK" {
		t.Errorf("0x12 is %q", got)
	}
}

// frame is a UDP packet whose beginning was captured.
func frame() []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	b = append(b, 0x45, 0, 0, 100, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 1, 5, 10, 0, 2, 6)
	return append(b, 0x10, 0x92, 0, 53, 0, 80, 0, 0)
}

func TestCaptureIsReadByOthers(t *testing.T) {
	var b bytes.Buffer
	c, err := NewCapture(&b)
	if err != nil {
		t.Fatal(err)
	}
	r := record(5)
	r.Data, r.Length = frame(), 114
	for _, rec := range []Record{r, record(6), r} {
		if err := c.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	in, err := pcapgo.NewNgReader(bytes.NewReader(b.Bytes()), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		data, info, err := in.ReadPacketData()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, r.Data) || info.Length != 114 || !info.Timestamp.Equal(r.Time) {
			t.Errorf("packet %d: %x, %+v", n, data, info)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d packets, expected 2: a record without data is none", n)
	}
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip("tcpdump isn't installed: read by gopacket only")
	}
	path := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tcpdump, "-n", "-r", path).CombinedOutput()
	if err != nil || strings.Count(string(out), "10.0.1.5.4242 > 10.0.2.6.53") != 2 {
		t.Errorf("tcpdump: %v\n%s", err, out)
	}
}

func TestProtocolNames(t *testing.T) {
	for n := range 256 {
		name, err := ParseProtocol(fmt.Sprint(n))
		if err != nil || name != ProtocolName(uint8(n)) {
			t.Errorf("%d: %q, %v", n, name, err)
		}
		if again, err := ParseProtocol(name); err != nil || again != name {
			t.Errorf("%q is read as %q, %v", name, again, err)
		}
	}
}
