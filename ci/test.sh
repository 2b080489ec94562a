#!/usr/bin/env bash
# The tests as users build the library: optimised, without debug assertions. `cargo test` runs them with.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --workspace --release --quiet
