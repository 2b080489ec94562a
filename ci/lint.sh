#!/usr/bin/env bash
# Format, clippy and documentation, with every warning an error.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
# Off x86-64 nothing of ours has run, but the workspace is to build there.
elsewhere=aarch64-unknown-linux-gnu
if rustup target add "$elsewhere" 2>/dev/null; then
    cargo check --workspace --quiet --target "$elsewhere"
else
    echo "lint: skipped $elsewhere: rustup cannot add it"
fi
