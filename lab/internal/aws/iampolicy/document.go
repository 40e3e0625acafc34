// Package iampolicy reads IAM policy documents and decides by them. It does no I/O.
package iampolicy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Document is a policy.
type Document struct {
	Version    string      `json:"Version"`
	ID         string      `json:"Id,omitempty"`
	Statements []Statement `json:"Statement"`
}

// Statement allows or denies.
type Statement struct {
	Sid          string    `json:"Sid,omitempty"`
	Effect       string    `json:"Effect"`
	Principal    Principal `json:"Principal,omitzero"`
	NotPrincipal Principal `json:"NotPrincipal,omitzero"`
	Action       List      `json:"Action,omitempty"`
	NotAction    List      `json:"NotAction,omitempty"`
	Resource     List      `json:"Resource,omitempty"`
	NotResource  List      `json:"NotResource,omitempty"`
	Condition    Condition `json:"Condition,omitempty"`
}

// List is one text or several.
type List []string

// UnmarshalJSON accepts both.
func (l *List) UnmarshalJSON(b []byte) error {
	var one scalar
	if err := json.Unmarshal(b, &one); err == nil {
		*l = List{string(one)}
		return nil
	}
	var many []scalar
	if err := json.Unmarshal(b, &many); err != nil {
		return fmt.Errorf("expected a text or a list of texts: %w", err)
	}
	*l = List{}
	for _, s := range many {
		*l = append(*l, string(s))
	}
	return nil
}

// scalar is a text; conditions may also hold booleans and numbers.
type scalar string

func (s *scalar) UnmarshalJSON(b []byte) error {
	var v any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return err
	}
	switch v := v.(type) {
	case string:
		*s = scalar(v)
	case bool:
		*s = scalar(fmt.Sprint(v))
	case json.Number:
		*s = scalar(v.String())
	default:
		return fmt.Errorf("expected a text, found %s", b)
	}
	return nil
}

// Principal is who a trust policy names.
type Principal struct {
	Any     bool
	ByKind  map[string]List
	present bool
}

// IsZero says whether the element is absent.
func (p Principal) IsZero() bool { return !p.present }

// UnmarshalJSON accepts "*" and a map by kind.
func (p *Principal) UnmarshalJSON(b []byte) error {
	p.present = true
	var star string
	if json.Unmarshal(b, &star) == nil {
		if star != "*" {
			return fmt.Errorf("principal %q: expected \"*\" or a map", star)
		}
		p.Any = true
		return nil
	}
	if err := json.Unmarshal(b, &p.ByKind); err != nil {
		return err
	}
	for kind := range p.ByKind {
		switch kind {
		case "AWS", "Service", "Federated", "CanonicalUser":
		default:
			return fmt.Errorf("principal: unknown kind %q", kind)
		}
	}
	return nil
}

// MarshalJSON writes what was read.
func (p Principal) MarshalJSON() ([]byte, error) {
	if p.Any {
		return []byte(`"*"`), nil
	}
	return json.Marshal(p.ByKind)
}

// Condition maps an operator to keys and their values.
type Condition map[string]map[string]List

// statements is a list of statements or a single one.
type statements []Statement

func (s *statements) UnmarshalJSON(b []byte) error {
	if t := bytes.TrimSpace(b); len(t) > 0 && t[0] == '{' {
		var one Statement
		if err := strict(b, &one); err != nil {
			return err
		}
		*s = statements{one}
		return nil
	}
	var many []Statement
	if err := strict(b, &many); err != nil {
		return err
	}
	*s = many
	return nil
}

func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

const maxDocument = 10240

// Parse reads a document and refuses what IAM refuses. trust is a role's trust policy, which has principals
// and no resources.
func Parse(text string, trust bool) (Document, error) {
	if len(text) > maxDocument {
		return Document{}, fmt.Errorf("the policy has %d characters, at most %d are allowed", len(text), maxDocument)
	}
	var raw struct {
		Version   string     `json:"Version"`
		ID        string     `json:"Id"`
		Statement statements `json:"Statement"`
	}
	if err := strict([]byte(text), &raw); err != nil {
		return Document{}, fmt.Errorf("syntax error in policy: %w", err)
	}
	d := Document{Version: raw.Version, ID: raw.ID, Statements: raw.Statement}
	switch d.Version {
	case "", "2008-10-17", "2012-10-17":
	default:
		return Document{}, fmt.Errorf("version %q: expected 2012-10-17 or 2008-10-17", d.Version)
	}
	if len(d.Statements) == 0 {
		return Document{}, fmt.Errorf("the policy has no statement")
	}
	for i, s := range d.Statements {
		if err := s.check(trust); err != nil {
			return Document{}, fmt.Errorf("statement %d: %w", i, err)
		}
	}
	return d, nil
}

func (s *Statement) check(trust bool) error {
	if s.Effect != "Allow" && s.Effect != "Deny" {
		return fmt.Errorf("effect %q: expected Allow or Deny", s.Effect)
	}
	if (len(s.Action) == 0) == (len(s.NotAction) == 0) {
		return fmt.Errorf("expected one of Action and NotAction")
	}
	for _, a := range append(append(List{}, s.Action...), s.NotAction...) {
		if service, name, ok := strings.Cut(a, ":"); a != "*" && (!ok || service == "" || name == "") {
			return fmt.Errorf("action %q: expected service:Action", a)
		}
	}
	hasPrincipal := !s.Principal.IsZero() || !s.NotPrincipal.IsZero()
	hasResource := len(s.Resource) > 0 || len(s.NotResource) > 0
	switch {
	case trust && !hasPrincipal:
		return fmt.Errorf("a trust policy needs a Principal")
	case trust && hasResource:
		return fmt.Errorf("a trust policy has no Resource")
	case !trust && hasPrincipal:
		return fmt.Errorf("an identity policy has no Principal")
	case !trust && !hasResource:
		return fmt.Errorf("expected one of Resource and NotResource")
	case len(s.Resource) > 0 && len(s.NotResource) > 0:
		return fmt.Errorf("expected one of Resource and NotResource")
	}
	for _, r := range append(append(List{}, s.Resource...), s.NotResource...) {
		if r != "*" && !strings.HasPrefix(r, "arn:") {
			return fmt.Errorf("resource %q: expected * or an ARN", r)
		}
	}
	for op := range s.Condition {
		if _, err := parseOperator(op); err != nil {
			return err
		}
	}
	return nil
}
