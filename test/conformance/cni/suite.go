// Package cni holds the plugin and the agent to the CNI specification, on a node that is a namespace: with
// libcni and cnitool as runtimes use them, and by running the plugin as the specification words it.
package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-cni/weft/test/conformance/report"
	"github.com/weft-cni/weft/test/rig"
)

// Versions that a runtime may ask for.
var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// Codes of the specification and of this plugin's documentation.
const (
	codeVersion      = types.ErrIncompatibleCNIVersion
	codeUnknown      = types.ErrUnknownContainer
	codeEnvironment  = types.ErrInvalidEnvironmentVariables
	codeDecode       = types.ErrDecodingFailure
	codeConfig       = types.ErrInvalidNetworkConfig
	codeTryLater     = types.ErrTryAgainLater
	codeInvalidNetNS = types.ErrInvalidNetNS
	codeNotAvailable = 50
)

const (
	nodeAddr   = "10.20.0.10"
	routerAddr = "10.20.0.1"
	freeAddrs  = 14
)

// suite is the node and the runtime's side of it.
type suite struct {
	*report.Report
	ctx    context.Context
	spec   rig.Spec
	node   rig.Space
	pods   int
	spaces []rig.Space
}

// Run runs the suite with the plugin in bin.
func Run(ctx context.Context, bin string, r *report.Report) (err error) {
	plugin := filepath.Join(bin, "weft-cni")
	if _, err := os.Stat(plugin); err != nil {
		return fmt.Errorf("the plugin isn't built (make binaries): %w", err)
	}
	dir, err := os.MkdirTemp("", "weft-conformance-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &suite{Report: r, ctx: ctx}
	defer func() {
		for _, sp := range s.spaces {
			err = errors.Join(err, sp.Close())
		}
	}()
	s.spec = rig.Spec{Name: "node", Dir: dir, Plugin: plugin, AddWait: time.Second, Assignment: rig.Assignment{
		MAC: "0a:00:00:00:00:01", Address: nodeAddr, SubnetCIDR: "10.20.0.0/24"}}
	for i := range freeAddrs {
		s.spec.Assignment.Pods = append(s.spec.Assignment.Pods, fmt.Sprintf("10.20.0.%d", 100+i))
	}
	if err := s.wire(); err != nil {
		return err
	}
	return s.all()
}

func (s *suite) wire() error {
	router, err := s.space()
	if err != nil {
		return err
	}
	if s.node, err = s.space(); err != nil {
		return err
	}
	if err := s.spec.Prepare(); err != nil {
		return err
	}
	return rig.Wire(
		rig.End{Space: s.node, Name: "eth0", MAC: net.HardwareAddr{0x0a, 0, 0, 0, 0, 1}, Address: netip.MustParseAddr(nodeAddr), Next: netip.MustParseAddr(routerAddr)},
		rig.End{Space: router, Name: "eth0", MAC: net.HardwareAddr{0x0a, 0, 0, 0, 0, 0xfe}, Address: netip.MustParseAddr(routerAddr)})
}

func (s *suite) space() (rig.Space, error) {
	sp, err := rig.NewSpace()
	if err == nil {
		s.spaces = append(s.spaces, sp)
	}
	return sp, err
}

// all runs the groups in the order of a node's life.
func (s *suite) all() error {
	s.beforeTheAgent()
	a, err := rig.Start(s.ctx, s.node, s.spec)
	if err != nil {
		return err
	}
	defer func() {
		if a != nil {
			err = errors.Join(err, a.Kill())
		}
	}()
	for _, group := range []func() error{s.ready, s.perVersion, s.faults, s.checks, s.dels, s.gc, s.cnitool, s.exhaustion} {
		if err := group(); err != nil {
			return err
		}
	}
	if err := a.Kill(); err != nil {
		a = nil
		return err
	}
	a, err = s.restart()
	return err
}

// pod is a container of the runtime's.
type pod struct {
	rig.Space
	id string
}

func (s *suite) newPod() (pod, error) {
	sp, err := s.space()
	s.pods++
	p := pod{sp, fmt.Sprintf("pod-%d", s.pods)}
	if err != nil {
		return p, err
	}
	return p, s.spec.PutSandbox(p.id)
}

func (p pod) conf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: p.id, NetNS: p.Path(), IfName: "eth0", Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "conformance"}, {"K8S_POD_NAME", p.id}, {"K8S_POD_UID", "uid-" + p.id}}}
}

