package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/internal/listener"
)

// beat is how often a stream with nothing to say sends an empty line: a reader that is gone is noticed.
const beat = 10 * time.Second

// An Error is an answer other than the one that was asked for. Over the wire it is the whole body.
type Error struct {
	Code    int    `json:"code"` // HTTP's
	Message string `json:"error"`
}

func (e *Error) Error() string { return e.Message }

// BadRequest says what is wrong with a question.
func BadRequest(format string, a ...any) error {
	return &Error{Code: http.StatusBadRequest, Message: fmt.Sprintf(format, a...)}
}

// NotFound says that what was asked for isn't there.
func NotFound(format string, a ...any) error {
	return &Error{Code: http.StatusNotFound, Message: fmt.Sprintf(format, a...)}
}

// Unavailable says that the agent can't answer yet.
func Unavailable(format string, a ...any) error {
	return &Error{Code: http.StatusServiceUnavailable, Message: fmt.Sprintf(format, a...)}
}

// Server holds the handlers.
type Server struct {
	mux *http.ServeMux
	log *slog.Logger
}

// NewServer answers nothing yet.
func NewServer(log *slog.Logger) *Server {
	s := &Server{mux: http.NewServeMux(), log: log}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, NotFound("this agent has nothing at %s: it may be of another version than the command", r.URL.Path))
	})
	return s
}

// JSON registers a question with one answer. The pattern is that of http.ServeMux, such as
// "GET /v1/status".
func (s *Server) JSON(pattern string, answer func(*http.Request) (any, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v, err := answer(r)
		if err != nil {
			s.fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			s.log.Debug("answer not sent", "path", r.URL.Path, "err", err)
		}
	})
}

// Stream registers a question whose answer is a line of JSON for each call of send, until produce
// returns or the reader is gone, which ends the request's context. What produce returns before the first
// line is the answer.
func (s *Server) Stream(pattern string, produce func(r *http.Request, send func(any) error) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		out := &lines{w: w, flush: http.NewResponseController(w).Flush}
		ctx, cancel := context.WithCancel(r.Context())
		g := new(errgroup.Group)
		g.Go(func() error { return out.keep(ctx, cancel) })
		err := produce(r.WithContext(ctx), out.send)
		cancel()
		if kept := g.Wait(); kept != nil {
			s.log.Debug("stream ended by its reader", "path", r.URL.Path, "err", kept)
			return
		}
		switch {
		case err == nil, errors.Is(err, context.Canceled):
		case !out.started():
			s.fail(w, err)
		default:
			s.log.Warn("stream cut off", "path", r.URL.Path, "err", err)
			cut(w)
		}
	})
}

// cut closes the connection: it is too late for another answer, but without its last chunk the reader sees
// that there should have been more.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		conn.Close()
	}
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: http.StatusInternalServerError, Message: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code)
	if err := json.NewEncoder(w).Encode(e); err != nil {
		s.log.Debug("error not sent", "err", err)
	}
}

// lines writes one value a line from several goroutines.
type lines struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	flush func() error
	begun bool
}

func (l *lines) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return l.write(append(b, '\n'))
}

func (l *lines) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun {
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.begun = true
	}
	if _, err := l.w.Write(b); err != nil {
		return err
	}
	return l.flush()
}

func (l *lines) started() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun
}

// keep sends empty lines and ends the stream when one can't be sent.
func (l *lines) keep(ctx context.Context, end func()) error {
	t := time.NewTicker(beat)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := l.write([]byte("\n")); err != nil {
				end()
				return err
			}
		}
	}
}

// Serve answers on the socket at path until ctx ends. A socket that a killed agent left is replaced; the
// agent's lock makes sure that it is nobody's.
func (s *Server) Serve(ctx context.Context, path string) error {
	l, err := listener.Unix(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	return listener.HTTP(ctx, l, s.mux)
}
