package loadbalancer

import (
	"testing"

	"k8s.io/apimachinery/pkg/labels"
)

func TestSliceSelector(t *testing.T) {
	for name, tt := range map[string]struct {
		labels labels.Set
		want   bool
	}{
		"none":         {nil, true},
		"its service":  {labels.Set{"kubernetes.io/service-name": "a"}, true},
		"headless":     {labels.Set{"kubernetes.io/service-name": "a", "service.kubernetes.io/headless": ""}, false},
		"other proxy":  {labels.Set{"service.kubernetes.io/service-proxy-name": "mesh"}, false},
		"other prefix": {labels.Set{"example.com/headless": ""}, true},
	} {
		if got := SliceSelector().Matches(tt.labels); got != tt.want {
			t.Errorf("%s: counts %v, expected %v", name, got, tt.want)
		}
	}
}
