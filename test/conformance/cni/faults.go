package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/test/rig"
)

// parse reads a result of any version, as a runtime does.
func parse(b []byte) (*types100.Result, error) {
	var v struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	r, err := create.Create(v.CNIVersion, b)
	if err != nil {
		return nil, err
	}
	return types100.NewResultFromResult(r)
}

// faults: requests that a plugin has to refuse, each with its code.
func (s *suite) faults() error {
	p, err := s.newPod()
	if err != nil {
		return err
	}
	id, ns, name := "CONTAINERID="+p.id, "NETNS="+p.Path(), "IFNAME=eth0"
	for _, c := range []struct {
		about string
		stdin []byte
		env   []string
		codes []uint
	}{
		{"a version that nobody has", s.stdin("9.9.9", nil), []string{"COMMAND=ADD", id, ns, name}, []uint{codeVersion}},
		{"version 0.2.0", s.stdin("0.2.0", nil), []string{"COMMAND=ADD", id, ns, name}, []uint{codeVersion}},
		{"a configuration that isn't JSON", []byte("{"), []string{"COMMAND=ADD", id, ns, name}, []uint{codeDecode}},
		{"a configuration without a name", s.stdin("1.1.0", map[string]any{"name": ""}), []string{"COMMAND=ADD", id, ns, name}, []uint{codeConfig}},
		{"a name with characters that aren't allowed", s.stdin("1.1.0", map[string]any{"name": "we ft"}), []string{"COMMAND=ADD", id, ns, name}, []uint{codeConfig}},
		{"a socket that isn't a path", s.stdin("1.1.0", map[string]any{"socket": "cni.sock"}), []string{"COMMAND=ADD", id, ns, name}, []uint{codeConfig}},
		{"a CNI_COMMAND that isn't one", s.stdin("1.1.0", nil), []string{"COMMAND=CREATE", id, ns, name}, []uint{codeEnvironment}},
		{"no CNI_CONTAINERID", s.stdin("1.1.0", nil), []string{"COMMAND=ADD", ns, name}, []uint{codeEnvironment}},
		{"a container id with a slash", s.stdin("1.1.0", nil), []string{"COMMAND=ADD", "CONTAINERID=../x", ns, name}, []uint{codeEnvironment}},
		{"no CNI_NETNS", s.stdin("1.1.0", nil), []string{"COMMAND=ADD", id, name}, []uint{codeEnvironment}},
		{"no CNI_IFNAME", s.stdin("1.1.0", nil), []string{"COMMAND=ADD", id, ns}, []uint{codeEnvironment}},
		{"an interface name that is too long", s.stdin("1.1.0", nil), []string{"COMMAND=ADD", id, ns, "IFNAME=abcdefghijklmnop"}, []uint{codeEnvironment}},
		{"a namespace that isn't there", s.stdin("1.1.0", nil), []string{"COMMAND=ADD", id, "NETNS=/nowhere", name}, []uint{codeInvalidNetNS}},
		{"the node's own namespace", s.stdin("1.1.0", nil), []string{"COMMAND=ADD", id, "NETNS=" + s.node.Path(), name}, []uint{codeInvalidNetNS}},
	} {
		a, err := s.exec(c.stdin, c.env...)
		s.Check("ADD with "+c.about, errors.Join(err, a.fails("", c.codes...)))
	}
	// The specification leaves this open; libcni's plugins say what they are.
	a, err := s.exec(s.stdin("1.1.0", nil), id, ns, name)
	s.Check("no CNI_COMMAND does nothing", errors.Join(err, a.succeeds()))
	s.Check("nothing was made by what was refused", p.hasNoInterface())
	return s.spec.DropSandbox(p.id)
}

