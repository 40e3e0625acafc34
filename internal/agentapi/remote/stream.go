package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
