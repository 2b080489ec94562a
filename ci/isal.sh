#!/usr/bin/env bash
# Compares the ratio of our DEFLATE encoder with ISA-L level 0, static table, on the same pages of memory.
#
#     ci/isal.sh [FILE.pages...]
#
# Without files it captures some memory of the machine. Fails if ours is below 0.98 of ISA-L's.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "isal: skipped the ratio against ISA-L: $1"
    exit 0
}

have_isal() {
    echo '#include <isa-l/igzip_lib.h>' | cc -E - >/dev/null 2>&1
}

command -v cc >/dev/null || skip "no C compiler"
if ! have_isal; then
    command -v apt-get >/dev/null || skip "no libisal-dev, and no apt-get to install it"
    [ "$(id -u)" = 0 ] || skip "no libisal-dev, and only root can install it"
    { apt-get update && apt-get install --yes libisal-dev; } >/dev/null 2>&1 || skip "libisal-dev cannot be installed"
    have_isal || skip "libisal-dev has no igzip_lib.h"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ $# = 0 ]; then
    cargo run --quiet --release --package zfolio-cli -- capture --self --out "$work/self.pages"
    set -- "$work/self.pages"
fi

cc -O2 -Wall -Werror -o "$work/isal_ratio" ci/isal_ratio.c -lisal
read -r isal_pages isal_bytes < <("$work/isal_ratio" "$@")
read -r pages bytes < <(cargo run --quiet --release --package zfolio-fallback --example deflate_ratio -- "$@")
if [ "$pages" != "$isal_pages" ] || [ "$pages" = 0 ]; then
    echo "isal: both should have read the same pages, and some: $pages against $isal_pages" >&2
    exit 1
fi
awk -v pages="$pages" -v ours="$bytes" -v isal="$isal_bytes" 'BEGIN {
    printf "isal: %d pages: ours %.3f, ISA-L level 0 static %.3f, quotient %.4f (at least 0.98)\n",
        pages, pages * 4096 / ours, pages * 4096 / isal, isal / ours
    exit isal / ours < 0.98
}'
