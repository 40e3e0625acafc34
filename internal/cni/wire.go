package cni

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/containernetworking/cni/pkg/types"
)

// Commands of the CNI specification that reach the agent.
const (
	Add    = "ADD"
	Del    = "DEL"
	Check  = "CHECK"
	GC     = "GC"
	Status = "STATUS"
)

// maxMessage bounds one message. A GC's list of attachments is the biggest: 4096 of them stay below it.
const maxMessage = 1 << 20

// Request is one CNI command on its way to the agent. The pod's namespace, where there is one, travels
// beside it as a file descriptor, so that the agent needs no mount of the directory that it stands in.
type Request struct {
	Command     string `json:"command"`
	ContainerID string `json:"containerID,omitempty"`
	IfName      string `json:"ifName,omitempty"`
	// Netns is the path that the runtime gave: for messages alone.
	Netns  string          `json:"netns,omitempty"`
	Args   string          `json:"args,omitempty"`
	Config json.RawMessage `json:"config"`
}

// Reply is the agent's answer. Result is of version 1.1.0; the shim converts it.
type Reply struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *types.Error    `json:"error,omitempty"`
}

// errOversized is returned for a message above maxMessage.
var errOversized = errors.New("message too long")

// writeMessage sends v with a length in front; file, if not nil, goes with the first byte.
func writeMessage(c *net.UnixConn, v any, file *os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return fmt.Errorf("%w: %d bytes, at most %d", errOversized, len(body), maxMessage)
	}
	msg := binary.BigEndian.AppendUint32(make([]byte, 0, len(body)+4), uint32(len(body)))
	msg = append(msg, body...)
	if file != nil {
		rights := syscall.UnixRights(int(file.Fd()))
		n, _, err := c.WriteMsgUnix(msg, rights, nil)
		if err != nil {
			return err
		}
		msg = msg[n:]
	}
	if len(msg) == 0 {
		// The other side may have answered and closed by now; even an empty write would fail.
		return nil
	}
	_, err = c.Write(msg)
	return err
}

// readMessage receives what writeMessage sent. The file is the caller's to close.
func readMessage(c *net.UnixConn, v any) (*os.File, error) {
	var head [4]byte
	oob := make([]byte, syscall.CmsgSpace(4*4))
	n, oobn, flags, _, err := c.ReadMsgUnix(head[:], oob)
	file, ferr := receivedFile(oob[:oobn], flags)
	fail := func(err error) (*os.File, error) {
		if file != nil {
			file.Close()
		}
		return nil, err
	}
	if err != nil {
		return fail(err)
	}
	if ferr != nil {
		return fail(ferr)
	}
	if n == 0 {
		return fail(io.ErrUnexpectedEOF)
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		return fail(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return fail(fmt.Errorf("%w: %d bytes, at most %d", errOversized, size, maxMessage))
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return fail(err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fail(err)
	}
	return file, nil
}

// receivedFile takes the one descriptor out of a control message. What a sender attaches beyond that is
// closed: an open namespace would live as long as the agent.
func receivedFile(oob []byte, flags int) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	var fds []int
	for i := range msgs {
		got, err := syscall.ParseUnixRights(&msgs[i])
		if err == nil {
			fds = append(fds, got...)
		}
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
	}
	if len(fds) != 1 || flags&syscall.MSG_CTRUNC != 0 {
		for _, fd := range fds {
			syscall.Close(fd)
		}
		return nil, fmt.Errorf("control message: %d descriptors, expected one", len(fds))
	}
	return os.NewFile(uintptr(fds[0]), "netns"), nil
}
