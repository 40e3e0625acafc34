package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/weft-cni/weft/internal/ec2/ec2sim"
)

func TestCount(t *testing.T) {
	got := count([]ec2sim.Call{{Action: "B"}, {Action: "A"}, {Action: "B"}, {Action: "A", Err: errors.New("refused")}}, 4)
	want := []string{
		"A                                       1 calls failed",
		"A                                       1 calls, 0.250 for each node",
		"B                                       2 calls, 0.500 for each node",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, expected %q", got, want)
	}
	if got := count(nil, 4); len(got) != 1 || got[0] != "no EC2 call" {
		t.Errorf("no calls: %q", got)
	}
}

func TestCloudHoldsEveryNode(t *testing.T) {
	const nodes = 7
	s := newCloud(nodes)
	if n := len(s.Interfaces()); n != nodes {
		t.Errorf("found %d ENIs, expected one for each node", n)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
