package operator

import (
	"fmt"
	"net/http"
	"sync/atomic"
)

// health answers probes from the first moment on, so that a slow start is seen as one and not as a crash.
type health struct {
	state atomic.Pointer[string] // what is awaited; nil once ready
}

func (h *health) waits(for_ string) { h.state.Store(&for_) }
func (h *health) ready()            { h.state.Store(nil) }

func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s := h.state.Load(); s != nil {
			http.Error(w, "waits for "+*s, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
