package throttle

import (
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for _, tc := range []struct {
		action string
		bulk   bool
		want   Bucket
	}{
		{"DescribeInstances", false, Bucket{100, 20}}, {"DescribeInstances", true, Bucket{50, 10}}, {"DescribeSubnets", true, Bucket{100, 20}},
		{"AttachNetworkInterface", false, Bucket{50, 5}}, {"CreateNetworkInterface", false, Bucket{100, 5}}, {"CreateTags", false, Bucket{100, 10}},
		{"RunInstances", false, Bucket{5, 2}}, {"AuthorizeSecurityGroupIngress", false, Bucket{50, 5}},
	} {
		if got := BucketOf(tc.action, tc.bulk); got != tc.want {
			t.Errorf("%s %t: %v, want %v", tc.action, tc.bulk, got, tc.want)
		}
	}
}

func TestTake(t *testing.T) {
	now := time.Unix(0, 0)
	l := NewLimiter()
	take := func(n int) int {
		ok := 0
		for range n {
			if l.Take("AttachNetworkInterface", false, now) {
				ok++
			}
		}
		return ok
	}
	if got := take(60); got != 50 {
		t.Fatalf("a full bucket gave %d", got)
	}
	now = now.Add(2 * time.Second)
	if got := take(60); got != 10 {
		t.Fatalf("two seconds gave %d", got)
	}
	if !l.Take("DetachNetworkInterface", false, now) {
		t.Fatal("another action shares the bucket")
	}
	now = now.Add(time.Hour)
	if got := take(60); got != 50 {
		t.Fatalf("an hour gave %d", got)
	}
	l.Disable(true)
	if got := take(60); got != 60 {
		t.Fatalf("switched off it gave %d", got)
	}
}
