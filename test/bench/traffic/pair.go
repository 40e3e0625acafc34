package traffic

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/weft-cni/weft/test/rig"
)

// pair is a client and its server, two processes.
type pair struct{ client, server *process }

// process is one end. It ends when its input does.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *os.File
	dec *json.Decoder
}

// report is what an end says: the server once, when it listens; the client when it is connected and after
// each turn.
type report struct {
	Rates []float64 `json:"rates,omitempty"`
	Error string    `json:"error,omitempty"`
}

// start sets both ends up.
func start(p Path, k Kind, cpu int) (_ *pair, err error) {
	out := &pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.close())
		}
	}()
	if out.server, err = launch(p.Server, nil, "server", k, p.Address.String(), cpu); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if out.client, err = launch(p.Client, p.Group, "client", k, p.dial().String(), cpu); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return out, nil
}

func launch(s rig.Space, group *rig.ControlGroup, role string, k Kind, address string, cpu int) (_ *process, err error) {
	p := &process{cmd: exec.Command("/proc/self/exe", childArg, role, string(k), address, strconv.Itoa(cpu))}
	p.cmd.Stderr = os.Stderr
	// No signals to a thread that waits in the kernel.
	p.cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOGC=off")
	if group != nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
		group.Join(p.cmd.SysProcAttr)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.out, p.dec = w, r, json.NewDecoder(r)
	err = errors.Join(s.Do(p.cmd.Start), w.Close())
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if _, err := p.hear(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// hear waits for the next report.
func (p *process) hear() (report, error) {
	if err := p.out.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return report{}, err
	}
	var r report
	if err := p.dec.Decode(&r); err != nil {
		return r, fmt.Errorf("no report within %s: %w", patience, err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

func (p *process) close() error {
	err := errors.Join(p.in.Close(), p.cmd.Process.Kill())
	var exit *exec.ExitError
	if werr := p.cmd.Wait(); !errors.As(werr, &exit) {
		err = errors.Join(err, werr)
	}
	return errors.Join(err, p.out.Close())
}

// turn has the client repeat batches for a while and returns the rate of each.
func (p *pair) turn() ([]float64, error) {
	if _, err := p.client.in.Write([]byte{0}); err != nil {
		return nil, err
	}
	r, err := p.client.hear()
	return r.Rates, err
}

func (p *pair) close() error {
	var errs []error
	for _, end := range []*process{p.client, p.server} {
		if end != nil {
			errs = append(errs, end.close())
		}
	}
	return errors.Join(errs...)
}
