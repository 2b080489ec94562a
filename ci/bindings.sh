#!/usr/bin/env bash
# Makes the checked-in bindings of libaccel-config again from the installed header, and compares. `--write` replaces them.
# Skipped by name where the header, libclang or bindgen is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
header=/usr/include/accel-config/libaccel_config.h
checked_in=accel/idxd-sys/src/accfg/bindings.rs
version=0.73.2

[ -e "$header" ] || { echo "skipped: bindings (no $header; Debian: apt-get install libaccel-config-dev)"; exit 0; }
if grep -q accfg_device_get_iaa_cap "$header"; then
    echo "skipped: bindings ($header is newer than 3.5.3, from which the bindings are made)"
    exit 0
fi
ldconfig -p | grep -q libclang || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
    { echo "skipped: bindings (no libclang; Debian: apt-get install libclang-dev)"; exit 0; }
bindgen=target/tools/bin/bindgen
[ -x "$bindgen" ] || cargo install bindgen-cli --version "$version" --locked --quiet --root target/tools ||
    { echo "skipped: bindings (bindgen $version cannot be installed)"; exit 0; }

made=$(mktemp)
trap 'rm -f "$made"' EXIT
functions='accfg_(new|unref)'
functions+='|accfg_device_get_(first|next|devname|state|gen_cap|numa_node|version)'
functions+='|accfg_wq_get_(first|next|devname|state|mode|type|size|user_dev_path)'
"$bindgen" "$header" --output "$made" \
    --allowlist-function "$functions" --allowlist-var 'ACCFG_(DEVICE_ENABLED|WQ_ENABLED|WQ_SHARED|WQT_USER)' \
    --default-enum-style consts --no-prepend-enum-name --no-layout-tests --no-doc-comments --merge-extern-blocks \
    --use-core --rust-edition 2024 --rust-target 1.85
rustfmt --edition 2024 "$made"
if [ "${1-}" = --write ]; then
    cp "$made" "$checked_in"
else
    diff -u "$checked_in" "$made" || { echo "the header gives other bindings; $0 --write replaces them"; exit 1; }
    echo "bindings of libaccel-config: as the header gives them"
fi
