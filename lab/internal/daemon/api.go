package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/weft-cni/weft/lab/internal/cluster"
	"github.com/weft-cni/weft/lab/internal/clusterconfig"
)

// CreateRequest asks for a cluster.
type CreateRequest struct {
	// Config is a ClusterConfig as the person wrote it.
	Config           []byte        `json:"config"`
	Assets           string        `json:"assets"`
	CNI              string        `json:"cni"`
	WithoutKubeProxy bool          `json:"withoutKubeProxy"`
	Timeout          time.Duration `json:"timeout"`
}

// Event is one line of an answer that takes its time.
type Event struct {
	// Stage is one that is done, after Elapsed.
	Stage   string        `json:"stage,omitempty"`
	Elapsed time.Duration `json:"elapsed,omitempty"`
	// Done ends the stream; Error says why it failed.
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"`
}

// NodeRequest asks for something about one node.
type NodeRequest struct {
	Name      string        `json:"name,omitempty"`
	NodeGroup string        `json:"nodeGroup,omitempty"`
	Timeout   time.Duration `json:"timeout"`
}

func (d *Daemon) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /cluster", d.create)
	mux.HandleFunc("GET /status", d.status)
	mux.HandleFunc("POST /nodes/add", d.addNode)
	mux.HandleFunc("POST /nodes/delete", d.nodeAction((*cluster.Cluster).DeleteNode))
	mux.HandleFunc("POST /nodes/reboot", d.nodeAction((*cluster.Cluster).RebootNode))
	mux.HandleFunc("POST /images", d.loadImage)
	d.faultRoutes(mux)
	return mux
}

func (d *Daemon) create(w http.ResponseWriter, r *http.Request) {
	var req CreateRequest
	if !decode(w, r, &req) {
		return
	}
	config, err := clusterconfig.Parse(req.Config)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	began := time.Now()
	out := &stream{w: w, began: began}
	c, err := d.begin(cluster.Options{
		Lab: d.lab, Config: config, Assets: req.Assets, CNI: req.CNI, WithoutKubeProxy: req.WithoutKubeProxy,
		Progress: out.stage, Log: d.log,
	})
	if err != nil {
		fail(w, statusOf(err), err)
		return
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), req.Timeout, fmt.Errorf("not up after %s", req.Timeout))
	defer cancel()
	out.end(c.Up(ctx))
}

func (d *Daemon) status(w http.ResponseWriter, r *http.Request) {
	c, err := d.current()
	if err != nil {
		fail(w, statusOf(err), err)
		return
	}
	answer(w, c.Status(r.Context()))
}

func (d *Daemon) addNode(w http.ResponseWriter, r *http.Request) {
	var req NodeRequest
	if !decode(w, r, &req) {
		return
	}
	c, err := d.current()
	if err != nil {
		fail(w, statusOf(err), err)
		return
	}
	ctx, cancel := deadline(r, req.Timeout)
	defer cancel()
	n, err := c.AddNode(ctx, req.NodeGroup)
	if err != nil {
		fail(w, statusOf(err), err)
		return
	}
	answer(w, n)
}

func (d *Daemon) nodeAction(act func(*cluster.Cluster, context.Context, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req NodeRequest
		if !decode(w, r, &req) {
			return
		}
		c, err := d.current()
		if err != nil {
			fail(w, statusOf(err), err)
			return
		}
		ctx, cancel := deadline(r, req.Timeout)
		defer cancel()
		if err := act(c, ctx, req.Name); err != nil {
			fail(w, statusOf(err), err)
			return
		}
		answer(w, struct{}{})
	}
}

// loadImage takes an archive as the body: the daemon may not be able to read where the person's file is.
func (d *Daemon) loadImage(w http.ResponseWriter, r *http.Request) {
	c, err := d.current()
	if err != nil {
		fail(w, statusOf(err), err)
		return
	}
	tmp, err := os.CreateTemp(d.lab.Dir(), "image-*.tar")
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if _, err := io.Copy(tmp, r.Body); err != nil {
		fail(w, http.StatusInternalServerError, fmt.Errorf("receive archive: %w", err))
		return
	}
	refs, err := c.LoadImages(r.Context(), tmp.Name())
	if err != nil {
		// The person knows the archive by its own name.
		fail(w, http.StatusBadRequest, errors.New(strings.ReplaceAll(err.Error(), tmp.Name(), filepath.Base(r.Header.Get("X-Archive")))))
		return
	}
	answer(w, refs)
}

func deadline(r *http.Request, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(r.Context(), timeout, fmt.Errorf("not done after %s", timeout))
}

// stream sends events as they happen.
type stream struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	began time.Time
}

func (s *stream) stage(text string) { s.send(Event{Stage: text, Elapsed: time.Since(s.began)}) }

func (s *stream) end(err error) {
	e := Event{Done: true, Elapsed: time.Since(s.began)}
	if err != nil {
		e.Error = err.Error()
	}
	s.send(e)
}

func (s *stream) send(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A client that went away is told nothing; its context ends the work.
	_ = json.NewEncoder(s.w).Encode(e)
	_ = http.NewResponseController(s.w).Flush()
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<20)).Decode(into); err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("request: %w", err))
		return false
	}
	return true
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Event{Done: true, Error: err.Error()})
}

func statusOf(err error) int {
	var state *StateError
	var missing *cluster.NotFoundError
	switch {
	case errors.As(err, &state):
		return http.StatusConflict
	case errors.As(err, &missing):
		return http.StatusNotFound
	default:
		return http.StatusInternalServerError
	}
}
