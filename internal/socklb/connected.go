package socklb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// connectionValue mirrors struct weft_lb_connection.
type connectionValue struct {
	Backend [16]byte
	Set     uint32
	Port    [2]byte
	_       [2]byte
}

// EndOrphans ends the node's own sockets of datagrams that are connected to a backend which went since the last
// call, and returns how many. Their processes get an error (ECONNABORTED) at the next use, and connect anew. It acts
// in the network namespace of the calling thread, which must be the one that the Balancer was opened in.
func (b *Balancer) EndOrphans() (int, error) {
	b.mu.Lock()
	gone := b.table.gone
	b.table.gone = map[goneBackend]bool{}
	b.mu.Unlock()
	if len(gone) == 0 {
		return 0, nil
	}
	cookies := map[uint64]netip.AddrPort{}
	var cookie uint64
	var c connectionValue
	for it := b.maps.connected.Iterate(); ; {
		if !it.Next(&cookie, &c) {
			// What the LRU evicts meanwhile may end the walk early: a socket that is missed answers for itself.
			if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
				return 0, fmt.Errorf("read %s: %w", socketMapWeftLbConnected, err)
			}
			break
		}
		if at := addrPort(c.Backend, c.Port); gone[goneBackend{c.Set, at}] {
			cookies[cookie] = at
		}
	}
	if len(cookies) == 0 {
		return 0, nil
	}
	ended := 0
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagUDP(family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return ended, fmt.Errorf("list sockets: %w", err)
		}
		for _, s := range sockets {
			cookie := uint64(s.ID.Cookie[0]) | uint64(s.ID.Cookie[1])<<32
			at, ours := cookies[cookie]
			to, ok := netip.AddrFromSlice(s.ID.Destination)
			// A socket may have been connected to somebody else since.
			if !ours || !ok || netip.AddrPortFrom(to.Unmap(), s.ID.DestinationPort) != at {
				continue
			}
			if err := destroy(s); err != nil && !errors.Is(err, unix.ENOENT) {
				return ended, fmt.Errorf("end a socket that is connected to %s, which is gone: %w", at, err)
			}
			if err := b.maps.connected.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return ended, fmt.Errorf("forget a socket: %w", err)
			}
			ended++
		}
	}
	return ended, nil
}

// destroy ends a socket; EOPNOTSUPP says that the kernel was built without that.
func destroy(s *netlink.Socket) error {
	req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	req.AddData(diagRequest{s})
	_, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// diagRequest is a struct inet_diag_req_v2 for one socket of datagrams.
type diagRequest struct{ s *netlink.Socket }

const diagRequestSize = 56

func (diagRequest) Len() int { return diagRequestSize }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = r.s.Family, unix.IPPROTO_UDP
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(b[8:], r.s.ID.SourcePort)
	binary.BigEndian.PutUint16(b[10:], r.s.ID.DestinationPort)
	source, destination := r.s.ID.Source, r.s.ID.Destination
	if r.s.Family == unix.AF_INET {
		source, destination = source.To4(), destination.To4()
	}
	copy(b[12:28], source)
	copy(b[28:44], destination)
	binary.NativeEndian.PutUint32(b[44:], r.s.ID.Interface)
	binary.NativeEndian.PutUint32(b[48:], r.s.ID.Cookie[0])
	binary.NativeEndian.PutUint32(b[52:], r.s.ID.Cookie[1])
	return b
}
