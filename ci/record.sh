#!/usr/bin/env bash
# Records what stands in benches/results of this machine: the main job, a sweep, latency under load, the engine and the store on
# modelled devices, the simulation of many threads and devices, and the report of all of them.
#
#     ci/record.sh [FOLDER]
#
# By hand, on a machine with nothing else to do; it takes some three minutes. Ended and started anew it goes on with the
# sweep. FOLDER is benches/results unless told.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-benches/results}
mkdir -p "$out"
cargo build --quiet --release --package zfolio-cli
zfolio=target/release/zfolio
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# step LIMIT NAME COMMAND...: no longer than LIMIT, what it prints in NAME.txt.
step() {
    local limit=$1 name=$2
    shift 2
    echo "== $name"
    SECONDS=0
    timeout --signal=INT --kill-after=30 "$limit" "$@" >"$out/$name.txt"
    echo "== $name: done in $SECONDS s"
}

"$zfolio" capture --self --out "$work/self.pages" >/dev/null 2>&1
pages=(--corpus "$work/self.pages")
step 120 bench "$zfolio" bench --json "$out/bench.jsonl"
step 180 sweep "$zfolio" bench sweep "${pages[@]}" --pages 8192 --backend software,model --devices 1,4 --window 1,8,32 \
    --folio 4K,64K --threads 1,2 --rounds 5 --json "$out/sweep.jsonl"
rm -f "$out/latency.jsonl"
for rate in 5000 20000; do
    step 60 "latency-$rate" "$zfolio" bench latency "${pages[@]}" --rate "$rate" --json "$work/latency.jsonl"
    cat "$work/latency.jsonl" >>"$out/latency.jsonl"
done
for op in compress decompress; do
    step 90 "engine-$op" "$zfolio" bench engine "${pages[@]}" --backend model --op "$op" --json "$out/engine-$op.jsonl"
done
step 120 simulate-measure "$zfolio" simulate --measure
step 300 simulate "$zfolio" simulate --profile spr,gnr --json "$work/simulate.jsonl"
# Half a kilobyte for each of some three thousand settings, and the same each time: not kept.
"$zfolio" report "$out"/{bench,sweep,latency,engine-compress,engine-decompress}.jsonl "$work/simulate.jsonl" \
    --out "$out/report.html" --title "zfolio: recorded results"
