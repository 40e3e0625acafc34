package datapath

import (
	"fmt"
	"time"
)

// bucketTolerance is how far ahead of its rate an endpoint may be at this hook: at least what its own queue
// lets through at once, and a packet of the largest size.
const (
	bucketTolerance = 100 * time.Millisecond
	bucketBytes     = 64 << 10
)

// setBucket writes an endpoint's egress limit, bytes a second; 0: none. A bucket with the same limit goes on.
func (d *Datapath) setBucket(slot uint32, rate uint64) error {
	m := d.maps[weftMapWeftBandwidth]
	var have bucketValue
	if err := m.Lookup(slot, &have); err != nil {
		return fmt.Errorf("read bandwidth of slot %d: %w", slot, err)
	}
	want := newBucketValue(rate)
	if have.Rate == want.Rate && have.Tolerance == want.Tolerance {
		return nil
	}
	if err := m.Put(slot, want); err != nil {
		return fmt.Errorf("write bandwidth of slot %d: %w", slot, err)
	}
	return nil
}

func newBucketValue(rate uint64) bucketValue {
	if rate == 0 {
		return bucketValue{}
	}
	bytes := time.Duration(uint64(bucketBytes) * uint64(time.Second) / rate)
	return bucketValue{Rate: rate, Tolerance: uint64(max(bucketTolerance, bytes))}
}
