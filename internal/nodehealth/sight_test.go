package nodehealth

import (
	"strings"
	"testing"
	"time"
)

func TestSee(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	s := Sight{Outcome: NotProbed}
	steps := []struct {
		result, outcome Outcome
		since           int
	}{
		{TimedOut, NotProbed, 0}, {TimedOut, NotProbed, 0}, {TimedOut, TimedOut, 1}, // three in a row, since the first
		{Refused, Refused, 1}, // the newest is said, still since then
		{OK, OK, 5},           // one answer is enough
		{TimedOut, OK, 5}, {TimedOut, OK, 5},
		{OK, OK, 5}, // two losses are none
		{TimedOut, OK, 5}, {Failed, OK, 5}, {TimedOut, TimedOut, 9},
	}
	for i, step := range steps {
		s = s.See(step.result, time.Millisecond, at(i+1), 3)
		if s.Outcome != step.outcome || step.since != 0 && !s.Since.Equal(at(step.since)) {
			t.Errorf("step %d: %q since %v, expected %q since %v", i, s.Outcome, s.Since, step.outcome, at(step.since))
		}
	}
}

func TestAdvice(t *testing.T) {
	for _, tc := range []struct {
		icmp, tcp Outcome
		says      string
	}{
		{OK, TimedOut, "must allow TCP port 4240"},
		{TimedOut, OK, "must allow ICMP"},
		{OK, Refused, "its agent doesn't"},
		{TimedOut, TimedOut, "is the node down?"},
		{NotProbed, TimedOut, "is the node down?"},
		{NoRoute, TimedOut, "is the node down?"},
		{OK, Foreign, "something other than weft"},
		{Failed, Failed, "agent's log"},
	} {
		if got := Advice(tc.icmp, tc.tcp, 4240); !strings.Contains(got, tc.says) {
			t.Errorf("%s: %q, expected %q in it", Seen(tc.icmp, tc.tcp, 4240), got, tc.says)
		}
	}
}

func TestEcho(t *testing.T) {
	for _, six := range []bool{false, true} {
		b := makeEcho(7, 1, six)
		if _, ok := parseEcho(b, six); ok {
			t.Error("a request was taken for an answer")
		}
		if b[0] = echoReply4; six {
			b[0] = echoReply6
		}
		if token, ok := parseEcho(b, six); !ok || token != 7 {
			t.Errorf("got %d, %v", token, ok)
		}
		b[len(b)-1] ^= 1
		if _, ok := parseEcho(b, six); ok {
			t.Error("an answer with another's content was taken")
		}
	}
}

func FuzzParseEcho(f *testing.F) {
	f.Add(makeEcho(7, 1, false), false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, six bool) {
		if token, ok := parseEcho(b, six); ok && string(b[headerLength:]) != string(makeEcho(token, 0, six)[headerLength:]) {
			t.Error("an answer that no request had")
		}
	})
}

func FuzzParseRange(f *testing.F) {
	f.Add("1\t0\n")
	f.Add("0\t2147483647\n")
	f.Fuzz(func(t *testing.T, s string) {
		if _, _, err := parseRange(s); err == nil && len(strings.Fields(s)) != 2 {
			t.Errorf("%q was taken", s)
		}
	})
}
