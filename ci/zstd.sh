#!/usr/bin/env bash
# The feature zstd, which no default build has: lints, the codec, and recompression with it.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo clippy --package zfolio-fallback --package zfolio --all-targets --features zfolio-fallback/zstd,zfolio/zstd --quiet -- -D warnings
cargo test --package zfolio-fallback --features zstd --quiet --test zstd --test round_trip
cargo test --package zfolio --features zstd --quiet --lib zstd
