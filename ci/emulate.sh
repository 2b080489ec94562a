#!/usr/bin/env bash
# Emulated devices: accel-config, the machine's own and the newest of Debian unstable with its own C library; the
# conformance suite on the direct engine by write(2); and what a no-op costs through the two front ends.
#
# What the machine lacks, or what cannot be downloaded, is named and skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

# The machine's own accel-config, or that of its Debian release without installing it.
if ! command -v accel-config >/dev/null && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    own=$PWD/target/accel-config
    mkdir -p "$own"
    if (cd "$own" && timeout 120 apt-get -q download accel-config libaccel-config1 libjson-c5 libuuid1 >/dev/null 2>&1); then
        for deb in "$own"/*.deb; do dpkg-deb --extract "$deb" "$own"; done
        export PATH=$PATH:$own/usr/bin LD_LIBRARY_PATH=$own/usr/lib/x86_64-linux-gnu:$own/lib/x86_64-linux-gnu
    fi
fi
cargo test --quiet --package zfolio-cli --test emulate
cargo build --quiet --release --package zfolio-cli
cargo bench --quiet --package zfolio-cli --bench emulate
zfolio=$PWD/target/release/zfolio

conformance=$(cargo test --quiet --package zfolio-hwtests --test conformance --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
for profile in spr gnr; do
    for plan in '' 'seed=1; full p=0.05; page-fault:read p=0.02; late:30ms every=300 op=decompress; error:11 p=0.02 op=compress'; do
        REQUIRE_IAA=1 timeout 120 "$zfolio" emulate --quiet --profile $profile --faults "$plan" -- "$conformance" --quiet direct:: direct_dynamic::
    done
done

# Served as a file system, to a user without any right. What root alone may open is the machine's affair.
if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
    echo "emulate: skipped --fuse for an ordinary user made of root: not root, or no setpriv"
elif [ ! -c /dev/fuse ] || [ "$(stat -c %a /dev/fuse)" != 666 ]; then
    echo "emulate: skipped --fuse for an ordinary user: /dev/fuse is not open to all"
else
    public=$(mktemp -d)
    trap 'rm -rf "$public"' EXIT
    cp "$zfolio" "$public/zfolio" && cp "$conformance" "$public/conformance" && chmod 755 "$public" "$public"/*
    (cd "$public" && setpriv --reuid 65534 --regid 65534 --clear-groups env REQUIRE_IAA=1 HOME="$public" TMPDIR=/tmp \
        timeout 120 ./zfolio emulate --quiet --fuse -- ./conformance --quiet direct:: direct_dynamic::)
fi

skip() {
    echo "emulate: skipped the newest accel-config: $1"
    exit 0
}

root=$(ci/sid.sh 2>&1) || skip "$root"
newest="$root/run $root/usr/bin/accel-config"
for front in "" --fuse; do
    for profile in spr gnr; do
        # Through a shell: the loader itself is a program without an interpreter.
        if ! listed=$("$zfolio" emulate --quiet $front --profile $profile --devices 2 -- sh -c "$newest list" 2>&1); then
            case $listed in
            *"--fuse cannot be had here"*) echo "emulate: skipped: $listed" && continue ;;
            *) echo "emulate: $listed" >&2 && exit 1 ;;
            esac
        fi
        devices=$(grep -c '"dev":"iax' <<<"$listed")
        [ "$devices" = 2 ] && grep -q '"state":"enabled"' <<<"$listed" && grep -q op_c <<<"$listed" || {
            echo "emulate: the newest accel-config lists something else: $listed" >&2
            exit 1
        }
    done
    "$zfolio" emulate --quiet $front -- sh -c "$newest disable-wq iax0/wq0.0 && $newest disable-device iax0 &&
        test \"\$(cat /sys/bus/dsa/devices/iax0/state)\" = disabled"
done
echo "emulate: accel-config $("$zfolio" emulate --quiet -- sh -c "$newest --version") works too"
