package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sync/errgroup"
)

// Handler does the work of each command in the agent. netns is open for the length of the call. A
// *types.Error reaches the runtime as it is; any other error becomes one of code 999.
type Handler interface {
	Add(ctx context.Context, r Request, conf NetConf, netns *os.File) (types.Result, error)
	Del(ctx context.Context, r Request, conf NetConf) error
	Check(ctx context.Context, r Request, conf NetConf, netns *os.File) error
	GC(ctx context.Context, r Request, conf NetConf) error
	Status(ctx context.Context) error
}

// Server is the agent's end of the socket.
type Server struct {
	handler Handler
	log     *slog.Logger
	limit   int
}

// NewServer returns a server that runs at most 64 commands at once.
func NewServer(h Handler, log *slog.Logger) *Server {
	return &Server{handler: h, log: log, limit: 64}
}

// Serve answers until ctx ends; commands that run then are given the time of one ADD to finish.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	g := new(errgroup.Group)
	g.SetLimit(s.limit)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			werr := g.Wait()
			if ctx.Err() != nil {
				return werr
			}
			return errors.Join(fmt.Errorf("cni socket: %w", err), werr)
		}
		g.Go(func() error {
			s.serve(ctx, conn)
			return nil
		})
	}
}

func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return
	}
	var r Request
	netns, err := readMessage(conn, &r)
	if err != nil {
		s.log.Debug("cni request unreadable", "err", err)
		return
	}
	if netns != nil {
		defer netns.Close()
	}
	began := time.Now()
	reply := s.dispatch(ctx, r, netns)
	attrs := []any{"command", r.Command, "container", r.ContainerID, "took", time.Since(began)}
	if reply.Error != nil && r.Command == Add && ctx.Err() != nil {
		// The agent is stopping. Without an answer the plugin repeats the ADD to the next one.
		s.log.Info("cni command left to the next agent", attrs...)
		return
	}
	switch {
	case reply.Error != nil:
		s.log.Warn("cni command failed", append(attrs, "code", reply.Error.Code, "err", reply.Error.Error())...)
	case r.Command == Status:
	default:
		s.log.Info("cni command done", attrs...)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return
	}
	if err := writeMessage(conn, reply, nil); err != nil {
		s.log.Warn("cni reply not sent", append(attrs, "err", err)...)
	}
}

func (s *Server) dispatch(ctx context.Context, r Request, netns *os.File) Reply {
	conf, err := ParseNetConf(r.Config)
	if err != nil {
		return Reply{Error: types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")}
	}
	if (r.Command == Add || r.Command == Check) && netns == nil {
		return Reply{Error: types.NewError(types.ErrInvalidNetNS, r.Command+" came without the pod's network namespace", "")}
	}
	if (r.Command == Add || r.Command == Check || r.Command == Del) && (r.ContainerID == "" || r.IfName == "") {
		return Reply{Error: types.NewError(types.ErrInvalidEnvironmentVariables, r.Command+" came without a container id or interface name", "")}
	}
	var res types.Result
	switch r.Command {
	case Add:
		res, err = s.handler.Add(ctx, r, conf, netns)
	case Del:
		err = s.handler.Del(ctx, r, conf)
	case Check:
		err = s.handler.Check(ctx, r, conf, netns)
	case GC:
		err = s.handler.GC(ctx, r, conf)
	case Status:
		err = s.handler.Status(ctx)
	default:
		err = types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("command is %q, expected ADD, DEL, CHECK, GC or STATUS", r.Command), "")
	}
	if err != nil {
		var e *types.Error
		if !errors.As(err, &e) {
			e = types.NewError(types.ErrInternal, err.Error(), "")
		}
		return Reply{Error: e}
	}
	if res == nil {
		return Reply{}
	}
	b, err := json.Marshal(res)
	if err != nil {
		return Reply{Error: types.NewError(types.ErrInternal, "result: "+err.Error(), "")}
	}
	return Reply{Result: b}
}