// list is the conflist for a version: the one that the agent wrote, but for the version.
func (s *suite) list(version string) (*libcni.NetworkConfigList, error) {
	b, err := os.ReadFile(s.spec.Conflist())
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	m["cniVersion"] = version
	if b, err = json.Marshal(m); err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(b)
}

// runtime is libcni with a cache of its own.
func (s *suite) runtime(name string) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir([]string{s.spec.BinDir()}, filepath.Join(s.spec.Dir, "cache-"+name), nil)
}

// add makes a pod with an interface through libcni.
func (s *suite) add(version string) (pod, *types100.Result, error) {
	p, err := s.newPod()
	if err != nil {
		return p, nil, err
	}
	list, err := s.list(version)
	if err != nil {
		return p, nil, err
	}
	res, err := s.runtime("main").AddNetworkList(s.ctx, list, p.conf())
	if err != nil {
		return p, nil, err
	}
	r, err := types100.NewResultFromResult(res)
	return p, r, err
}

func (s *suite) del(version string, p pod) error {
	list, err := s.list(version)
	if err != nil {
		return err
	}
	if err := s.runtime("main").DelNetworkList(s.ctx, list, p.conf()); err != nil {
		return err
	}
	return s.spec.DropSandbox(p.id)
}

// stdin is the plugin's configuration as the specification has a runtime build it.
func (s *suite) stdin(version string, more map[string]any) []byte {
	m := map[string]any{"cniVersion": version, "name": "weft", "type": "weft-cni",
		"socket": filepath.Join(s.spec.RunDir(), "cni.sock"), "deletes": filepath.Join(s.spec.Dir, "state/deletes")}
	for k, v := range more {
		m[k] = v
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil
	}
	return b
}

// answer is what the plugin printed and how it ended.
type answer struct {
	code   int
	stdout []byte
}

// exec runs the plugin itself; env is without the prefix CNI_.
func (s *suite) exec(stdin []byte, env ...string) (answer, error) {
	cmd := exec.CommandContext(s.ctx, s.spec.Plugin)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = []string{"CNI_PATH=" + s.spec.BinDir()}
	for _, e := range env {
		cmd.Env = append(cmd.Env, "CNI_"+e)
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return answer{}, err
	}
	return answer{cmd.ProcessState.ExitCode(), out}, nil
}

// fails says whether the plugin ended as the specification has failures end: a code that isn't 0, and an
// error object with the version, one of these codes and a message.
func (a answer) fails(version string, codes ...uint) error {
	if a.code == 0 {
		return fmt.Errorf("the plugin ended with code 0 and %q, expected an error", a.stdout)
	}
	var e struct {
		CNIVersion string `json:"cniVersion"`
		Code       uint   `json:"code"`
		Msg        string `json:"msg"`
	}
	if err := json.Unmarshal(a.stdout, &e); err != nil {
		return fmt.Errorf("the plugin printed %q, expected an error object: %w", a.stdout, err)
	}
	if e.Msg == "" {
		return fmt.Errorf("the error has no msg: %s", a.stdout)
	}
	if version != "" && e.CNIVersion != "" && e.CNIVersion != version {
		return fmt.Errorf("the error's cniVersion is %q, expected %q", e.CNIVersion, version)
	}
	for _, c := range codes {
		if e.Code == c {
			return nil
		}
	}
	return fmt.Errorf("the error's code is %d (%s), expected %v", e.Code, strings.TrimSpace(e.Msg), codes)
}

// succeeds says whether the plugin ended well and printed nothing, as all verbs but ADD and VERSION do.
func (a answer) succeeds() error {
	if a.code != 0 || len(bytes.TrimSpace(a.stdout)) > 0 {
		return fmt.Errorf("the plugin ended with code %d and printed %q, expected 0 and nothing", a.code, a.stdout)
	}
	return nil
}

// hasCode says whether libcni's error is one of the plugin with the code.
func hasCode(err error, codes ...uint) error {
	var e *types.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("found %v, expected an error with code %v", err, codes)
	}
	for _, c := range codes {
		if e.Code == c {
			return nil
		}
	}
	return fmt.Errorf("the code is %d (%s), expected %v", e.Code, e.Msg, codes)
}
