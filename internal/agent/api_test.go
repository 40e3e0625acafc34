package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/weft-cni/weft/internal/agentapi"
)

// ask runs weft-agent api as it is run in the agent's container.
func (r *rig) ask(path string) (stdout, stderr string, err error) {
	var out, bad bytes.Buffer
	c := NewCommand()
	c.SetArgs([]string{"api", path, "--run-dir", filepath.Join(r.dir, "run")})
	c.SetOut(&out)
	c.SetErr(&bad)
	c.SetIn(new(bytes.Buffer))
	err = c.Execute()
	return out.String(), bad.String(), err
}

func TestAskTheAgent(t *testing.T) {
	r := newRig(t)
	if _, stderr, err := r.ask("/v1/status"); !errors.Is(err, ErrTold) || stderr == "" {
		t.Errorf("without an agent: %v, %q; expected an error that was told", err, stderr)
	}
	r.start()
	out, _, err := r.ask("/v1/status")
	var h Health
	if err != nil || json.Unmarshal([]byte(out), &h) != nil || !h.Ready || h.Node != "node-1" {
		t.Errorf("status is %q, %v; expected that node-1 is ready", out, err)
	}
	_, stderr, err := r.ask("/v9/none")
	var e agentapi.Error
	if !errors.Is(err, ErrTold) || json.Unmarshal([]byte(stderr), &e) != nil || e.Code != 404 {
		t.Errorf("what isn't there: %v, %q; expected an error of code 404", err, stderr)
	}
	// The command ends with its input, which is the end of the reader's connection.
	c := NewCommand()
	c.SetArgs([]string{"api", "--hold", "/v1/status", "--run-dir", filepath.Join(r.dir, "run")})
	c.SetIn(new(bytes.Buffer))
	c.SetOut(io.Discard)
	if err := c.Execute(); err != nil {
		t.Errorf("with an ended input: %v", err)
	}
}
