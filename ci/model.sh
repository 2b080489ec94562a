#!/usr/bin/env bash
# The model of the device with faults: a thousand seeds of fault plans under the store, and the conformance suite on the
# model. CAMPAIGN_SEEDS=10000 for more; a seed that fails is printed with its plan.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test -q -p zfolio-hwtests --test campaign -- --nocapture
cargo test -q -p zfolio-hwtests --test conformance model
