#!/usr/bin/env bash
# accel-config on emulated devices: the machine's own, and the newest of Debian unstable with its own C library, from
# the mirror that this machine's apt uses. And what a no-op costs through the two front ends.
#
# What the machine lacks, or what cannot be downloaded, is named and skipped. Downloads are kept in target/emulate.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --quiet --package zfolio-cli --test emulate
cargo build --quiet --release --package zfolio-cli
cargo bench --quiet --package zfolio-cli --bench emulate
zfolio=$PWD/target/release/zfolio

skip() {
    echo "emulate: skipped the newest accel-config: $1"
    exit 0
}

[ "$(uname -m)" = x86_64 ] || skip "the model is for x86-64"
for tool in apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || skip "no $tool"
done

work=$PWD/target/emulate
root=$work/root
if [ ! -e "$work/complete" ]; then
    site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep debian | grep -v security | head -n 1 || true)
    [ -n "$site" ] || skip "apt knows no Debian mirror"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keyring" ] || skip "no $keyring"
    mkdir -p "$work"/{lists/partial,cache/archives/partial,debs}
    echo "deb [signed-by=$keyring] $site sid main" >"$work/sources.list"
    : >"$work/status"
    options=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o Dir::Etc::Preferences=-
        -o Dir::Etc::PreferencesParts=- -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/status"
        -o "Dir::Cache=$work/cache" -o APT::Sandbox::User= -o Acquire::Languages=none)
    timeout 300 apt-get -qq "${options[@]}" update >"$work/log" 2>&1 || skip "$(tail -n 1 "$work/log")"
    (cd "$work/debs" && timeout 300 apt-get -q "${options[@]}" download accel-config libaccel-config1 libjson-c5 libc6 \
        libuuid1) >>"$work/log" 2>&1 || skip "$(tail -n 1 "$work/log")"
    for deb in "$work"/debs/*.deb; do
        dpkg-deb --extract "$deb" "$root"
    done
    touch "$work/complete"
fi

library=$root/usr/lib/x86_64-linux-gnu
loader=$(find "$root" -name 'ld-linux-x86-64.so.2' | head -n 1)
newest="$loader --library-path $library $root/usr/bin/accel-config"
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
