package ec2sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-cni/weft/internal/ec2"
)

func (s *Sim) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Sim) id(kind string) string {
	s.next++
	return fmt.Sprintf("%s-%017x", kind, s.next)
}

// free addresses of a subnet: AWS keeps the first four and the last.
func (b *subnet) free() int {
	return 1<<(32-b.CIDR.Bits()) - 5 - len(b.used) - b.taken
}

// take gives n addresses of the subnet to an ENI.
func (b *subnet) take(n int, id string) []netip.Addr {
	var out []netip.Addr
	a := b.CIDR.Addr()
	for range 4 {
		a = a.Next()
	}
	for ; len(out) < n; a = a.Next() {
		if _, ok := b.used[a]; !ok {
			b.used[a] = id
			out = append(out, a)
		}
	}
	return out
}

func (s *Sim) create(sub *subnet, secondary int, groups []string, description string, tags map[string]string) version {
	id := s.id("eni")
	addrs := sub.take(secondary+1, id)
	return version{Interface: ec2.Interface{
		ID: id, MAC: fmt.Sprintf("0a:00:00:00:%02x:%02x", s.next>>8&0xff, s.next&0xff), SubnetID: sub.ID, VPCID: sub.vpc, Zone: sub.Zone,
		Description: description, Status: ec2.StatusAvailable, Groups: groups, Primary: addrs[0], Secondary: addrs[1:], Tags: maps.Clone(tags),
	}}
}

func (s *Sim) put(v version) {
	v.Interface = copyInterface(v.Interface)
	v.at = s.now()
	e := s.enis[v.ID]
	if e == nil {
		e = &eni{}
		s.enis[v.ID] = e
	}
	e.now = v
	e.history = append(e.history, v)
}

func (s *Sim) remove(v version) {
	for _, a := range append([]netip.Addr{v.Primary}, v.Secondary...) {
		delete(s.subnets[v.SubnetID].used, a)
	}
	v.deleted = true
	s.put(v)
}

// view is the newest state with what time alone changes.
func (e *eni) view(at time.Time) version { return settle(e.now, at) }

// past is the state as a describe sees it that lags: ok is false before the ENI was made.
func (e *eni) past(at time.Time) (version, bool) {
	for i := len(e.history) - 1; i >= 0; i-- {
		if !e.history[i].at.After(at) {
			return settle(e.history[i], at), true
		}
	}
	return version{}, false
}

func settle(v version, at time.Time) version {
	v.Interface = copyInterface(v.Interface)
	if v.Attachment == nil {
		return v
	}
	if v.Attachment.Status == ec2.AttachmentAttaching && !at.Before(v.attachedAt) {
		v.Attachment.Status = ec2.AttachmentAttached
	}
	if v.Attachment.Status == ec2.AttachmentDetaching && !at.Before(v.detachedAt) {
		v.Attachment, v.Status = nil, ec2.StatusAvailable
	}
	return v
}

func copyInterface(i ec2.Interface) ec2.Interface {
	i.Groups = slices.Clone(i.Groups)
	i.Secondary = slices.Clone(i.Secondary)
	i.Prefixes = slices.Clone(i.Prefixes)
	i.Tags = maps.Clone(i.Tags)
	if i.Attachment != nil {
		a := *i.Attachment
		i.Attachment = &a
	}
	return i
}
