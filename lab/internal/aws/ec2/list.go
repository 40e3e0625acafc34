package ec2

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

// listing is what the Describe actions have in common: ids, filters and pages over things in the order of
// their ids.
type listing[T any] struct {
	kind    kind
	idParam string
	id      func(T) string
	// fields are the filters; tags, if set, adds tag:<key> and tag-key.
	fields map[string]func(T) []string
	tags   func(T) map[string]string
	// low and high bound MaxResults.
	low, high int
	// plural is how messages call the ids' parameter.
	plural string
}

const (
	maxFilterValues = 200
	maxFilters      = 50
)

// selected are the items that a request asks for, and the token of the next page.
func (l listing[T]) selected(p *query.Params, all []T) ([]T, string, error) {
	ids := p.List(l.idParam)
	if l.idParam == "" {
		ids = nil
	}
	size := p.Int("MaxResults", 0)
	if err := p.Err(); err != nil {
		return nil, "", err
	}
	if len(ids) > 0 && p.Has("MaxResults") {
		return nil, "", apierror.New("InvalidParameterCombination", "The parameter %s cannot be used with the parameter MaxResults", l.plural)
	}
	if p.Has("MaxResults") && (size < l.low || size > l.high) {
		if size < l.low {
			return nil, "", apierror.New("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value greater than %d.", size, l.low)
		}
		// AWS takes larger values as its maximum.
		size = l.high
	}
	if len(ids) > 0 {
		chosen := make([]T, 0, len(ids))
		for _, id := range ids {
			if err := l.kind.check(id); err != nil {
				return nil, "", err
			}
			i := slices.IndexFunc(all, func(t T) bool { return l.id(t) == id })
			if i < 0 {
				return nil, "", l.kind.missing(id)
			}
			if !slices.ContainsFunc(chosen, func(t T) bool { return l.id(t) == id }) {
				chosen = append(chosen, all[i])
			}
		}
		all = chosen
	}
	kept, err := l.filter(p, all)
	if err != nil {
		return nil, "", err
	}
	return l.page(p, kept, size)
}

func (l listing[T]) page(p *query.Params, kept []T, size int) ([]T, string, error) {
	fingerprint := sha256.Sum256([]byte(p.Canonical("NextToken", "MaxResults", "X-Amz-Date")))
	mark := hex.EncodeToString(fingerprint[:8])
	if token := p.String("NextToken"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		m, after, ok := strings.Cut(string(raw), "|")
		if err != nil || !ok || m != mark {
			return nil, "", apierror.New("InvalidNextToken", "The token '%s' is invalid", token)
		}
		i := slices.IndexFunc(kept, func(t T) bool { return l.id(t) > after })
		if i < 0 {
			return nil, "", nil
		}
		kept = kept[i:]
	}
	if size > 0 && len(kept) > size {
		last := l.id(kept[size-1])
		return kept[:size], base64.RawURLEncoding.EncodeToString([]byte(mark + "|" + last)), nil
	}
	return kept, "", nil
}

func (l listing[T]) filter(p *query.Params, all []T) ([]T, error) {
	filters := p.Structs("Filter")
	if len(filters) > maxFilters {
		return nil, apierror.New("FilterLimitExceeded", "The maximum number of filters is %d", maxFilters)
	}
	for _, f := range filters {
		name, values := f.String("Name"), f.List("Value")
		if name == "" {
			return nil, apierror.New("InvalidParameterValue", "The filter name must not be empty")
		}
		if len(values) == 0 {
			return nil, apierror.New("InvalidParameterValue", "The filter '%s' has no values", name)
		}
		if len(values) > maxFilterValues {
			return nil, apierror.New("FilterLimitExceeded", "The maximum number of filter values specified on a single call is %d", maxFilterValues)
		}
		get, err := l.field(name)
		if err != nil {
			return nil, err
		}
		var kept []T
		for _, item := range all {
			have := get(item)
			if slices.ContainsFunc(have, func(h string) bool {
				return slices.ContainsFunc(values, func(v string) bool { return iampolicy.Match(v, h) })
			}) {
				kept = append(kept, item)
			}
		}
		all = kept
	}
	return all, nil
}

func (l listing[T]) field(name string) (func(T) []string, error) {
	if get, ok := l.fields[name]; ok {
		return get, nil
	}
	if l.tags != nil {
		if key, ok := strings.CutPrefix(name, "tag:"); ok {
			return func(t T) []string {
				if v, has := l.tags(t)[key]; has {
					return []string{v}
				}
				return nil
			}, nil
		}
		if name == "tag-key" {
			return func(t T) []string {
				var keys []string
				for k := range l.tags(t) {
					keys = append(keys, k)
				}
				return keys
			}, nil
		}
	}
	return nil, apierror.New("InvalidParameterValue", "The filter '%s' is invalid", name)
}

// one is a filter's value as a list, empty if there is none.
func one(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}

func yes(b bool) []string {
	if b {
		return []string{"true"}
	}
	return []string{"false"}
}
