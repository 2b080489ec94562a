#!/usr/bin/env bash
# Makes the checked-in bindings of libaccel-config and QPL again from their headers, and compares. `--write` replaces them.
# Skipped by name where libclang, bindgen or a header cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.73.2

skip() {
    echo "bindings: skipped $1: $2"
}

ldconfig -p | grep -q libclang || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
    { skip all "no libclang (Debian: apt-get install libclang-dev)"; exit 0; }
bindgen=target/tools/bin/bindgen
[ -x "$bindgen" ] || cargo install bindgen-cli --version "$version" --locked --quiet --root target/tools ||
    { skip all "bindgen $version cannot be installed"; exit 0; }
made=$(mktemp)
trap 'rm -f "$made"' EXIT

# compare CHECKED_IN HEADER [OPTION...] [-- CLANG_OPTION...]
compare() {
    local checked_in=$1 header=$2
    shift 2
    "$bindgen" "$header" --output "$made" --default-enum-style consts --no-prepend-enum-name --no-layout-tests \
        --no-doc-comments --merge-extern-blocks --use-core --rust-edition 2024 --rust-target 1.85 "$@"
    rustfmt --edition 2024 --config-path rustfmt.toml "$made"
    if [ "$write" ]; then
        cp "$made" "$checked_in"
    else
        diff -u "$checked_in" "$made" || { echo "$header gives other bindings; $0 --write replaces them"; exit 1; }
        echo "bindings: $checked_in is as $(basename "$header") gives it"
    fi
}
write=
[ "${1-}" != --write ] || write=yes

header=/usr/include/accel-config/libaccel_config.h
if [ ! -e "$header" ]; then
    skip libaccel-config "no $header (Debian: apt-get install libaccel-config-dev)"
elif grep -q accfg_device_get_iaa_cap "$header"; then
    skip libaccel-config "$header is newer than 3.5.3, from which the bindings are made"
else
    functions='accfg_(new|unref)|accfg_device_get_(first|next|devname|state|gen_cap|numa_node|version)'
    functions+='|accfg_wq_get_(first|next|devname|state|mode|type|size|user_dev_path)'
    compare accel/idxd-sys/src/accfg/bindings.rs "$header" --allowlist-function "$functions"
fi

if sid=$(ci/sid.sh 2>&1); then
    include=$sid/usr/include
    compare accel/qpl-sys/src/bindings.rs "$include/qpl/qpl.h" \
        --allowlist-function 'qpl_(get_job_size|init_job|submit_job|check_job|fini_job|get_library_version)' \
        --allowlist-var 'QPL_FLAG_(FIRST|LAST|DYNAMIC_HUFFMAN|OMIT_VERIFY)' -- -I"$include"
else
    skip QPL "$sid"
fi
