#!/usr/bin/env bash
# Every interleaving, within bounds, of the slot word, the parking lot and the LRU lists.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --package zfolio --release --lib --quiet loom
