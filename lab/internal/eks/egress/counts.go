package egress

import "sync/atomic"

// Counts is what a proxy has done.
type Counts struct {
	Dials     int64 `json:"dials"`     // connections asked for
	Connected int64 `json:"connected"` // made
	Refused   int64 `json:"refused"`   // not an address, or not one that the VPC routes
	Failed    int64 `json:"failed"`    // allowed, but nothing answered
	Open      int64 `json:"open"`      // open now
	ToVPC     int64 `json:"toVPC"`     // bytes
	FromVPC   int64 `json:"fromVPC"`   // bytes
	Stray     int64 `json:"stray"`     // packets that fit no connection
}

type counters struct {
	dials, connected, refused, failed, open, toVPC, fromVPC, stray atomic.Int64
}

func (c *counters) read() Counts {
	return Counts{
		Dials:     c.dials.Load(),
		Connected: c.connected.Load(),
		Refused:   c.refused.Load(),
		Failed:    c.failed.Load(),
		Open:      c.open.Load(),
		ToVPC:     c.toVPC.Load(),
		FromVPC:   c.fromVPC.Load(),
		Stray:     c.stray.Load(),
	}
}
