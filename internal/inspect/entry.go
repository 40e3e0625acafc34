package inspect

import (
	"fmt"
	"io"
	"strings"
)

// An Entry is one decoded entry of a map.
type Entry struct {
	Node  string `json:"node"`
	Map   string `json:"map"`
	Key   Fields `json:"key"`
	Value Fields `json:"value"`
}

// Line is the entry for a person.
func (e Entry) Line() string {
	key, value := e.Key.Values(), e.Value.String()
	if value == "" {
		return key
	}
	return key + "  " + value
}

// Matches tells whether every text is part of the decoded entry, whatever its case.
func (e Entry) Matches(texts []string) bool {
	line := strings.ToLower(e.Key.String() + " " + e.Line())
	for _, t := range texts {
		if !strings.Contains(line, strings.ToLower(t)) {
			return false
		}
	}
	return true
}

// A DumpLine is one line of the answer to a dump: an entry, and at last its end.
type DumpLine struct {
	Entry *Entry   `json:"entry,omitempty"`
	End   *DumpEnd `json:"end,omitempty"`
}

// A DumpEnd says what a dump has shown.
type DumpEnd struct {
	Node  string `json:"node"`
	Map   string `json:"map"`
	Shown int    `json:"shown"`
	// More: the limit was reached, and there were further ones.
	More bool `json:"more,omitempty"`
}

// Write says it.
func (d DumpEnd) Write(out io.Writer) {
	switch {
	case d.More:
		fmt.Fprintf(out, "node %s: the first %d entries of %s are shown, there are more: --limit N shows up to N, --limit 0 all, --match TEXT some\n", d.Node, d.Shown, d.Map)
	case d.Shown == 0:
		fmt.Fprintf(out, "node %s: %s has no such entry\n", d.Node, d.Map)
	}
}
