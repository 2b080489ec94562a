#!/usr/bin/env bash
# How much of zfolio's speed is the placement of its code: builds of the same source with other alignments and orders of
# functions, measured interleaved in many layouts, every byte checked.
#
#     ci/perturb.sh [BUILDS [PROCESSES [BENCH OPTIONS]]]
#     ci/perturb.sh 8 6 --codec vw --corpus FILE.pages
#     ci/perturb.sh 12 2 --ab '--codec lz4' '--codec vw'
#
# BUILDS (6) are the plain one, two with other alignments, and the rest with functions in random order; each is measured in
# PROCESSES (5) processes. By hand: a build takes a minute, and a figure wants a machine with nothing else to do. How to read
# the table stands below it; "build's share" is what placement does beyond what differs between processes of one build.
set -euo pipefail
cd "$(dirname "$0")/.."
builds=${1:-6} processes=${2:-5}
[ "$builds" -ge 2 ] || { echo "one build cannot be compared with others"; exit 2; }
shift $(($# < 2 ? $# : 2))
# The library's dependencies are built once for all of them, and the ordinary build is left alone.
target=${CARGO_TARGET_DIR:-target}/perturb
kept=$target/builds
mkdir -p "$kept"

# build NAME RUSTC_OPTION...
build() {
    local name=$1
    shift
    cargo rustc --quiet --release --package zfolio-cli --bin zfolio --target-dir "$target" -- "$@" || return 1
    cp "$target/release/zfolio" "$kept/$name" || return 1
    measured+=(--build "$kept/$name")
    echo "built $name" >&2
}

measured=()
for number in $(seq "$builds"); do
    case $number in
    1) build plain ;;
    2) build functions-64 -C llvm-args=-align-all-functions=6 ;;
    3) build blocks-32 -C llvm-args=-align-all-nofallthru-blocks=5 ;;
    *)
        seed=$((number - 3))
        if ! build "shuffled-$seed" -C "link-arg=-Wl,--shuffle-sections=.text*=$seed" 2>"$target/log"; then
            echo "skipped: shuffled functions: the linker has no --shuffle-sections (lld has)" >&2
            tail -n 3 "$target/log" >&2
            break
        fi
        ;;
    esac
done
[ "$#" -gt 0 ] || set -- --codec lz4 --pages 4096 --rounds 7
exec "$kept/plain" bench --perturb "$processes" "${measured[@]}" "$@"
