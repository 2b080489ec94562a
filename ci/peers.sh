#!/usr/bin/env bash
# The store beside Linux zram and zswap, nbdkit and bare codecs: the same pages, interleaved in one run (`zfolio bench peers`).
#
#     ci/peers.sh [FILE.pages | OPTION...]
#
# Options go to `zfolio bench peers` (such as --rounds 24, --json FILE). Without a FILE.pages the memory of a few programs is
# captured: the command line's own workload, and of python3, node and java those that are installed. By hand, as root, on a
# machine with nothing else to do.
#
# zram gets a device of its own. zswap is raced only where nobody swaps: it gets a swap area (a file behind a loop device, which no
# page reaches), and the kernel refuses large folios at swap-in from then on until the next boot, as whenever zswap was enabled.
# nbdkit is installed where apt has it, and stays; what else is missing is left out by name. All settings are restored when this
# ends and all it started have, however they end: a process of its own waits for that.
set -euo pipefail
cd "$(dirname "$0")/.."

zswap=/sys/module/zswap/parameters
cluster=/proc/sys/vm/page-cluster
work=$(mktemp -d)
corpora=() options=()
for argument in "$@"; do
    case $argument in
        *.pages) corpora+=(--corpus "$argument") ;;
        *) options+=("$argument") ;;
    esac
done

cargo build --quiet --release --package zfolio-cli
zfolio=$PWD/target/release/zfolio

