package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
)

// maxLine is more than any line that an agent sends.
const maxLine = 1 << 20

// Stream calls each with every line of an agent's answer until it ends, ctx ends or each returns an error.
func (a *Agents) Stream(ctx context.Context, agent Agent, path string, each func(line []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &splitter{each: each}
	err := a.Get(ctx, agent, path, writer(func(b []byte) error {
		err := s.write(b)
		if err != nil {
			cancel(err)
		}
		return err
	}))
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", agent.Node, err)
	}
	return s.end()
}

// Gather reads the lines of several agents' answers, several at once, in no order. A node that doesn't
// answer is among the errors, and the others' lines are returned all the same.
func Gather[T any](ctx context.Context, a *Agents, agents []Agent, path string) ([]T, error) {
	var (
		mu   sync.Mutex
		all  []T
		errs []error
	)
	g := new(errgroup.Group)
	g.SetLimit(askAtOnce)
	for _, agent := range agents {
		g.Go(func() error {
			var own []T
			err := a.Stream(ctx, agent, path, func(line []byte) error {
				var v T
				if err := json.Unmarshal(line, &v); err != nil {
					return fmt.Errorf("node %s: a line was not understood: %w; is the agent of another version?", agent.Node, err)
				}
				own = append(own, v)
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			errs = append(errs, err)
			return nil
		})
	}
	_ = g.Wait() // nothing returns an error
	return all, errors.Join(errs...)
}

type writer func([]byte) error

func (w writer) Write(b []byte) (int, error) {
	if err := w(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// splitter makes lines of pieces; empty lines only show that somebody is there.
type splitter struct {
	rest []byte
	each func([]byte) error
}

func (s *splitter) write(b []byte) error {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			if len(s.rest)+len(b) > maxLine {
				return fmt.Errorf("a line of the answer has more than %d bytes", maxLine)
			}
			s.rest = append(s.rest, b...)
			return nil
		}
		line := b[:i]
		if len(s.rest) > 0 {
			line = append(s.rest, line...)
		}
		b = b[i+1:]
		s.rest = nil
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := s.each(line); err != nil {
			return err
		}
	}
	return nil
}

func (s *splitter) end() error {
	if len(bytes.TrimSpace(s.rest)) > 0 {
		return fmt.Errorf("the answer was cut off within a line")
	}
	return nil
}
