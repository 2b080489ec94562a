#!/usr/bin/env bash
# The feature io-uring, which no default build has: lints, and swap devices with it. Where the kernel refuses io_uring, it is the fallback
# that is tested, and what could not be is named.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo clippy --package zfolio --all-targets --features io-uring --quiet -- -D warnings
run() {
    out=$(cargo test --package zfolio --features io-uring "$@" -- --nocapture 2>&1) || { printf '%s\n' "$out"; exit 1; }
    printf '%s\n' "$out" | grep -E '^skipped|^test result' | sort -u
}
run --lib swap
run --test file_device --test fork
