package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/test/rig"
)

// beforeTheAgent: what the plugin says on a node where no agent ever ran.
func (s *suite) beforeTheAgent() {
	a, err := s.exec(s.stdin("1.1.0", nil), "COMMAND=STATUS")
	s.Check("STATUS before the agent ran: code 50", errors.Join(err, a.fails("1.1.0", codeNotAvailable)))
	a, err = s.exec(s.stdin("1.1.0", nil), "COMMAND=VERSION")
	s.Check("VERSION needs no agent and names every version", errors.Join(err, supported(a)))
	a, err = s.exec([]byte(`{"cniVersion":"1.0.0"}`), "COMMAND=VERSION")
	s.Check("VERSION from a configuration that has nothing else", errors.Join(err, supported(a)))
}

func supported(a answer) error {
	var v struct {
		CNIVersion string   `json:"cniVersion"`
		Supported  []string `json:"supportedVersions"`
	}
	if err := json.Unmarshal(a.stdout, &v); err != nil || a.code != 0 {
		return fmt.Errorf("code %d, %q: %w", a.code, a.stdout, err)
	}
	if v.CNIVersion == "" {
		return errors.New("the answer has no cniVersion")
	}
	for _, want := range versions {
		if !slices.Contains(v.Supported, want) {
			return fmt.Errorf("supportedVersions are %v, expected %s among them", v.Supported, want)
		}
	}
	return nil
}

func (s *suite) ready() error {
	list, err := s.list("1.1.0")
	if err != nil {
		return err
	}
	s.Check("the conflist is of version 1.1.0, or no runtime asks STATUS and GC", s.written())
	s.Check("STATUS of a ready agent", s.runtime("main").GetStatusNetworkList(s.ctx, list))
	a, err := s.exec(s.stdin("1.1.0", nil), "COMMAND=STATUS")
	s.Check("STATUS prints nothing", errors.Join(err, a.succeeds()))
	a, err = s.exec(s.stdin("1.0.0", nil), "COMMAND=STATUS")
	s.Check("STATUS in a version that has none: code 1", errors.Join(err, a.fails("1.0.0", codeVersion)))
	return nil
}

func (s *suite) written() error {
	l, err := libcni.ConfListFromFile(s.spec.Conflist())
	if err != nil {
		return err
	}
	if _, err := s.runtime("validate").ValidateNetworkList(s.ctx, l); err != nil {
		return err
	}
	if l.Name != "weft" || l.CNIVersion != "1.1.0" {
		return fmt.Errorf("it is %q of version %s", l.Name, l.CNIVersion)
	}
	return nil
}

// perVersion: an interface's whole life in each version.
func (s *suite) perVersion() error {
	for _, v := range versions {
		p, err := s.newPod()
		if err != nil {
			return err
		}
		env := []string{"CONTAINERID=" + p.id, "NETNS=" + p.Path(), "IFNAME=eth0"}
		a, err := s.exec(s.stdin(v, nil), append(env, "COMMAND=ADD")...)
		s.Check("ADD "+v+": the result has the version's shape", errors.Join(err, shape(a, v)))
		var prev map[string]any
		if err := json.Unmarshal(a.stdout, &prev); err != nil {
			return fmt.Errorf("ADD %s printed %q: %w", v, a.stdout, err)
		}
		s.Check("ADD "+v+": the interface is what the result says", s.asTheResultSays(p, a))
		with := s.stdin(v, map[string]any{"prevResult": prev})
		check, err := s.exec(with, append(env, "COMMAND=CHECK")...)
		if v < "0.4.0" {
			s.Check("CHECK "+v+": refused, the version has none", errors.Join(err, check.fails(v, codeVersion)))
		} else {
			s.Check("CHECK "+v, errors.Join(err, check.succeeds()))
		}
		for i, name := range []string{"DEL", "DEL again"} {
			d, err := s.exec(with, append(env, "COMMAND=DEL")...)
			s.Check(name+" "+v, errors.Join(err, d.succeeds(), p.hasNoInterface()))
			if i == 0 && v >= "0.4.0" {
				c, err := s.exec(with, append(env, "COMMAND=CHECK")...)
				s.Check("CHECK "+v+" after DEL: code 3", errors.Join(err, c.fails(v, codeUnknown)))
			}
		}
		if err := s.spec.DropSandbox(p.id); err != nil {
			return err
		}
	}
	return nil
}

// shape is what changed between the versions: ips name their family until 0.4.0, and never since.
func shape(a answer, version string) error {
	if a.code != 0 {
		return fmt.Errorf("code %d: %s", a.code, a.stdout)
	}
	var r struct {
		CNIVersion string           `json:"cniVersion"`
		Interfaces []map[string]any `json:"interfaces"`
		IPs        []map[string]any `json:"ips"`
		Routes     []map[string]any `json:"routes"`
	}
	if err := json.Unmarshal(a.stdout, &r); err != nil {
		return fmt.Errorf("%q: %w", a.stdout, err)
	}
	switch {
	case r.CNIVersion != version:
		return fmt.Errorf("cniVersion is %q", r.CNIVersion)
	case len(r.Interfaces) != 2 || len(r.IPs) != 1 || len(r.Routes) == 0:
		return fmt.Errorf("expected two interfaces, one address and a route: %s", a.stdout)
	}
	family, has := r.IPs[0]["version"]
	if old := version < "1.0.0"; has != old || old && family != "4" {
		return fmt.Errorf("ips[0].version is %v, present: %v", family, has)
	}
	if index, ok := r.IPs[0]["interface"].(float64); !ok || int(index) != 1 {
		return fmt.Errorf("ips[0].interface is %v, expected the index of the pod's side, 1", r.IPs[0]["interface"])
	}
	if r.Interfaces[1]["sandbox"] == nil || r.Interfaces[0]["sandbox"] != nil {
		return fmt.Errorf("expected a sandbox for the pod's side alone: %v", r.Interfaces)
	}
	return nil
}

