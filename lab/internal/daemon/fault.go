package daemon

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/weft-cni/weft/lab/internal/aws"
	"github.com/weft-cni/weft/lab/internal/aws/fault"
)

// FaultAnswer says which fault was armed, or how many things were done.
type FaultAnswer struct {
	ID    int `json:"id,omitempty"`
	Count int `json:"count,omitempty"`
}

func (d *Daemon) faultRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /faults", d.withAWS(func(w http.ResponseWriter, _ *http.Request, a *aws.Emulator) { answer(w, a.Faults()) }))
	mux.HandleFunc("POST /faults", d.withAWS(func(w http.ResponseWriter, r *http.Request, a *aws.Emulator) {
		var f fault.Fault
		if !decode(w, r, &f) {
			return
		}
		id, err := a.SetFault(f)
		if err != nil {
			fail(w, http.StatusBadRequest, err)
			return
		}
		answer(w, FaultAnswer{ID: id})
	}))
	mux.HandleFunc("POST /faults/{id}/release", d.faultAction((*aws.Emulator).ReleaseFault))
	mux.HandleFunc("DELETE /faults/{id}", d.faultAction((*aws.Emulator).ClearFault))
}

func (d *Daemon) withAWS(f func(http.ResponseWriter, *http.Request, *aws.Emulator)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := d.current()
		if err != nil {
			fail(w, statusOf(err), err)
			return
		}
		a := c.AWS()
		if a == nil {
			fail(w, http.StatusConflict, &StateError{Text: "AWS' endpoints of lab " + d.lab.Name + " aren't up yet"})
			return
		}
		f(w, r, a)
	}
}

func (d *Daemon) faultAction(act func(*aws.Emulator, int) (int, error)) http.HandlerFunc {
	return d.withAWS(func(w http.ResponseWriter, r *http.Request, a *aws.Emulator) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			fail(w, http.StatusBadRequest, errors.New("fault: expected a number"))
			return
		}
		n, err := act(a, id)
		if err != nil {
			fail(w, http.StatusNotFound, err)
			return
		}
		answer(w, FaultAnswer{Count: n})
	})
}

// SetFault arms a fault of AWS' and returns its id.
func (c *Client) SetFault(ctx context.Context, f fault.Fault) (int, error) {
	var a FaultAnswer
	err := c.call(ctx, http.MethodPost, "/faults", f, &a)
	return a.ID, err
}

// Faults that are armed, and what they did.
func (c *Client) Faults(ctx context.Context) ([]fault.Status, error) {
	var out []fault.Status
	err := c.call(ctx, http.MethodGet, "/faults", nil, &out)
	return out, err
}

// ReleaseFault lets the calls go on that a fault holds; 0: every fault's.
func (c *Client) ReleaseFault(ctx context.Context, id int) (int, error) {
	return c.faultCount(ctx, http.MethodPost, "/faults/"+strconv.Itoa(id)+"/release")
}

// ClearFault removes a fault; 0: all.
func (c *Client) ClearFault(ctx context.Context, id int) (int, error) {
	return c.faultCount(ctx, http.MethodDelete, "/faults/"+strconv.Itoa(id))
}

func (c *Client) faultCount(ctx context.Context, method, path string) (int, error) {
	var a FaultAnswer
	err := c.call(ctx, method, path, nil, &a)
	return a.Count, err
}
