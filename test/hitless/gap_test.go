package main

import (
	"strings"
	"testing"
	"time"
)

// at is a time of day that tests count from, in milliseconds.
func at(ms int) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(ms) * time.Millisecond)
}

func sp(from, to int) span { return span{at(from), at(to)} }

func TestCovered(t *testing.T) {
	for name, c := range map[string]struct {
		others []span
		want   int
	}{
		"nothing":       {nil, 0},
		"before, after": {[]span{sp(0, 100), sp(200, 300)}, 0},
		"inside":        {[]span{sp(110, 130)}, 20},
		"around":        {[]span{sp(0, 500)}, 100},
		"over an end":   {[]span{sp(50, 120), sp(190, 250)}, 30},
		"overlapping":   {[]span{sp(110, 150), sp(120, 130), sp(140, 160)}, 50},
	} {
		if got := covered(sp(100, 200), union(c.others)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%s: found %s, expected %dms", name, got, c.want)
		}
	}
}

func TestGaps(t *testing.T) {
	a, b := &tally{name: "a", missed: []span{sp(100, 200), sp(1000, 1500)}}, &tally{name: "b", missed: []span{sp(110, 190)}}
	list := gaps([]*tally{a, b}, lateness{machine: []span{sp(150, 160), sp(1000, 1010)}, users: []span{sp(155, 170)}, asker: []span{sp(170, 180), sp(120, 130)}})
	if len(list) != 3 || list[0].length() != 500*time.Millisecond || list[1].traffic != "a" || list[2].traffic != "b" {
		t.Fatalf("found %+v", list)
	}
	g := list[1]
	if g.machine != 10*time.Millisecond || g.users != 10*time.Millisecond || g.asker != 20*time.Millisecond || g.rest() != 60*time.Millisecond {
		t.Errorf("found %+v with rest %s", g, g.rest())
	}
	early := during(list, phase{from: at(0), to: at(500)})
	if len(early) != 2 || longestRest(early) != 60*time.Millisecond {
		t.Errorf("found %+v", early)
	}
	for d, want := range map[int]int{50: 2, 90: 2, 100: 1, 500: 0} {
		if got := over(list, time.Duration(d)*time.Millisecond); got != want {
			t.Errorf("over %dms: %d moments, expected %d: those that overlap are one", d, got, want)
		}
	}
	if got := apart(list, 5); len(got) != 2 {
		t.Errorf("found %+v, expected one of each moment", got)
	}
	if got := apart(list, 1); len(got) != 1 {
		t.Errorf("found %+v, expected one", got)
	}
	if got := byRest(list); got[0].length() != 500*time.Millisecond || got[1].traffic != "a" || got[2].rest() != 40*time.Millisecond {
		t.Errorf("found %+v", got)
	}
}

// What a pulse writes it reads; a process whose pulse is dead is none that was never late.
func TestPulse(t *testing.T) {
	got, err := parseSpans(strings.NewReader("true 1 5\nfalse 7 9\n"))
	if err != nil || len(got.machine) != 1 || len(got.users) != 1 || got.users[0].length() != 2 {
		t.Errorf("found %+v, %v", got, err)
	}
	if _, err := parseSpans(strings.NewReader("true 1\n")); err == nil {
		t.Error("half a line passes")
	}
}

func TestBefore(t *testing.T) {
	h := &history{}
	h.mark("node-1", "starts", at(100))
	h.mark("node-0", "ends", at(50))
	h.mark("node-0", "starts", at(300))
	if got, want := h.before(sp(90, 200)), "node-0 ends 150ms before its end; node-1 starts 100ms before its end"; got != want {
		t.Errorf("found %q, expected %q", got, want)
	}
}

func TestBurn(t *testing.T) {
	before, err := processorTime()
	if err != nil {
		t.Fatal(err)
	}
	if err := burnChild((before + 20*time.Millisecond).String()); err != nil {
		t.Fatal(err)
	}
	after, err := processorTime()
	if err != nil || after < before+20*time.Millisecond {
		t.Errorf("%s were used, expected 20ms (%v)", after-before, err)
	}
	if burnChild("much") == nil {
		t.Error("no error for an amount that is none")
	}
}
