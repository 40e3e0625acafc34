// Package values knows every value name of Cilium's charts and says of a set of values what weft does with
// it: act, take it as a newer spelling, or refuse it by name. A value is never silently ignored.
package values

//go:generate go run ./cmd/schema ../../charts/weft/values.schema.json

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Options of a check.
type Options struct {
	// AllowUnknown turns unknown names, and known ones that this version doesn't implement, into warnings.
	AllowUnknown bool
}

// Result is what a check found.
type Result struct {
	// Values are those to give to the chart: old spellings replaced, ignored names left out.
	Values map[string]any
	// Notes say what old spellings became; Warnings what is ignored.
	Notes, Warnings []string
	// Errors, one for each value that is refused; empty if all is well.
	Errors []Problem
}

// Problem is a value that weft refuses.
type Problem struct {
	Name   string
	Reason string
}

// Error is the problem on one line.
func (p Problem) Error() string { return p.Name + ": " + p.Reason }

// Err joins the problems; nil if there are none.
func (r Result) Err() error {
	errs := make([]error, len(r.Errors))
	for i, p := range r.Errors {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// Check says what weft does with v, what a person gave over the chart's defaults. v is not changed.
func (c *Catalogue) Check(v map[string]any, opt Options) Result {
	k := &check{catalogue: c, opt: opt, result: Result{Values: map[string]any{}}, asked: map[string]bool{}}
	k.section("", v)
	for _, later := range k.later {
		later()
	}
	k.region()
	k.kinds()
	for _, list := range [][]string{k.result.Notes, k.result.Warnings} {
		sort.Strings(list)
	}
	sort.Slice(k.result.Errors, func(i, j int) bool { return k.result.Errors[i].Name < k.result.Errors[j].Name })
	return k.result
}

type check struct {
	catalogue *Catalogue
	opt       Options
	result    Result
	// later are old spellings: a new one beside them wins, so they come last.
	later []func()
	// asked are names that change nothing, set to something that isn't their default.
	asked map[string]bool
}

func (k *check) refuse(name, format string, a ...any) {
	k.result.Errors = append(k.result.Errors, Problem{name, fmt.Sprintf(format, a...)})
}

// ignore is for what --allow-unknown-values covers.
func (k *check) ignore(name, format string, a ...any) {
	if !k.opt.AllowUnknown {
		k.refuse(name, format, a...)
		return
	}
	k.result.Warnings = append(k.result.Warnings, fmt.Sprintf("%s is ignored: ", name)+fmt.Sprintf(format, a...))
}

func (k *check) section(path string, v map[string]any) {
	keys := make([]string, 0, len(v))
	for key := range v {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		k.value(join(path, key), v[key])
	}
}

func (k *check) value(name string, v any) {
	if entry, ok := k.catalogue.names[name]; ok {
		if r, ok := k.catalogue.rules[name]; ok {
			k.implemented(name, r, entry, v)
			return
		}
		if m, ok := v.(map[string]any); ok && !entry.tree && len(m) > 0 {
			k.ignore(name, "is an object, in Cilium's charts it is one value, %s", show(entry.def))
			return
		}
		if v == nil || same(v, entry.def) {
			return
		}
		k.ignore(name, "%s is not implemented in this version; leave it out (the chart's default is %s)", show(v), show(entry.def))
		return
	}
	if k.catalogue.below[name] != nil {
		switch m := v.(type) {
		case nil:
		case map[string]any:
			k.section(name, m)
		default:
			k.refuse(name, "is %s, expected an object with %s", show(v), some(k.catalogue.below[name]))
		}
		return
	}
	if near := k.catalogue.Nearest(name); near != "" {
		k.ignore(name, "is not a value of this chart; did you mean %s?", near)
		return
	}
	k.ignore(name, "is not a value of this chart, and no value has a name like it")
}

func (k *check) implemented(name string, r rule, entry known, v any) {
	if v == nil {
		// Helm takes null for "no default": for weft it is the default.
		return
	}
	switch r.kind {
	case replacedBy:
		k.later = append(k.later, func() { k.replace(name, r, v) })
		return
	case superfluous:
		if same(v, entry.def) {
			return
		}
		if why, ok := r.means[asText(v)]; ok {
			k.asked[name] = true
			k.result.Notes = append(k.result.Notes, fmt.Sprintf("%s=%s changes nothing: %s", name, asText(v), why))
			return
		}
		if n, ok := asInt(v); ok && r.whole != "" && n >= 0 {
			k.result.Notes = append(k.result.Notes, fmt.Sprintf("%s=%d changes nothing: %s", name, n, r.whole))
			return
		}
		k.ignore(name, "%s is not implemented in this version; leave it out (the chart's default is %s)", show(v), show(entry.def))
		return
	}
	if r.kind == options {
		k.agentOptions(name, r, v)
		return
	}
	if o, ok := r.old[asText(v)]; ok {
		k.result.Notes = append(k.result.Notes, fmt.Sprintf("%s=%s is taken as %s: %s", name, asText(v), asText(o.to), o.why))
		v = o.to
	}
	if why, ok := r.because[asText(v)]; ok {
		k.refuse(name, "is %s: %s", show(v), why)
		return
	}
	if problem := r.wrongKind(v); problem != "" {
		k.refuse(name, "is %s, expected %s", show(v), problem)
		return
	}
	if found := placeholder(v); found != "" {
		k.refuse(name, "holds %s, a placeholder of a guide; put your own value there", found)
		return
	}
	if r.check != nil {
		if err := r.check(v); err != nil {
			k.refuse(name, "%s", err)
			return
		}
	}
	set(k.result.Values, name, normal(r, v))
}

// agentOptions takes those that weft has and refuses the others one by one: what a person sets there is
// meant to have an effect.
func (k *check) agentOptions(name string, r rule, v any) {
	given, ok := v.(map[string]any)
	if !ok {
		k.refuse(name, "is %s, expected an object of the agent's options", show(v))
		return
	}
	taken := map[string]any{}
	for option, value := range given {
		full := join(name, option)
		check, ok := r.options[option]
		switch {
		case !ok:
			k.ignore(full, "is not an option of this version, which has %s; leave it out", optionNames(r))
		case value == nil:
		default:
			if err := check(value); err != nil {
				k.refuse(full, "%s", err)
				continue
			}
			taken[option] = asText(value)
		}
	}
	if len(taken) > 0 {
		set(k.result.Values, name, taken)
	}
}

func optionNames(r rule) string {
	return strings.Join(slices.Sorted(maps.Keys(r.options)), ", ")
}

func (k *check) replace(name string, r rule, v any) {
	values, note, err := r.to(v)
	if err != nil {
		k.ignore(name, "%s", err)
		return
	}
	for to, value := range values {
		if have, ok := get(k.result.Values, to); ok && !same(have, value) {
			k.refuse(name, "is %s, which means %s=%s, but %s is %s; leave one of them out", show(v), to, asText(value), to, show(have))
			return
		}
		set(k.result.Values, to, value)
	}
	k.result.Notes = append(k.result.Notes, fmt.Sprintf("%s=%s is taken as %s", name, asText(v), note))
}

// region turns aws.region into the operator's environment; what the environment already says wins.
func (k *check) region() {
	region, ok := get(k.result.Values, "aws.region")
	if !ok {
		return
	}
	delete(k.result.Values, "aws")
	if asText(region) == "" {
		return
	}
	env, _ := get(k.result.Values, "operator.extraEnv")
	entries, _ := env.([]any)
	for _, entry := range entries {
		if m, ok := entry.(map[string]any); ok && m["name"] == "AWS_REGION" {
			if m["value"] != nil && !same(m["value"], region) {
				k.refuse("aws.region", "is %s, but AWS_REGION in operator.extraEnv is %s; leave one of them out", show(region), show(m["value"]))
				return
			}
			k.result.Notes = append(k.result.Notes, "aws.region="+asText(region)+" is what AWS_REGION in operator.extraEnv says")
			return
		}
	}
	entries = append(append([]any{}, entries...), map[string]any{"name": "AWS_REGION", "value": asText(region)})
	set(k.result.Values, "operator.extraEnv", entries)
	k.result.Notes = append(k.result.Notes, "aws.region="+asText(region)+" is taken as AWS_REGION in operator.extraEnv")
}

var unfilled = regexp.MustCompile(`<[A-Za-z][A-Za-z0-9 ._-]*>`)

// placeholder finds what a guide left for a person to fill in, anywhere in v.
func placeholder(v any) string {
	switch x := v.(type) {
	case string:
		return unfilled.FindString(x)
	case []any:
		for _, e := range x {
			if found := placeholder(e); found != "" {
				return found
			}
		}
	case map[string]any:
		keys := make([]string, 0, len(x))
		for key := range x {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for _, key := range keys {
			if found := placeholder(x[key]); found != "" {
				return found
			}
		}
	}
	return ""
}

// wrongKind says what was expected, or nothing.
func (r rule) wrongKind(v any) string {
	switch r.kind {
	case text:
		switch v.(type) {
		case string, json.Number, float64, int64, int:
			return ""
		}
		return "a text"
	case boolean:
		if _, ok := v.(bool); ok {
			return ""
		}
		return "true or false"
	case integer:
		if _, ok := asInt(v); ok {
			return ""
		}
		return "a whole number"
	case port:
		if _, ok := v.(string); ok {
			return ""
		}
		if _, ok := asInt(v); ok {
			return ""
		}
		return "a number or a text"
	case list:
		if _, ok := v.([]any); ok {
			return ""
		}
		return "a list"
	case tree:
		if _, ok := v.(map[string]any); ok {
			return ""
		}
		return "an object"
	case textOrList:
		switch x := v.(type) {
		case string:
			return ""
		case []any:
			for _, e := range x {
				if _, ok := e.(string); !ok {
					return "texts only"
				}
			}
			return ""
		}
		return "a text or a list of texts"
	case only:
		for _, allowed := range r.oneOf {
			if same(v, allowed) {
				return ""
			}
		}
		names := make([]string, 0, len(r.oneOf))
		for _, allowed := range r.oneOf {
			if s := asText(allowed); s != "" {
				names = append(names, s)
			}
		}
		return strings.Join(names, " or ") + ", which this version has"
	}
	return ""
}

// normal is v as the chart's schema wants it.
func normal(r rule, v any) any {
	switch r.kind {
	case text:
		return asText(v)
	case integer:
		n, _ := asInt(v)
		return n
	case only:
		for _, allowed := range r.oneOf {
			if same(v, allowed) {
				return allowed
			}
		}
	}
	return v
}

func asText(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	case bool, int, int64, json.Number:
		return fmt.Sprint(x)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func asInt(v any) (int64, bool) {
	switch x := v.(type) {
	case int:
		return int64(x), true
	case int64:
		return x, true
	case float64:
		return int64(x), x == float64(int64(x))
	case json.Number:
		n, err := x.Int64()
		return n, err == nil
	case string:
		n, err := strconv.ParseInt(x, 10, 64)
		return n, err == nil
	}
	return 0, false
}

// same compares as Helm's templates would: "true" and true are one value.
func same(a, b any) bool {
	if a == nil || b == nil {
		return empty(a) && empty(b)
	}
	return asText(a) == asText(b)
}

func empty(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case string:
		return x == ""
	case []any:
		return len(x) == 0
	case map[string]any:
		return len(x) == 0
	}
	return false
}

// show is a value in an error: short, on one line.
func show(v any) string {
	s := asText(v)
	switch v.(type) {
	case nil:
		return "empty"
	case string:
		s = strconv.Quote(s)
	}
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "..."
	}
	return s
}

func some(names map[string]bool) string {
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	sort.Strings(list)
	if len(list) > 5 {
		return strings.Join(list[:5], ", ") + ", …"
	}
	return strings.Join(list, ", ")
}

func get(v map[string]any, name string) (any, bool) {
	for {
		key, rest, more := strings.Cut(name, ".")
		x, ok := v[key]
		if !more || !ok {
			return x, ok
		}
		if v, ok = x.(map[string]any); !ok {
			return nil, false
		}
		name = rest
	}
}

func set(v map[string]any, name string, x any) {
	for {
		key, rest, more := strings.Cut(name, ".")
		if !more {
			v[key] = x
			return
		}
		m, ok := v[key].(map[string]any)
		if !ok {
			m = map[string]any{}
			v[key] = m
		}
		v, name = m, rest
	}
}
