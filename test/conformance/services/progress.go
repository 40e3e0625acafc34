package services

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// progress writes ginkgo's output to a log and tells a person how far it is.
type progress struct {
	log, tell    io.Writer
	name         string
	total        int
	done, failed int
	line         []byte
}

func (p *progress) Write(b []byte) (int, error) {
	n, err := p.log.Write(b)
	for rest := b; ; {
		head, tail, whole := bytes.Cut(rest, []byte("\n"))
		if room := 80 - len(p.line); room > 0 {
			p.line = append(p.line, head[:min(room, len(head))]...)
		}
		if !whole {
			return n, err
		}
		p.end(string(p.line))
		p.line, rest = p.line[:0], tail
	}
}

// end looks at the beginning of a line: ginkgo begins those that end a spec with a dot or an S.
func (p *progress) end(line string) {
	switch {
	case strings.HasPrefix(line, "• ["):
		p.done++
		// "• [1.234 seconds]" or "• [FAILED] [1.234 seconds]".
		if state := strings.TrimPrefix(line, "• ["); state != "" && (state[0] < '0' || state[0] > '9') {
			p.failed++
		}
	case strings.HasPrefix(line, "S [SKIPPED]"):
		p.done++
	default:
		return
	}
	if p.done%10 == 0 {
		fmt.Fprintf(p.tell, "%s: %d of %d, %d failed so far\n", p.name, p.done, p.total, p.failed)
	}
}
