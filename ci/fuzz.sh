#!/usr/bin/env bash
# Some seconds of each fuzz target of the codecs and of the device's model, from made-up seeds. A crash fails, and leaves
# its input in fuzz/artifacts beside the crate. SECONDS_PER_TARGET (10) sets how long.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${SECONDS_PER_TARGET:-10}

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: skipped lz4_decode, lz4_page, deflate_decode, vw_decode, vw_round_trip, round_trip, descriptor: no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    cargo install cargo-fuzz --version 0.13.2 --locked
fi

# Runs a target of a crate, with seeds that the rest of the arguments write to a directory, its name the last of them.
fuzz() {
    local crate=$1 target=$2
    shift 2
    echo "fuzz: $target for $seconds seconds"
    mkdir -p "$crate/fuzz/corpus/$target"
    "$@" "$crate/fuzz/corpus/$target"
    (
        cd "$crate"
        cargo +nightly fuzz build "$target"
        cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=8192 -timeout=10 -verbosity=0
    )
}

seeds() {
    cargo run --quiet --release --package "$1" --example "${@:2}"
}

for target in lz4_decode lz4_page deflate_decode vw_decode vw_round_trip round_trip; do
    # Streams of real text, each behind the two bytes of the length it decodes to.
    fuzz fallback "$target" seeds zfolio-fallback fuzz_seeds -- "$target"
done
fuzz accel/model descriptor seeds iaa-model descriptor_seeds --
