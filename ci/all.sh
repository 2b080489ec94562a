#!/usr/bin/env bash
# Everything CI checks beside `cargo test`, in the order of how soon it finds a mistake. Each script runs by hand.
set -euo pipefail
cd "$(dirname "$0")"
for step in lint bindings graph test zstd io-uring loom shuttle bench-smoke emulate intel model instructions fuzz isal; do
    echo "== $step"
    SECONDS=0
    "./$step.sh"
    echo "== $step: done in $SECONDS s"
done
