// Package throttle is EC2's request throttling: a token bucket for each action, of the published sizes.
package throttle

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Bucket is a size and a refill rate per second.
type Bucket struct {
	Size   float64
	Refill float64
}

// BucketOf is the bucket of an EC2 action. bulk is a describe without filters and without pages.
func BucketOf(action string, bulk bool) Bucket {
	heavy := []string{"DescribeInstances", "DescribeInstanceStatus", "DescribeNetworkInterfaces", "DescribeSecurityGroups", "DescribeSnapshots", "DescribeSpotInstanceRequests", "DescribeVolumes"}
	own := []string{
		"AssignPrivateIpAddresses", "UnassignPrivateIpAddresses", "AssignIpv6Addresses", "CreateNetworkInterface", "DeleteNetworkInterface",
		"ModifyNetworkInterfaceAttribute", "ModifyInstanceMetadataOptions", "TerminateInstances",
	}
	switch {
	case bulk && slices.Contains(heavy, action):
		return Bucket{50, 10}
	case slices.Contains(own, action):
		return Bucket{100, 5}
	case action == "CreateTags" || action == "DeleteTags":
		return Bucket{100, 10}
	case action == "RunInstances" || action == "StartInstances":
		return Bucket{5, 2}
	case action == "CreateSubnetCidrReservation" || action == "DeleteSubnetCidrReservation":
		return Bucket{5, 1}
	case strings.HasPrefix(action, "Describe"), strings.HasPrefix(action, "Get"), strings.HasPrefix(action, "List"), strings.HasPrefix(action, "Search"):
		return Bucket{100, 20}
	}
	return Bucket{50, 5}
}

// Limiter keeps an account's buckets in a region.
type Limiter struct {
	mu     sync.Mutex
	levels map[string]*level
	off    bool
}

type level struct {
	tokens float64
	at     time.Time
}

// NewLimiter makes one whose buckets are full.
func NewLimiter() *Limiter { return &Limiter{levels: map[string]*level{}} }

// Disable turns throttling off or on again.
func (l *Limiter) Disable(off bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = off
}

// Take takes one token of an action's bucket; false if there is none.
func (l *Limiter) Take(action string, bulk bool, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return true
	}
	b := BucketOf(action, bulk)
	key := action
	if bulk && b == (Bucket{50, 10}) {
		key += " unfiltered"
	}
	v := l.levels[key]
	if v == nil {
		v = &level{tokens: b.Size, at: now}
		l.levels[key] = v
	}
	if d := now.Sub(v.at).Seconds(); d > 0 {
		v.tokens = min(b.Size, v.tokens+d*b.Refill)
		v.at = now
	}
	if v.tokens < 1 {
		return false
	}
	v.tokens--
	return true
}
