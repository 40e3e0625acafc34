#!/usr/bin/env bash
# Runs every fuzz test of both modules for a while each: scripts/fuzz.sh 1m [regex of names]. With FUZZ_MAX_DEPS=n
# packages that link more than n others are left to the unit tests, which run their seeds: compiling client-go for
# coverage takes many minutes.
set -euo pipefail
time=${1:-1m}; only=${2:-.}
cd "$(dirname "$0")/.."
count=0
for module in . lab; do
  while IFS=: read -r file name; do
    [[ $name =~ $only ]] || continue
    if [ -n "${FUZZ_MAX_DEPS:-}" ] && [ "$(cd "$module" && go list -test -deps "./$(dirname "$file")" | wc -l)" -gt "$FUZZ_MAX_DEPS" ]; then
      echo "fuzz: $module/$(dirname "$file") $name: seeds only, it links more than $FUZZ_MAX_DEPS packages"
      continue
    fi
    echo "fuzz: $module/$(dirname "$file") $name for $time"
    (cd "$module" && go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "./$(dirname "$file")")
    count=$((count + 1))
  done < <(cd "$module" && git ls-files '*_test.go' | { [ "$module" = . ] && grep -v '^lab/' || cat; } |
    xargs grep -oE '^func Fuzz[A-Za-z0-9_]+' 2>/dev/null | sed 's/func //')
done
[ "$count" -gt 0 ] || { echo "fuzz: no fuzz test matches $only" >&2; exit 1; }
echo "fuzz: $count tests"
