package labbench

import "testing"

func TestSetting(t *testing.T) {
	const config = "version = 3\n[a]\n  sandbox = \"host/pause:3.10\"\nsandboxer = \"no\"\n"
	if v, ok := setting(config, "sandbox"); !ok || v != "host/pause:3.10" {
		t.Errorf("found %q, %v", v, ok)
	}
	if v, ok := setting(config, "BinaryName"); ok {
		t.Errorf("found %q, expected nothing", v)
	}
}
