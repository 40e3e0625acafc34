package datapath

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestListed(t *testing.T) {
	interrupted := fmt.Errorf("devices: %w", netlink.ErrDumpInterrupted)
	for name, c := range map[string]struct {
		errs  []error // of the tries, the last one of all that follow
		tries int
		want  error
	}{
		"at once":         {[]error{nil}, 1, nil},
		"interrupted":     {[]error{interrupted, interrupted, nil}, 3, nil},
		"another error":   {[]error{interrupted, os.ErrPermission}, 2, os.ErrPermission},
		"never undivided": {[]error{interrupted}, listTries, netlink.ErrDumpInterrupted},
	} {
		tries := 0
		got, err := listed(func() ([]int, error) {
			err := c.errs[min(tries, len(c.errs)-1)]
			tries++
			return []int{tries}, err
		})
		if tries != c.tries || !errors.Is(err, c.want) || got[0] != c.tries {
			t.Errorf("%s: %d tries, %v, %v; expected %d and %v", name, tries, got, err, c.tries, c.want)
		}
	}
}
