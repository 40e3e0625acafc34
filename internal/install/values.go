package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"
)

// ValueFlags are a person's values in the order of their weight: files, --set, --set-string.
type ValueFlags struct {
	Files   []string
	Set     []string
	SetText []string
}

// Read merges them.
func (v ValueFlags) Read() (map[string]any, error) {
	out := map[string]any{}
	for _, path := range v.Files {
		f, err := os.Open(path)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("values file %s: there is no such file; check the path after --values", path)
			}
			return nil, fmt.Errorf("values file: %w", err)
		}
		values, err := loader.LoadValues(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("values file %s: expected YAML: %w", path, err)
		}
		out = loader.MergeMaps(out, values)
	}
	for _, s := range v.Set {
		if err := strvals.ParseInto(s, out); err != nil {
			return nil, fmt.Errorf("--set %s: expected NAME=VALUE: %w", s, err)
		}
	}
	for _, s := range v.SetText {
		if err := strvals.ParseIntoString(s, out); err != nil {
			return nil, fmt.Errorf("--set-string %s: expected NAME=VALUE: %w", s, err)
		}
	}
	return out, nil
}

// HelmCommand is what a person would type to get the same release with helm.
func HelmCommand(namespace, version string, values map[string]any) string {
	var sets []string
	flatten("", values, func(name, value string, isText bool) {
		flag := "--set"
		if isText {
			flag = "--set-string"
		}
		sets = append(sets, flag+" "+shellWord(name+"="+value))
	})
	sort.Strings(sets)
	parts := append([]string{"helm install", ReleaseName, ChartReference, "--version", strings.TrimPrefix(version, "v"), "--namespace", namespace}, sets...)
	return strings.Join(parts, " ")
}

func flatten(prefix string, v any, emit func(name, value string, isText bool)) {
	switch x := v.(type) {
	case map[string]any:
		if len(x) == 0 && prefix != "" {
			emit(prefix, "{}", false)
		}
		for key, y := range x {
			name := strings.ReplaceAll(key, ".", `\.`)
			if prefix != "" {
				name = prefix + "." + name
			}
			flatten(name, y, emit)
		}
	case []any:
		if len(x) == 0 {
			emit(prefix, "{}", false)
		}
		for i, y := range x {
			flatten(fmt.Sprintf("%s[%d]", prefix, i), y, emit)
		}
	case nil:
		emit(prefix, "null", false)
	case string:
		escaped := strings.NewReplacer(`\`, `\\`, `,`, `\,`, `{`, `\{`, `}`, `\}`).Replace(x)
		emit(prefix, escaped, looksTyped(x))
	default:
		emit(prefix, fmt.Sprint(x), false)
	}
}

// looksTyped is true for a text that --set would take for a number, a boolean or null.
func looksTyped(s string) bool {
	switch s {
	case "true", "false", "null", "":
		return s != ""
	}
	return strings.Trim(s, "0123456789") == ""
}

func shellWord(s string) string {
	if strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-=/:@%+,", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
