#!/usr/bin/env bash
# Whole stores whose engine and swap device fail by seed, under the random and the PCT scheduler of shuttle: every byte and every
# answer verified.
#
#     ci/shuttle.sh [SCHEDULES]
set -euo pipefail
cd "$(dirname "$0")/.."
export ZFOLIO_SHUTTLE_SCHEDULES=${1:-1000}
RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle \
    cargo test --package zfolio --lib --quiet shuttle_ -- --nocapture
