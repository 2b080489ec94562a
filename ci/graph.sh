#!/usr/bin/env bash
# What a program links that uses the library: at most 8 crates from the registry, no C build, no proc macro.
set -euo pipefail
cd "$(dirname "$0")/.."
crates=$(cargo tree --package zfolio --edges normal,build --prefix none --format '{p}' |
    grep -v ' (/' | sed 's/ (\*)$//' | sort -u)
count=$(printf '%s\n' "$crates" | wc -l)
printf '%s crates from the registry: %s\n' "$count" "$(printf '%s\n' "$crates" | paste -sd, | sed 's/,/, /g')"
[ "$count" -le 8 ] || { echo "more than 8"; exit 1; }
if printf '%s\n' "$crates" | grep -E '^(cc|cmake|pkg-config|bindgen|syn|quote|proc-macro2) |\(proc-macro\)'; then
    echo "a C build or a proc macro is in the graph"
    exit 1
fi
