package nodenet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// period is how often a pass runs though nothing was heard.
const period = 30 * time.Second

// settle gathers the events of one change: a flush is many.
const settle = 20 * time.Millisecond

// Run reconciles whenever the kernel or the desired state changed, until ctx ends. seen gets the outcome
// of every pass.
func (n *Node) Run(ctx context.Context, seen func(Report, error)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return watch(ctx, unix.NETLINK_ROUTE, n.Kick, func(m syscall.NetlinkMessage) {
			switch m.Header.Type {
			case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_DELADDR, unix.RTM_DELROUTE, unix.RTM_NEWRULE, unix.RTM_DELRULE,
				unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
				n.Kick()
			}
		}, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_TC)
	})
	g.Go(func() error {
		return watch(ctx, unix.NETLINK_NETFILTER, n.Kick, func(m syscall.NetlinkMessage) {
			// kube-proxy's changes are many; only removals that name our table matter.
			switch m.Header.Type & 0xff {
			case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM:
				if bytes.Contains(m.Data, []byte(tableName+"\x00")) {
					n.Kick()
				}
			}
		}, unix.NFNLGRP_NFTABLES)
	})
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-n.kick:
			case <-time.After(period):
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settle):
			}
			seen(n.Reconcile(ctx))
		}
	})
	return g.Wait()
}

// watch hears the kernel's notifications. Where the kernel had to drop some it calls lost.
func watch(ctx context.Context, protocol int, lost func(), heard func(syscall.NetlinkMessage), groups ...uint) error {
	s, err := nl.Subscribe(protocol, groups...)
	if err != nil {
		return fmt.Errorf("subscribe to netlink %d: %w", protocol, err)
	}
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	defer s.Close()
	for {
		msgs, _, err := s.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.ENOBUFS) {
			lost()
			continue
		}
		if err != nil {
			return fmt.Errorf("netlink %d: %w", protocol, err)
		}
		for _, m := range msgs {
			heard(m)
		}
	}
}
