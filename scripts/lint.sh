#!/usr/bin/env bash
# gofmt, vet, staticcheck, clang-format and the rules of the house, over both modules.
set -uo pipefail
cd "$(dirname "$0")/.."
bad=0
say() { echo "lint: $*"; bad=1; }
out=$(git ls-files '*.go' | xargs gofmt -l); [ -z "$out" ] || say "not gofmt'ed: $out"
out=$(git ls-files 'bpf/*.c' 'bpf/*.h' | xargs -r clang-format-16 --dry-run 2>&1 | head -20); [ -z "$out" ] || say "not clang-format'ed: $out"
for module in . lab; do
  (cd "$module" && go vet ./...) || say "go vet in $module"
  (cd "$module" && go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...) || say "staticcheck in $module"
done
out=$(git ls-files | grep -E '/(utils?|common|helpers?|misc)(/|\.go$)'); [ -z "$out" ] || say "names that say nothing: $out"
out=$(git grep -nE 'time\.Sleep\(' -- '*_test.go'); [ -z "$out" ] || say "sleeps in tests: $out"
out=$(git grep -nE '\b(panic|os\.Exit|log\.Fatal[a-z]*)\(' -- '*.go' ':!*_test.go' ':!**/main.go'); [ -z "$out" ] || say "panics or exits outside main: $out"
exit $bad