// checks: CHECK finds what was changed behind the plugin's back.
func (s *suite) checks() error {
	for _, c := range []struct {
		about string
		spoil func(pod, *types100.Result) error
	}{
		{"the address taken away", func(p pod, _ *types100.Result) error {
			return p.Do(func() error {
				l, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
				if err != nil || len(addrs) == 0 {
					return fmt.Errorf("addresses are %v: %w", addrs, err)
				}
				return netlink.AddrDel(l, &addrs[0])
			})
		}},
		{"the interface down", func(p pod, _ *types100.Result) error {
			return p.Do(func() error {
				l, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				return netlink.LinkSetDown(l)
			})
		}},
		{"the interface removed", func(_ pod, r *types100.Result) error {
			return s.node.Do(func() error {
				l, err := netlink.LinkByName(r.Interfaces[0].Name)
				if err != nil {
					return err
				}
				return netlink.LinkDel(l)
			})
		}},
	} {
		p, r, err := s.add("1.1.0")
		if err != nil {
			return fmt.Errorf("ADD: %w", err)
		}
		list, err := s.list("1.1.0")
		if err != nil {
			return err
		}
		check := func() error { return s.runtime("main").CheckNetworkList(s.ctx, list, p.conf()) }
		s.Check("CHECK by libcni, which brings prevResult from its cache", check())
		if err := c.spoil(p, r); err != nil {
			return err
		}
		err = nil
		if check() == nil {
			err = errors.New("CHECK found nothing wrong")
		}
		s.Check("CHECK with "+c.about+" fails", err)
		s.Check("DEL with "+c.about, errors.Join(s.del("1.1.0", p), p.hasNoInterface()))
	}
	return nil
}

// dels: DEL goes as far as it can and never fails for what is gone.
func (s *suite) dels() error {
	p, _, err := s.add("1.1.0")
	if err != nil {
		return fmt.Errorf("ADD: %w", err)
	}
	a, err := s.exec(s.stdin("1.1.0", nil), "COMMAND=DEL", "CONTAINERID="+p.id, "IFNAME=eth0")
	s.Check("DEL without CNI_NETNS", errors.Join(err, a.succeeds(), p.hasNoInterface()))
	q, _, err := s.add("1.1.0")
	if err != nil {
		return fmt.Errorf("ADD: %w", err)
	}
	a, err = s.exec(s.stdin("1.1.0", nil), "COMMAND=DEL", "CONTAINERID="+q.id, "IFNAME=eth0", "NETNS=/nowhere")
	s.Check("DEL with a namespace that is gone", errors.Join(err, a.succeeds()))
	a, err = s.exec(s.stdin("1.1.0", nil), "COMMAND=DEL", "CONTAINERID=never-seen", "IFNAME=eth0", "NETNS=/nowhere")
	s.Check("DEL of a container that was never added", errors.Join(err, a.succeeds()))
	a, err = s.exec(s.stdin("1.1.0", nil), "COMMAND=DEL", "IFNAME=eth0")
	s.Check("DEL without CNI_CONTAINERID: code 4", errors.Join(err, a.fails("", codeEnvironment)))
	return errors.Join(s.spec.DropSandbox(p.id), s.spec.DropSandbox(q.id))
}

