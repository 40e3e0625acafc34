#!/usr/bin/env bash
# Generates everything anew and fails if a checked-in file differs: `make generate` mends it.
set -euo pipefail
cd "$(dirname "$0")/.."
before=$(mktemp) && after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
sum() { git ls-files -z --cached --others --exclude-standard | xargs -0 sha256sum 2>/dev/null | sort -k2; }
sum > "$before"
make --no-print-directory generate
sum > "$after"
if ! diff "$before" "$after"; then
  echo "check-generated: the files above were not fresh; commit what \`make generate\` made" >&2
  exit 1
fi
