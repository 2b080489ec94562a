#!/usr/bin/env bash
# A short bench of the codecs that are compared by default over real pages of this machine, whose answers are checked: no mismatched page, no
# failed check, a line for every round and a summary for every corpus and codec.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT
cargo run --release --quiet -- bench --pages 4096 --rounds 2 --json "$out" >/dev/null
lines=$(grep -c '"kind":"round"' "$out")
summaries=$(grep -c '"kind":"summary"' "$out")
clean=$(grep -c '"mismatched_pages":0[,}]' "$out")
echo "$lines rounds, $summaries summaries, $clean of them without a mismatched page"
[ "$lines" -gt 0 ] && [ "$lines" = $((summaries * 2)) ] && [ "$clean" = $((lines + summaries)) ]
