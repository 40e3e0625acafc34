package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// Codes of STATUS in the CNI specification.
const (
	codeNotAvailable = 50
)

// Shim is the plugin's whole work: it hands a command to the agent.
type Shim struct {
	// SocketWait bounds how long an ADD waits for the agent's socket, ReplyWait how long any command
	// waits for the answer. Together they stay below kubelet's two minutes.
	SocketWait, ReplyWait time.Duration
	// Retry is the pause between two attempts.
	Retry time.Duration
}

// NewShim returns the shim with its times.
func NewShim() Shim {
	return Shim{SocketWait: 60 * time.Second, ReplyWait: 50 * time.Second, Retry: 100 * time.Millisecond}
}

// Main runs the command that the environment names and returns what to print and exit with.
func (s Shim) Main(about string) *types.Error {
	return skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: s.add, Del: s.del, Check: s.check, GC: s.gc, Status: s.status,
	}, version.PluginSupports(SupportedVersions()...), about)
}

func request(command string, a *skel.CmdArgs) Request {
	return Request{Command: command, ContainerID: a.ContainerID, IfName: a.IfName, Netns: a.Netns, Args: a.Args, Config: a.StdinData}
}

func netConf(a *skel.CmdArgs) (NetConf, error) {
	c, err := ParseNetConf(a.StdinData)
	if err != nil {
		return NetConf{}, types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
	}
	return c, nil
}

func (s Shim) add(a *skel.CmdArgs) error {
	conf, err := netConf(a)
	if err != nil {
		return err
	}
	ns, err := os.Open(a.Netns)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, "the pod's network namespace can't be opened", err.Error())
	}
	defer ns.Close()
	ctx, cancel := context.WithTimeout(context.Background(), s.SocketWait)
	defer cancel()
	// An agent that dies in the middle has journalled what it did: the same ADD again is safe.
	for {
		var reply Reply
		reply, err = s.call(conf.Socket, request(Add, a), ns)
		if err == nil {
			return printResult(reply, conf.CNIVersion)
		}
		if !away(err) {
			return types.NewError(types.ErrIOFailure, "the weft agent could not be asked", err.Error())
		}
		select {
		case <-ctx.Done():
			return types.NewError(types.ErrTryAgainLater,
				fmt.Sprintf("the weft agent did not answer on %s for %s; see the weft pod of this node", conf.Socket, s.SocketWait), err.Error())
		case <-time.After(s.Retry):
		}
	}
}

func printResult(r Reply, cniVersion string) error {
	if r.Error != nil {
		return r.Error
	}
	res, err := types100.NewResult(r.Result)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, "the weft agent's answer is not a CNI result", err.Error())
	}
	return types.PrintResult(res, cniVersion)
}

func (s Shim) del(a *skel.CmdArgs) error {
	conf, err := netConf(a)
	if err != nil {
		return err
	}
	r := request(Del, a)
	reply, err := s.call(conf.Socket, r, nil)
	switch {
	case err == nil && reply.Error == nil:
		return nil
	case err == nil:
		return reply.Error
	case !away(err):
		return types.NewError(types.ErrIOFailure, "the weft agent could not be asked", err.Error())
	}
	if err := (Queue{Dir: conf.Deletes}).Put(conf.Name, r); err != nil {
		return types.NewError(types.ErrTryAgainLater, "the weft agent is away and the DEL could not be kept for it", err.Error())
	}
	return nil
}

func (s Shim) check(a *skel.CmdArgs) error {
	conf, err := netConf(a)
	if err != nil {
		return err
	}
	ns, err := os.Open(a.Netns)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, "the pod's network namespace can't be opened", err.Error())
	}
	defer ns.Close()
	return s.ask(conf, request(Check, a), ns)
}

// gc of an agent that is away is no loss: it compares by itself when it is back.
func (s Shim) gc(a *skel.CmdArgs) error {
	conf, err := netConf(a)
	if err != nil {
		return err
	}
	return s.ask(conf, request(GC, a), nil)
}

func (s Shim) ask(conf NetConf, r Request, ns *os.File) error {
	reply, err := s.call(conf.Socket, r, ns)
	if err != nil {
		return types.NewError(types.ErrTryAgainLater, "the weft agent could not be asked", err.Error())
	}
	if reply.Error != nil {
		return reply.Error
	}
	return nil
}

func (s Shim) status(a *skel.CmdArgs) error {
	conf, err := netConf(a)
	if err != nil {
		return err
	}
	quick := s
	quick.ReplyWait = min(s.ReplyWait, 3*time.Second)
	reply, err := quick.call(conf.Socket, request(Status, a), nil)
	if err == nil {
		if reply.Error != nil {
			return reply.Error
		}
		return nil
	}
	if ReadyLately(conf.ReadyFile(), time.Now()) {
		return nil
	}
	return types.NewError(codeNotAvailable,
		fmt.Sprintf("the weft agent was not ready in this boot or has been away for more than %s; see the weft pod of this node", AwayBound), err.Error())
}

// Ask sends one request as the plugin would and waits for the answer.
func (s Shim) Ask(socket string, r Request) (Reply, error) { return s.call(socket, r, nil) }

// call sends one request and waits for the answer.
func (s Shim) call(socket string, r Request, ns *os.File) (Reply, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return Reply{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(s.ReplyWait)); err != nil {
		return Reply{}, err
	}
	if err := writeMessage(conn, r, ns); err != nil {
		return Reply{}, &awayError{err}
	}
	var reply Reply
	file, err := readMessage(conn, &reply)
	if file != nil {
		file.Close()
	}
	if err != nil {
		return Reply{}, &awayError{err}
	}
	return reply, nil
}

// awayError is a connection that broke before the answer came.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// away says whether no agent is there, as opposed to one that may not be asked.
func away(err error) bool {
	var broke *awayError
	if errors.As(err, &broke) {
		return !errors.Is(err, errOversized)
	}
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EAGAIN)
}
