package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A Field is one decoded part of a key or a value. Value is a text, a number, a bool or a list of texts.
type Field struct {
	Name  string
	Value any
}

// Fields keep their order, in JSON too, where they are one object.
type Fields []Field

// MarshalJSON implements json.Marshaler.
func (f Fields) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(x.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(x.Value)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", x.Name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON implements json.Unmarshaler. Numbers stay as they were written.
func (f *Fields) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("found %v, expected an object of fields", t)
	}
	*f = nil
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok {
			return fmt.Errorf("found %v, expected the name of a field", t)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("field %s: %w", name, err)
		}
		*f = append(*f, Field{name, value})
	}
	_, err = d.Token()
	return err
}

// String leaves out what is zero or empty: a person looks for what is there.
func (f Fields) String() string {
	var out []string
	for _, x := range f {
		if s := text(x.Value); s != "" {
			out = append(out, x.Name+"="+s)
		}
	}
	return strings.Join(out, " ")
}

// Values are the fields' texts alone.
func (f Fields) Values() string {
	var out []string
	for _, x := range f {
		s := text(x.Value)
		if _, words := x.Value.(string); s == "" && !words {
			s = "0"
		}
		if s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

// text is a value for a person; empty: zero or none.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		if v {
			return "yes"
		}
		return ""
	case json.Number:
		if f, err := v.Float64(); err == nil && f == 0 {
			return ""
		}
		return v.String()
	case float64:
		if v == 0 {
			return ""
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []string:
		return strings.Join(v, ",")
	case []any:
		var parts []string
		for _, x := range v {
			parts = append(parts, text(x))
		}
		return strings.Join(parts, ",")
	}
	if s := fmt.Sprint(v); s != "0" {
		return s
	}
	return ""
}
