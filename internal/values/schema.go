package values

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

// Schema is the chart's values.schema.json: what Check refuses, as far as a schema can say it, so that
// plain helm refuses it too.
func (c *Catalogue) Schema() ([]byte, error) {
	root := section("Values of weft's chart. A name that is missing here is unknown; one whose only values are its default is known but not implemented in this version.")
	for _, name := range c.sorted {
		at := root
		parts := strings.Split(name, ".")
		for _, part := range parts[:len(parts)-1] {
			properties := at["properties"].(map[string]any)
			next, ok := properties[part].(map[string]any)
			if !ok {
				next = section("")
				properties[part] = next
			}
			at = next
		}
		at["properties"].(map[string]any)[parts[len(parts)-1]] = c.leaf(name)
	}
	// Helm passes the values of a parent chart down under this name.
	root["properties"].(map[string]any)["global"] = map[string]any{"type": "object"}
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	b, err := json.MarshalIndent(root, "", " ")
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return append(b, '\n'), nil
}

func section(description string) map[string]any {
	s := map[string]any{"type": []string{"object", "null"}, "additionalProperties": false, "properties": map[string]any{}}
	if description != "" {
		s["description"] = description
	}
	return s
}

func (c *Catalogue) leaf(name string) map[string]any {
	entry := c.names[name]
	r, acts := c.rules[name]
	if !acts {
		return oneOf("not implemented in this version: only its default", variants(entry.def, nil)...)
	}
	types := map[kind][]string{
		text: {"string", "number"}, boolean: {"boolean"}, integer: {"integer"}, port: {"integer", "string"},
		list: {"array"}, tree: {"object"}, textOrList: {"string", "array"},
	}
	switch r.kind {
	case only:
		values := []any{nil}
		for _, v := range r.oneOf {
			values = append(values, variants(v)...)
		}
		for _, old := range slices.Sorted(maps.Keys(r.old)) {
			values = append(values, old)
		}
		return oneOf("", values...)
	case replacedBy:
		return oneOf("an old spelling", append(append([]any{}, r.accepts...), textual(r.accepts)...)...)
	case superfluous:
		if r.whole != "" {
			return map[string]any{"type": []string{"integer", "null"}, "description": "changes nothing in this version"}
		}
		values := variants(entry.def, nil)
		accepted := make([]string, 0, len(r.means))
		for v := range r.means {
			accepted = append(accepted, v)
		}
		sort.Strings(accepted)
		for _, v := range accepted {
			switch v {
			case "true":
				values = append(values, true)
			case "false":
				values = append(values, false)
			}
			values = append(values, v)
		}
		return oneOf("changes nothing in this version", values...)
	}
	if r.kind == options {
		s := section("options of the agent by their own names")
		for option := range r.options {
			s["properties"].(map[string]any)[option] = map[string]any{"type": []string{"string", "null"}, "pattern": "^[0-9.]+[a-zµ]"}
		}
		return s
	}
	s := map[string]any{"type": append(append([]string{}, types[r.kind]...), "null")}
	switch name {
	case "cluster.name":
		s["maxLength"] = 63
		s["pattern"] = "^[^<>]*$"
	case "cluster.id":
		s["minimum"], s["maximum"] = 0, 255
	case "MTU":
		s["anyOf"] = []any{map[string]any{"enum": []any{0, nil}}, map[string]any{"minimum": 1280, "maximum": 9001}}
	case "cni.confPath", "cni.binPath":
		s["pattern"] = "^/"
	case "eni.iamRole":
		s["pattern"] = "^($|arn:[a-z0-9-]+:iam::[^<> ]*:role/[^<> ]+$)"
	case "aws.region":
		s["pattern"] = "^[^<> ]*$"
	case "k8sServiceHost":
		// A name that isn't an address: its last label doesn't begin with a digit.
		s["pattern"] = `^($|([A-Za-z0-9_-]+\.)*[A-Za-z_][A-Za-z0-9_-]*\.?$)`
	case "nodePort.range":
		s["pattern"] = "^($|[0-9]+[,-][0-9]+$)"
	}
	return s
}

// variants are a default and the spellings that mean the same.
func variants(values ...any) []any {
	return append(append([]any{}, values...), textual(values)...)
}

// textual are the texts of booleans and numbers, which --set-string and quotes give.
func textual(values []any) []any {
	var out []any
	for _, v := range values {
		switch x := v.(type) {
		case bool, float64, int, int64:
			out = append(out, asText(x))
		case string:
			switch x {
			case "true":
				out = append(out, true)
			case "false":
				out = append(out, false)
			}
		}
	}
	return out
}

// oneOf is an enumeration without repeats; what is empty in one way may be so in any.
func oneOf(description string, values ...any) map[string]any {
	var unique []any
	seen := map[string]bool{}
	for _, v := range values {
		all := []any{v}
		if v != nil && empty(v) {
			all = append(all, nil)
		}
		for _, v := range all {
			b, err := json.Marshal(v)
			if err == nil && !seen[string(b)] {
				seen[string(b)] = true
				unique = append(unique, v)
			}
		}
	}
	s := map[string]any{"enum": unique}
	if description != "" {
		s["description"] = description
	}
	return s
}
