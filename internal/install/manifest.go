package install

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Objects parses a rendered manifest.
func Objects(manifest string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, doc := range strings.Split("\n"+manifest, "\n---") {
		content := map[string]any{}
		if err := yaml.Unmarshal([]byte(doc), &content); err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		if len(content) == 0 {
			continue
		}
		out = append(out, &unstructured.Unstructured{Object: content})
	}
	return out, nil
}

// kinds are the resources behind the kinds that the chart makes.
func resourceOf(kind string) string {
	switch kind {
	case "ValidatingAdmissionPolicy":
		return "validatingadmissionpolicies"
	default:
		return strings.ToLower(kind) + "s"
	}
}

func label(o *unstructured.Unstructured) string {
	if ns := o.GetNamespace(); ns != "" {
		return fmt.Sprintf("%s %s/%s", o.GetKind(), ns, o.GetName())
	}
	return fmt.Sprintf("%s %s", o.GetKind(), o.GetName())
}
