package fault

import (
	"fmt"
	"time"
)

// Delay carries the call out late.
const Delay = "delay"

// maxDelay is far beyond any client's patience.
const maxDelay = time.Hour

func delay() kind {
	return kind{
		check: func(f Fault) error {
			if f.Delay <= 0 || f.Delay > maxDelay {
				return fmt.Errorf("fault: found a delay of %s: expected more than 0 and at most %s", f.Delay, maxDelay)
			}
			return nil
		},
		run: func(a *armed, act func() (any, error)) (any, error) {
			if !a.sleep(a.Fault.Delay) {
				return nil, ErrNoAnswer
			}
			return act()
		},
	}
}