// asTheResultSays compares the result with the kernel, and sends a packet.
func (s *suite) asTheResultSays(p pod, a answer) error {
	r, err := parse(a.stdout)
	if err != nil {
		return err
	}
	inPod := r.Interfaces[1]
	if inPod.Name != "eth0" || inPod.Sandbox != p.Path() {
		return fmt.Errorf("the pod's side is %+v", inPod)
	}
	err = p.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if l.Attrs().HardwareAddr.String() != inPod.Mac {
			return fmt.Errorf("MAC is %s, the result says %s", l.Attrs().HardwareAddr, inPod.Mac)
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil || len(addrs) != 1 || !addrs[0].IP.Equal(r.IPs[0].Address.IP) {
			return fmt.Errorf("addresses are %v, the result says %s: %w", addrs, r.IPs[0].Address.IP, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.node.Do(func() error {
		l, err := netlink.LinkByName(r.Interfaces[0].Name)
		if err == nil && l.Attrs().HardwareAddr.String() != r.Interfaces[0].Mac {
			err = fmt.Errorf("the node's side has MAC %s, the result says %s", l.Attrs().HardwareAddr, r.Interfaces[0].Mac)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.reaches(p)
}

// reaches sends a datagram from the node to the pod and back.
func (s *suite) reaches(p pod) error {
	var there net.PacketConn
	if err := p.Do(func() (err error) {
		there, err = net.ListenPacket("udp4", ":9")
		return err
	}); err != nil {
		return err
	}
	defer there.Close()
	var addr netip.Addr
	if err := p.Do(func() error {
		ifaces, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := ifaces.Addrs()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				addr = p.Addr()
			}
		}
		return nil
	}); err != nil {
		return err
	}
	var here net.Conn
	if err := s.node.Do(func() (err error) {
		here, err = net.Dial("udp4", netip.AddrPortFrom(addr, 9).String())
		return err
	}); err != nil {
		return err
	}
	defer here.Close()
	deadline := time.Now().Add(5 * time.Second)
	if err := errors.Join(here.SetDeadline(deadline), there.SetDeadline(deadline)); err != nil {
		return err
	}
	if _, err := here.Write([]byte("there")); err != nil {
		return err
	}
	b := make([]byte, 16)
	n, from, err := there.ReadFrom(b)
	if err != nil {
		return fmt.Errorf("the node's packet didn't reach the pod: %w", err)
	}
	if _, err := there.WriteTo(b[:n], from); err != nil {
		return err
	}
	if n, err = here.Read(b); err != nil || !bytes.Equal(b[:n], []byte("there")) {
		return fmt.Errorf("the pod's answer is %q: %w", b[:n], err)
	}
	return nil
}

func (p pod) hasNoInterface() error {
	return p.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Attrs().Name != "lo" {
				return fmt.Errorf("the pod still has %s", l.Attrs().Name)
			}
		}
		return nil
	})
}

// restart: what the specification's verbs mean while the agent is away, and after. It returns the agent.
func (s *suite) restart() (*rig.Agent, error) {
	list, err := s.list("1.1.0")
	if err != nil {
		return nil, err
	}
	s.Check("STATUS while a ready agent restarts", s.runtime("main").GetStatusNetworkList(s.ctx, list))
	p, err := s.newPod()
	if err != nil {
		return nil, err
	}
	env := []string{"CONTAINERID=" + p.id, "NETNS=" + p.Path(), "IFNAME=eth0"}
	d, err := s.exec(s.stdin("1.1.0", nil), append(env, "COMMAND=DEL")...)
	s.Check("DEL while the agent is away", errors.Join(err, d.succeeds()))
	// An ADD that comes now waits for the agent.
	var added answer
	var g errgroup.Group
	done := make(chan struct{})
	g.Go(func() (err error) {
		defer close(done)
		added, err = s.exec(s.stdin("1.1.0", nil), append(slices.Clone(env), "COMMAND=ADD")...)
		return err
	})
	var early error
	select {
	case <-done:
		early = errors.New("it ended before there was an agent")
	case <-time.After(time.Second):
	}
	a, err := rig.Start(s.ctx, s.node, s.spec)
	if err != nil {
		return nil, errors.Join(err, g.Wait())
	}
	s.Check("ADD while the agent is away waits for it", errors.Join(early, g.Wait(), shape(added, "1.1.0")))
	d, err = s.exec(s.stdin("1.1.0", nil), append(env, "COMMAND=DEL")...)
	s.Check("DEL after the agent is back", errors.Join(err, d.succeeds(), p.hasNoInterface()))
	return a, s.spec.DropSandbox(p.id)
}
