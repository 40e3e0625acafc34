package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/weft-cni/weft/internal/listener"
)

// serveHealth answers probes and people on the node's loopback.
func (a *agent) serveHealth(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if a.ready.Load() {
			fmt.Fprintln(w, "ok")
			return
		}
		step, reason := a.progress.current()
		http.Error(w, "starting: "+step+": "+reason, http.StatusServiceUnavailable)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(a.health()); err != nil {
			a.Log.Debug("status not sent", "err", err)
		}
	})
	return listener.HTTPAt(ctx, a.HealthAddress, mux)
}

// Health is what /status shows.
type Health struct {
	Version   string   `json:"version"`
	Node      string   `json:"node"`
	Ready     bool     `json:"ready"`
	Steps     []Step   `json:"steps"`
	Missing   []string `json:"interfacesMissing,omitempty"`
	NodeError string   `json:"nodeError,omitempty"`
	Programs  string   `json:"programsError,omitempty"`
}

func (a *agent) health() Health {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Health{
		Version: a.Version, Node: a.Node, Ready: a.ready.Load(), Steps: a.progress.snapshot(),
		Missing: a.report.Missing, NodeError: errText(a.reconcileErr), Programs: errText(a.programsErr),
	}
}
