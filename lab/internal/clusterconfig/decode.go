package clusterconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	strict "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

var (
	clusterName   = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$`)
	groupName     = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,62}$`)
	regionName    = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	versionNumber = regexp.MustCompile(`^1\.[0-9]{1,2}(\.[0-9]+)?$`)
	placeholder   = regexp.MustCompile(`<[A-Za-z][A-Za-z0-9 _.-]*>`)
)

// maxSize is far above any file that a person writes.
const maxSize = 1 << 20

func decode(data []byte) (document, error) {
	var doc document
	if len(data) > maxSize {
		return doc, fmt.Errorf("the file has %d bytes, expected a ClusterConfig of at most %d", len(data), maxSize)
	}
	var tree any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return doc, fmt.Errorf("not YAML: %w", err)
	}
	if _, ok := tree.(map[string]any); !ok {
		return doc, fmt.Errorf("expected a %s (%s), found %s", kind, apiVersion, describe(tree))
	}
	// Before anything else: a placeholder can be wrong in more than one way, and this is the reason.
	if err := placeholders("", tree); err != nil {
		return doc, err
	}
	// Strict means: no key twice. The library's own strict decoding ignores case and says no path.
	plain, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return doc, fmt.Errorf("not YAML: %w", err)
	}
	unknown, err := strict.UnmarshalStrict(plain, &doc)
	if err != nil {
		return doc, explain(err)
	}
	if len(unknown) > 0 {
		return doc, fmt.Errorf("not a %s as eksctl knows it: %w", kind, errors.Join(unknown...))
	}
	return doc, nil
}

func describe(tree any) string {
	switch tree.(type) {
	case nil:
		return "nothing"
	case []any:
		return "a list"
	default:
		return "a single value"
	}
}

// placeholders finds values that the person was to fill in.
func placeholders(path string, tree any) error {
	switch t := tree.(type) {
	case map[string]any:
		var errs []error
		for _, k := range slices.Sorted(maps.Keys(t)) {
			errs = append(errs, placeholders(strings.TrimPrefix(path+"."+k, "."), t[k]))
		}
		return errors.Join(errs...)
	case []any:
		var errs []error
		for i, v := range t {
			errs = append(errs, placeholders(fmt.Sprintf("%s[%d]", path, i), v))
		}
		return errors.Join(errs...)
	case string:
		if found := placeholder.FindString(t); found != "" {
			return problem(path, "is still the placeholder %s: put your own value there", found)
		}
	}
	return nil
}

// explain turns the decoder's error into one in terms of the file.
func explain(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return problem(wrong.Field, "found a %s, expected a %s", wrong.Value, wrong.Type)
	}
	return fmt.Errorf("not a %s as eksctl knows it: %w", kind, err)
}

// taints are a list in managed groups, and a list or a map of key to value:effect in others.
type taints []Taint

// UnmarshalJSON takes both forms.
func (t *taints) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var short map[string]string
		if err := json.Unmarshal(b, &short); err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(short)) {
			value, effect, ok := strings.Cut(short[key], ":")
			if !ok {
				value, effect = "", short[key]
			}
			*t = append(*t, Taint{Key: key, Value: value, Effect: effect})
		}
		return nil
	}
	var list []map[string]string
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	for i, entry := range list {
		for k := range entry {
			if k != "key" && k != "value" && k != "effect" {
				return problem(fmt.Sprintf("taints[%d].%s", i, k), "unknown field; a taint has key, value and effect")
			}
		}
		*t = append(*t, Taint{Key: entry["key"], Value: entry["value"], Effect: entry["effect"]})
	}
	return nil
}
