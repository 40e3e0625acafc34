package main

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	got, err := parse("begin reasons */ \\\n X(0, FORWARDED, \"passed on\", \"\") \\\n X(35, SOURCE_MAC, \"a \\\"b\\\"\", \"do\") \\\n /* end reasons */")
	if err != nil || len(got) != 2 || got[1].number != 35 || got[1].text != `a "b"` || goName(got[1].name) != "ReasonSourceMAC" || labelName(got[1].name) != "source-mac" {
		t.Errorf("got %+v, %v", got, err)
	}
	source, err := render(got, []file{{7, "bpf/x.c"}})
	if err != nil || !strings.Contains(string(source), "ReasonSourceMAC Reason = 35") || !strings.Contains(string(source), "case 7:\n\t\treturn \"bpf/x.c\"") {
		t.Errorf("rendered %s, %v", source, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, source := range map[string]string{
		"no markers":   `X(0, A, "a", "")`,
		"no end":       `begin reasons X(0, A, "a", "")`,
		"nothing":      `begin reasons end reasons`,
		"same number":  `begin reasons X(1, A, "a", "") X(1, B, "b", "") end reasons`,
		"out of order": `begin reasons X(2, A, "a", "") X(1, B, "b", "") end reasons`,
		"same name":    `begin reasons X(1, A, "a", "") X(2, A, "b", "") end reasons`,
		"no advice":    `begin reasons X(1, A, "a", "") X(2, B, "b") end reasons`,
	} {
		if got, err := parse(source); err == nil {
			t.Errorf("%s: parsed as %+v, expected an error", name, got)
		}
	}
}

func TestParseFiles(t *testing.T) {
	got, err := parseFiles("begin files */ \\\n F(1, A, \"bpf/a.c\") \\\n F(3, B, \"bpf/b.h\") end files")
	if err != nil || len(got) != 2 || got[1] != (file{3, "bpf/b.h"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, source := range map[string]string{
		"no markers":   `F(1, A, "a")`,
		"nothing":      `begin files end files`,
		"out of order": `begin files F(2, A, "a") F(1, B, "b") end files`,
		"too large":    `begin files F(256, A, "a") end files`,
		"no path":      `begin files F(1, A) end files`,
	} {
		if got, err := parseFiles(source); err == nil {
			t.Errorf("%s: parsed as %+v, expected an error", name, got)
		}
	}
}