// gc: what is in the list stays; what isn't and whose interface is gone is released.
func (s *suite) gc() error {
	stays, rs, err := s.add("1.1.0")
	if err != nil {
		return fmt.Errorf("ADD: %w", err)
	}
	goes, rg, err := s.add("1.1.0")
	if err != nil {
		return fmt.Errorf("ADD: %w", err)
	}
	err = s.node.Do(func() error {
		l, err := netlink.LinkByName(rg.Interfaces[0].Name)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	if err != nil {
		return err
	}
	a, err := s.exec(s.stdin("1.0.0", map[string]any{"cni.dev/valid-attachments": []any{}}), "COMMAND=GC")
	s.Check("GC in a version that has none: code 1", errors.Join(err, a.fails("1.0.0", codeVersion)))
	valid := []any{map[string]any{"containerID": stays.id, "ifname": "eth0"}}
	with := s.stdin("1.1.0", map[string]any{"cni.dev/valid-attachments": valid})
	for _, name := range []string{"GC", "GC again"} {
		a, err = s.exec(with, "COMMAND=GC")
		s.Check(name+" succeeds", errors.Join(err, a.succeeds()))
	}
	s.Check("GC: what is in the list stays and works", s.reaches(stays))
	check := func(p pod, r *types100.Result) (answer, error) {
		return s.exec(s.stdin("1.1.0", map[string]any{"prevResult": r}), "COMMAND=CHECK", "CONTAINERID="+p.id, "NETNS="+p.Path(), "IFNAME=eth0")
	}
	a, err = check(stays, rs)
	s.Check("GC: what is in the list passes CHECK", errors.Join(err, a.succeeds()))
	a, err = check(goes, rg)
	s.Check("GC: what isn't in the list is released", errors.Join(err, a.fails("1.1.0", codeUnknown)))
	return errors.Join(s.del("1.1.0", stays), s.del("1.1.0", goes))
}

// exhaustion: no free address is an error to try again, not a reason for STATUS to fail.
func (s *suite) exhaustion() error {
	var pods []pod
	var refused error
	for range freeAddrs + 1 {
		p, _, err := s.add("1.1.0")
		if err != nil {
			refused = err
			s.Check("ADD that failed leaves nothing in the pod", p.hasNoInterface())
			if err := s.del("1.1.0", p); err != nil {
				s.Check("DEL of an ADD that failed", err)
			}
			break
		}
		pods = append(pods, p)
	}
	s.Check("ADD without a free address: code 11, try again later", hasCode(refused, codeTryLater))
	list, err := s.list("1.1.0")
	if err != nil {
		return err
	}
	s.Check("STATUS without a free address stays well", s.runtime("main").GetStatusNetworkList(s.ctx, list))
	for _, p := range pods {
		if err := s.del("1.1.0", p); err != nil {
			s.Check("DEL of "+p.id, err)
		}
	}
	// Released addresses rest before they are given again.
	return rig.Await(s.ctx, 90*time.Second, "a released address may be used again", func() error {
		p, _, err := s.add("1.1.0")
		return errors.Join(err, s.del("1.1.0", p))
	})
}

// cnitool is the specification's own tool, from the lab's cache.
func (s *suite) cnitool() error {
	tool, err := findTool()
	if err != nil {
		s.CouldNot("cnitool: add, check, status, gc, del", err.Error())
		return nil
	}
	p, err := s.newPod()
	if err != nil {
		return err
	}
	// cnitool names a container by its namespace's path, so one path for all verbs.
	path := filepath.Join(s.spec.Dir, "netns")
	if err := os.Symlink(p.Path(), path); err != nil {
		return err
	}
	run := func(verb string) error {
		ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, tool, verb, "weft", path)
		cmd.Env = append(os.Environ(), "NETCONFPATH="+s.spec.ConfDir(), "CNI_PATH="+s.spec.BinDir(), "CNI_IFNAME=eth0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	s.Check("cnitool status", run("status"))
	s.Check("cnitool add", run("add"))
	s.Check("cnitool check", run("check"))
	s.Check("cnitool del", errors.Join(run("del"), p.hasNoInterface()))
	s.Check("cnitool gc", run("gc"))
	return s.spec.DropSandbox(p.id)
}

func findTool() (string, error) {
	cache := os.Getenv("WEFT_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "weft")
	}
	found, err := filepath.Glob(filepath.Join(cache, "cnitool-*"))
	if err != nil {
		return "", err
	}
	newest, when := "", time.Time{}
	for _, f := range found {
		if fi, err := os.Stat(f); err == nil && fi.ModTime().After(when) && fi.Mode()&0o111 != 0 {
			newest, when = f, fi.ModTime()
		}
	}
	if newest == "" {
		return "", fmt.Errorf("no cnitool in %s: run lab assets", cache)
	}
	return newest, nil
}
