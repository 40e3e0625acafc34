package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

// lines lets several write to one place, a whole line at a time, each with the name of who wrote it.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func newLines(w io.Writer) *lines { return &lines{w: w} }

// of is where the named one writes; its last line goes out once it ends.
func (l *lines) of(name string) io.Writer { return &named{lines: l, name: name} }

type named struct {
	lines *lines
	name  string
	mu    sync.Mutex
	rest  []byte // a line that hasn't ended
}

func (n *named) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rest = append(n.rest, p...)
	end := bytes.LastIndexByte(n.rest, '\n')
	if end < 0 {
		return len(p), nil
	}
	var b bytes.Buffer
	for line := range bytes.Lines(n.rest[:end+1]) {
		fmt.Fprintf(&b, "%-8s | %s", n.name, line)
	}
	n.rest = append([]byte(nil), n.rest[end+1:]...)
	n.lines.mu.Lock()
	defer n.lines.mu.Unlock()
	if _, err := n.lines.w.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - 4096; n > 0 {
		t.b = t.b[n:]
	}
	return len(p), nil
}

// line is the last line that isn't empty.
func (t *tail) line() string {
	last := ""
	s := bufio.NewScanner(bytes.NewReader(t.b))
	for s.Scan() {
		if l := strings.TrimSpace(s.Text()); l != "" {
			last = l
		}
	}
	return last
}

// whole says whether the last line has ended.
func (t *tail) whole() bool { return len(t.b) == 0 || t.b[len(t.b)-1] == '\n' }