# again SECONDS COMMAND...: tries until it succeeds.
again() {
    local end=$((SECONDS + $1))
    shift
    until "$@" 2>/dev/null; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

# Undoes what the files in $work say was done. Whatever fails, the rest is tried, and the failure is told.
restore() {
    set +e
    local device value name
    if [ -e "$work/swap" ]; then
        device=$(cat "$work/swap")
        ! grep -q "^$device " /proc/swaps || swapoff "$device" || echo "peers: swapoff $device failed" >&2
    fi
    for name in enabled compressor page-cluster; do
        [ -e "$work/was-$name" ] || continue
        value=$(cat "$work/was-$name")
        if [ "$name" = page-cluster ]; then echo "$value" >$cluster; else echo "$value" >"$zswap/$name"; fi ||
            echo "peers: $name could not be set back to $value" >&2
    done
    [ ! -e "$work/swap" ] || losetup --detach "$(cat "$work/swap")" || echo "peers: losetup --detach failed" >&2
    if [ -e "$work/zram" ]; then
        value=$(cat "$work/zram")
        again 10 sh -c "echo 1 >/sys/block/zram$value/reset" &&
            again 10 sh -c "echo $value >/sys/class/zram-control/hot_remove" ||
            echo "peers: zram$value could not be removed" >&2
    fi
    rm -rf "$work"
}

# The one that waits. The pipe closes when the last process that has it, this script or one it started, is gone.
exec {alive}> >(trap '' HUP INT TERM; cat >/dev/null; restore)
waiter=$!
ended() {
    exec {alive}>&-
    wait "$waiter" 2>/dev/null || true
}
# stop CODE: ends the race first, which then says what it has found so far.
bench=
stop() {
    trap '' HUP INT TERM
    [ -z "$bench" ] || { kill -TERM "$bench" && wait "$bench"; } 2>/dev/null || true
    exit "$1"
}
trap ended EXIT
trap 'stop 130' INT
trap 'stop 143' TERM
trap 'stop 129' HUP

left_out() { echo "peers: left out $1: $2"; }

add_zram() {
    [ "$(id -u)" = 0 ] || { left_out zram "not root"; return; }
    [ -e /sys/class/zram-control ] || modprobe zram 2>/dev/null || true
    [ -r /sys/class/zram-control/hot_add ] || { left_out zram "this kernel has none"; return; }
    cat /sys/class/zram-control/hot_add >"$work/zram"
    local device
    device=/dev/zram$(cat "$work/zram")
    again 5 test -b "$device" || { left_out zram "$device did not appear"; return; }
    options+=(--zram "$device")
}

enable_zswap() {
    local reason= tool
    if [ "$(id -u)" != 0 ]; then reason="not root"
    elif [ ! -w $zswap/enabled ]; then reason="this kernel has none"
    elif [ "$(wc -l </proc/swaps)" -gt 1 ]; then reason="this machine swaps already, and its swap is left alone"
    fi
    for tool in losetup mkswap swapon; do
        command -v $tool >/dev/null || reason=${reason:-no $tool}
    done
    [ -z "$reason" ] || { left_out zswap "$reason"; return; }
    truncate --size 8G "$work/area"
    losetup --find --show "$work/area" >"$work/swap"
    local device compressor
    device=$(cat "$work/swap")
    mkswap "$device" >/dev/null
    cat $zswap/compressor >"$work/was-compressor"
    cat $cluster >"$work/was-page-cluster"
    cat $zswap/enabled >"$work/was-enabled"
    # Like with like, where the kernel has it.
    for compressor in lz4 lzo; do
        ! echo $compressor >$zswap/compressor 2>/dev/null || break
    done
    echo 0 >$cluster
    echo Y >$zswap/enabled
    swapon "$device"
    options+=(--zswap)
}

# capture NAME COMMAND...: memory of a program that says "ready" when it has built its data.
capture() {
    local name=$1 pid
    shift
    command -v "$1" >/dev/null || { left_out "memory of $name" "not installed"; return; }
    "$@" >"$work/$name.said" 2>/dev/null &
    pid=$!
    if again 120 grep -q ready "$work/$name.said"; then
        # Through wrappers to the program itself.
        local child
        while child=$(pgrep --parent "$pid" | head -n 1) && [ -n "$child" ]; do pid=$child; done
        "$zfolio" capture --pid "$pid" --max 96M --out "$work/$name.pages" >/dev/null &&
            corpora+=(--corpus "$work/$name.pages")
    else
        left_out "memory of $name" "it did not get ready"
    fi
    kill "$pid" 2>/dev/null || true
}

if [ ${#corpora[@]} = 0 ]; then
    "$zfolio" capture --self --out "$work/self.pages" >/dev/null
    corpora+=(--corpus "$work/self.pages")
    capture python python3 -c '
import json, random, time
random.seed(2)
rows = [{"id": i, "name": "n%d" % (i % 977), "v": random.random(), "tags": [str(i % 7), str(i % 13)]} for i in range(150000)]
index = {}
for row in rows: index.setdefault(row["name"], []).append(row["id"])
texts = [json.dumps(row) for row in rows[:60000]]
print("ready", flush=True)
time.sleep(300)'
    capture node node -e '
const rows = [];
for (let i = 0; i < 200000; i++) rows.push({id: i, name: "item" + i % 991, price: Math.sin(i) * 100, tags: ["a" + i % 5, "b" + i % 11]});
const texts = rows.slice(0, 60000).map(row => JSON.stringify(row));
const index = new Map();
for (const row of rows) { if (!index.has(row.name)) index.set(row.name, []); index.get(row.name).push(row); }
console.log("ready");
setTimeout(() => console.log(texts.length, index.size), 300000);'
    cat >"$work/Words.java" <<'JAVA'
import java.util.*;
public class Words {
    public static void main(String[] arguments) throws Exception {
        Random random = new Random(3);
        Map<String, List<Integer>> index = new HashMap<>();
        List<String> texts = new ArrayList<>();
        for (int i = 0; i < 60000; i++) {
            StringBuilder text = new StringBuilder();
            for (int j = 0; j < 12; j++) {
                String word = "word" + Math.abs((int) (random.nextGaussian() * 3000));
                text.append(word).append(' ');
                index.computeIfAbsent(word, key -> new ArrayList<>()).add(i);
            }
            texts.add(text.toString());
        }
        System.out.println("ready");
        Thread.sleep(300000);
        System.out.println(texts.size() + index.size());
    }
}
JAVA
    capture jvm java -Xmx400m "$work/Words.java"
fi

command -v nbdkit >/dev/null || [ "$(id -u)" != 0 ] ||
    apt-get install --yes --no-install-recommends nbdkit >/dev/null 2>&1 || true
add_zram
enable_zswap
# In the background, as bash takes signals between commands only.
"$zfolio" bench peers "${corpora[@]}" "${options[@]}" &
bench=$!
wait "$bench"
