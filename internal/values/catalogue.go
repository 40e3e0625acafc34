package values

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

//go:embed catalogue.txt
var catalogueText string

// known is one name of Cilium's charts.
type known struct {
	def  any
	tree bool   // what stands below the name belongs to its value
	last string // the last chart that has it; empty: the newest
}

// Catalogue is every value name that weft has heard of, and what it does with it.
type Catalogue struct {
	names  map[string]known
	rules  map[string]rule
	below  map[string]map[string]bool // section -> names in it
	sorted []string
}

// Load reads the embedded list and the rules.
func Load() (*Catalogue, error) {
	c := &Catalogue{names: map[string]known{}, rules: rules(), below: map[string]map[string]bool{}}
	lines := bufio.NewScanner(strings.NewReader(catalogueText))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		field := strings.Split(line, "\t")
		if len(field) < 2 {
			return nil, fmt.Errorf("catalogue line %d: %q has no default", n, line)
		}
		name, tree := strings.CutSuffix(field[0], "*")
		k := known{tree: tree}
		if err := json.Unmarshal([]byte(field[1]), &k.def); err != nil {
			return nil, fmt.Errorf("catalogue line %d: %s: %w", n, name, err)
		}
		if len(field) > 2 {
			k.last = field[2]
		}
		c.names[name] = k
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	for name, r := range c.rules {
		k := c.names[name]
		k.tree = k.tree || r.kind == tree || r.kind == options
		c.names[name] = k
	}
	for name := range c.names {
		c.sorted = append(c.sorted, name)
		for section := parent(name); ; section = parent(section) {
			if c.below[section] == nil {
				c.below[section] = map[string]bool{}
			}
			rest := strings.TrimPrefix(name[len(section):], ".")
			c.below[section][strings.SplitN(rest, ".", 2)[0]] = true
			if section == "" {
				break
			}
		}
	}
	sort.Strings(c.sorted)
	return c, nil
}

func parent(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return ""
}

func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}
