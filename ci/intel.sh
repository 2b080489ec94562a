#!/usr/bin/env bash
# Intel's own programs, unmodified, on the model of the device: accel-config, libaccel-config and QPL from Debian's unstable
# packages, of both generations, with the model's faults too. Skipped by name where the packages cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$(ci/sid.sh 2>&1) || { echo "intel: skipped QPL and accel-config: $root"; exit 0; }
cargo build --quiet --release --package zfolio-cli
tests=$(cargo test --quiet --package zfolio-hwtests --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
conformance=$(grep /conformance- <<<"$tests")
streams=$(grep /qpl_streams- <<<"$tests")
zfolio=$PWD/target/release/zfolio
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# emulated WHAT OPTIONS COMMAND...: runs it, at most two minutes, and shows what it said only if it failed.
emulated() {
    local what=$1 options=$2
    shift 2
    local words
    IFS='|' read -ra words <<<"$options"
    if ! timeout 120 "$zfolio" emulate "${words[@]}" -- "$@" >"$log" 2>&1; then
        cat "$log"
        echo "intel: $what: failed"
        exit 1
    fi
    echo "intel: $what: $(grep -E '^test result' "$log" || echo good)"
}
said() {
    grep -q "$1" "$log" || { cat "$log"; echo "intel: expected: $1"; exit 1; }
}
# What is skipped here is skipped for reasons of ours.
nothing_skipped() {
    ! grep '^skipped' "$log" || { echo "intel: nothing may be skipped"; exit 1; }
}

for profile in spr gnr; do
    emulated "accel-config list, $profile" "--profile|$profile|--devices|2" "$root/run" "$root/usr/bin/accel-config" list
    said '"dev":"iax1"'
    for backend in qpl qpl_software; do
        emulated "conformance of $backend, $profile" "--profile|$profile" "$root/run" "$conformance" "$backend::" --nocapture
        nothing_skipped
    done
    emulated "streams of QPL and ours, $profile" "--profile|$profile" "$root/run" "$streams" --nocapture
    nothing_skipped
    emulated "doctor, $profile" "--profile|$profile|--devices|2" "$root/run" "$zfolio" doctor
    said 'IAA can be used'
    said 'QPL 1\.'
done
# Not among them: a device that computes a wrong CRC-32 of what it compresses, or turns a bit of what it decompressed after it
# computed the CRC-32. Only Verify::Always finds those.
for plan in 'full p=0.05' 'partial p=0.05' 'page-fault:read p=0.02; page-fault:write p=0.02' 'status:0x24 p=0.02' \
    'error:11 p=0.05' 'never every=400 op=compress' 'late:50ms every=300 op=decompress' 'wrong-crc p=0.02 op=decompress' \
    'output-too-large p=0.02' 'slow:10 p=0.1'; do
    emulated "conformance of qpl under '$plan'" "--faults|seed=1; $plan" "$root/run" "$conformance" qpl:: --nocapture
    nothing_skipped
done
