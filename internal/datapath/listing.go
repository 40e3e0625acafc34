package datapath

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// listTries bounds how often a listing begins anew.
const listTries = 20

// listed repeats a listing that a change interrupted: where pods come and go, one often does.
func listed[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == listTries {
			return out, err
		}
	}
}

func devices() ([]netlink.Link, error) { return listed(netlink.LinkList) }
