#!/usr/bin/env bash
# Whether `zfolio bench --ab` can be believed: the same settings against themselves, and against a store slowed down by 3 %.
#
#     ci/ab.sh [EQUAL [PLANTED]]
#
# Of EQUAL (200) comparisons of equals at most one in twenty may call a difference; of PLANTED (20) slowdowns at least nine in
# ten must be found. By hand, on a machine with nothing else to do; it takes a quarter of an hour.
set -euo pipefail
cd "$(dirname "$0")/.."
equal=${1:-200} planted=${2:-20}
cargo build --quiet --release --package zfolio-cli
zfolio=target/release/zfolio
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$zfolio" capture --self --out "$work/self.pages" >/dev/null 2>&1

# compare OPTIONS_OF_B: the verdicts, one a line.
compare() {
    "$zfolio" bench --corpus "$work/self.pages" --pages 2048 --codec lz4 --json "$work/ab.jsonl" --ab '' "$1" \
        >/dev/null || [ $? = 3 ]
    # Wall times of a busy machine are not called.
    grep '"busy_wall_over_cpu":null' "$work/ab.jsonl"
}

called=0
for _ in $(seq "$equal"); do
    ! compare '' | grep -qE '"verdict":"(slower|faster)"' || called=$((called + 1))
done
found=0 longest=0
for _ in $(seq "$planted"); do
    SECONDS=0
    ! compare '--slow-store 3' | grep '"store_cpu' | grep -q '"verdict":"slower"' || found=$((found + 1))
    [ "$SECONDS" -le "$longest" ] || longest=$SECONDS
done
echo "equals: a difference called in $called of $equal; 3 % planted: found in $found of $planted, within $longest s each"
[ $((called * 20)) -le "$equal" ] && [ $((found * 10)) -ge $((planted * 9)) ]
