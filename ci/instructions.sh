#!/usr/bin/env bash
# Instructions per page that zfolio spends around its codec, counted by callgrind, against a budget that CI holds.
# Exact, so no noise: a change of one instruction a page is a change of the code. Needs valgrind.
# ci/instructions.sh [--where] : with --where also the functions that they are spent in.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v valgrind >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get -qq update && apt-get -qq install -y valgrind >/dev/null
    else
        echo "skipped: instructions: no valgrind (Debian and Ubuntu: apt-get install valgrind)"
        exit 0
    fi
fi

bench=$(cargo bench -p zfolio-cli --bench instructions --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*instructions[^"]*\)".*/\1/p' | tail -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail=0

# count NAME FUNCTION MODE FOLIO_PAGES BUDGET
count() {
    local pages instructions per_page
    pages=$(valgrind --tool=callgrind --collect-atstart=no --toggle-collect="*$2*" \
        --callgrind-out-file="$work/$1" "$bench" "$3" "$4" 2>"$work/log")
    instructions=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$work/log")
    per_page=$((instructions / pages))
    printf '%-22s %5d instructions a page, budget %d\n' "$1" "$per_page" "$5"
    [ "$per_page" -le "$5" ] || fail=1
    if [ "${WHERE:-}" ]; then
        callgrind_annotate "$work/$1" 2>/dev/null | grep -E '^ *[0-9,]+ \(' | head -n 24 || true
    fi
}

[ "${1:-}" != --where ] || WHERE=1
# Budgets are what is, and 8 % (C libraries copy bytes differently on other CPUs). The aims, around the codec, are 600 for
# a page of a 64K store and 350 for a load; of what is counted for a load, 11 are the measuring loop's and 12 the trivial
# codec's.
count store-64K measured_store store 16 555
count store-4K measured_store store 1 1100
count load measured_load load 1 400
count load_batch-16 measured_load_batch load_batch 1 605
# The direct engine alone (prepare, submit, poll, collect), on a device that takes no time; the aim is 700. Of a page that
# is decompressed, 410 are the copy from the channel's memory to the caller's page by a C library with AVX2.
count compress-16 measured_compress compress 16 460
count compress-1 measured_compress compress 1 635
count decompress-16 measured_decompress decompress 16 850
count decompress-1 measured_decompress decompress 1 1040
[ "$fail" = 0 ] || { echo "over budget: see ci/instructions.sh --where"; exit 1; }
