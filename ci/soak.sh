#!/usr/bin/env bash
# Everything at once, every byte verified, for so many minutes: stores, loads, shrinkers, compaction, a reclaimer, tenants and
# swap areas that come and go, and an engine and a swap device that fail now and then.
#
#     ci/soak.sh MINUTES
set -euo pipefail
cd "$(dirname "$0")/.."
ZFOLIO_SOAK_MINUTES=${1:?minutes} cargo test --package zfolio --lib -- --exact tests::soak::everything_at_once --nocapture
