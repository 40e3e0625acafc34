package config

import (
	"strings"
	"testing"
)

func TestServices(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"kubeProxyReplacement: true\nloadBalancer: {algorithm: maglev, serviceTopology: false}\nmaglev: {tableSize: 251}\nnodePort: {range: 31000-32000, addresses: [10.0.0.0/8]}": "",
		"loadBalancer: {algorithm: best}":   `loadBalancer.algorithm: is "best", expected random or maglev`,
		"maglev: {tableSize: 250}":          "maglev.tableSize: is 250",
		"nodePort: {range: many}":           "nodePort.range:",
		"nodePort: {addresses: [10.0.0.1]}": `nodePort.addresses: has "10.0.0.1"`,
		"serviceNoBackendResponse: lie":     `serviceNoBackendResponse: is "lie"`,
		"kubeProxyReplacement: strict":      "configuration:",
	} {
		_, err := Parse([]byte("cluster: {name: c1}\n" + text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: found %v, expected %q", text, err, want)
		}
	}
}
