#!/usr/bin/env bash
# Some seconds of each fuzz target of the codecs, from made-up seeds. A crash fails, and leaves its input in
# fallback/fuzz/artifacts. SECONDS_PER_TARGET (10) sets how long.
set -euo pipefail
cd "$(dirname "$0")/../fallback"

seconds=${SECONDS_PER_TARGET:-10}

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: skipped lz4_decode, deflate_decode, vw_decode, vw_round_trip, round_trip: no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    cargo install cargo-fuzz --version 0.13.2 --locked
fi

for target in lz4_decode deflate_decode vw_decode vw_round_trip round_trip; do
    echo "fuzz: $target for $seconds seconds"
    cargo +nightly fuzz build "$target"
    mkdir -p "fuzz/corpus/$target"
    # Streams of real text, each behind the two bytes of the length it decodes to.
    cargo run --quiet --release --package zfolio-fallback --example fuzz_seeds -- "$target" "fuzz/corpus/$target"
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=8192 -timeout=10 -verbosity=0
done
