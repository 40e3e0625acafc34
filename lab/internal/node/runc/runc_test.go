package runc

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	for _, tt := range []struct{ args, bundle, process string }{
		{"--root /run/r --log l create --bundle /b --pid-file /p id", "/b", ""},
		{"--root /run/r create --bundle=/b id", "/b", ""},
		{"run id", ".", ""},
		{"exec --process /tmp/p.json --detach id", "", "/tmp/p.json"},
		{"delete --force id", "", ""},
		{"create --bundle", ".", ""},
		{"", "", ""},
	} {
		bundle, process := Files(strings.Fields(tt.args))
		if bundle != tt.bundle || process != tt.process {
			t.Errorf("Files(%q) = %q, %q; want %q, %q", tt.args, bundle, process, tt.bundle, tt.process)
		}
	}
}

const config = `{"process":{"capabilities":{"bounding":["CAP_BPF","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE"]},"user":{"uid":9007199254740993}},
 "linux":{"resources":{"devices":[{"allow":true}],"memory":{"limit":1},"cpu":{"shares":2}},"namespaces":[{"type":"pid"}]}}`

func TestTrim(t *testing.T) {
	for _, tt := range []struct {
		name          string
		node          Node
		memory, capab bool
	}{
		{"hybrid machine without the capability", Node{}, false, false},
		{"usual server", Node{Controllers: true, SysResource: true}, true, true},
		{"controllers only", Node{Controllers: true}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := edit(path, tt.node.TrimConfig); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := string(b)
			if !json.Valid(b) || !strings.Contains(got, "CAP_BPF") || !strings.Contains(got, `"devices"`) || !strings.Contains(got, `"pid"`) {
				t.Errorf("lost something: %s", got)
			}
			if !strings.Contains(got, "9007199254740993") {
				t.Errorf("a number changed: %s", got)
			}
			if strings.Contains(got, `"memory"`) != tt.memory {
				t.Errorf("memory limit kept = %v, want %v: %s", !tt.memory, tt.memory, got)
			}
			if strings.Contains(got, "CAP_SYS_RESOURCE") != tt.capab {
				t.Errorf("capability kept = %v, want %v: %s", !tt.capab, tt.capab, got)
			}
		})
	}
}

func FuzzTrim(f *testing.F) {
	f.Add([]byte(config))
	f.Add([]byte(`{"process":{"capabilities":[]},"linux":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c map[string]any
		if json.Unmarshal(b, &c) != nil {
			return
		}
		Node{}.TrimConfig(c)
		out, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := c["process"].(map[string]any); ok {
			if caps, ok := p["capabilities"].(map[string]any); ok {
				for set, v := range caps {
					list, _ := v.([]any)
					for _, e := range list {
						if e == "CAP_SYS_RESOURCE" {
							t.Fatalf("%s keeps it: %s", set, out)
						}
					}
				}
			}
		}
	})
}
