#!/usr/bin/env bash
# Runs the tests of real memory nodes on a machine that has them: a virtual one of three nodes, the third without CPUs. Then
# what each placement costs there, in density and in pages that are not on their node (its rates are those of an emulator).
#
#     ci/numa.sh [TEST...]
#
# Needs qemu-system-x86_64, cpio and apt-get (for a kernel and busybox, which are kept in target/numa), and no root. Not
# called by all.sh: it downloads, and everything is emulated.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "numa: skipped the real nodes: $1"
    exit 0
}

[ "$(uname -m)" = x86_64 ] || skip "the virtual machine is an x86-64 one"
for tool in qemu-system-x86_64 cpio apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || skip "no $tool"
done

work=$PWD/target/numa
mkdir -p "$work"
if [ ! -e "$work/vmlinuz" ]; then
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$kernel" ] || skip "apt knows no linux-image-cloud-amd64; apt-get update?"
    debs=$(mktemp -d)
    trap 'rm -rf "$debs"' EXIT
    (cd "$debs" && apt-get -q download "$kernel" busybox-static >/dev/null 2>&1) ||
        skip "$kernel and busybox-static cannot be downloaded; apt-get update?"
    dpkg-deb --fsys-tarfile "$debs"/busybox-static_*.deb | tar -xO --wildcards './*bin/busybox' >"$work/busybox"
    chmod +x "$work/busybox"
    dpkg-deb --fsys-tarfile "$debs"/linux-image-*.deb | tar -xO --wildcards './boot/vmlinuz-*' >"$work/vmlinuz.part"
    mv "$work/vmlinuz.part" "$work/vmlinuz"
fi

# Static, for there is nothing but this program in the machine.
triple=x86_64-unknown-linux-gnu
export RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=$work/build
built=$(cargo test --package zfolio --test real_nodes --lib --no-run --target "$triple" --message-format json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
cargo build --package zfolio --example placement --target "$triple"

root=$work/root
rm -rf "$root"
mkdir -p "$root"/{bin,dev,proc,sys,tmp,tests}
cp "$work/busybox" "$root/bin/"
for program in $built; do
    strip -o "$root/tests/$(basename "${program%-*}")" "$program"
done
strip -o "$root/tests/placement" "$CARGO_TARGET_DIR/$triple/debug/examples/placement"
[ -e "$root/tests/real_nodes" ] && [ -e "$root/tests/zfolio" ] || {
    echo "numa: cargo built no tests: $built" >&2
    exit 1
}
cat >"$root/init" <<EOT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmp /tmp
echo "numa: \$(uname -r), \$(nproc) cpus, nodes \$(cat /sys/devices/system/node/online)"
/tests/zfolio nodes --test-threads 2 && /tests/real_nodes --nocapture --test-threads 1 ${*@Q} &&
    /tests/placement --pages 16384 --rounds 1 /tests/real_nodes /tests/zfolio /bin/busybox
echo "numa: exit \$?"
poweroff -f
EOT
chmod +x "$root/init"
(cd "$root" && find . | cpio --create --format newc --quiet | gzip -1) >"$work/initramfs"

timeout 900 qemu-system-x86_64 -accel tcg -cpu max -machine q35 -smp 2 -m 1536 \
    -object memory-backend-ram,id=m0,size=512M -numa node,nodeid=0,cpus=0,memdev=m0 \
    -object memory-backend-ram,id=m1,size=512M -numa node,nodeid=1,cpus=1,memdev=m1 \
    -object memory-backend-ram,id=m2,size=512M -numa node,nodeid=2,memdev=m2 \
    -numa dist,src=0,dst=1,val=21 -numa dist,src=0,dst=2,val=31 -numa dist,src=1,dst=2,val=31 \
    -kernel "$work/vmlinuz" -initrd "$work/initramfs" -append "console=ttyS0 quiet panic=-1" \
    -display none -serial stdio -monitor none -no-reboot -nic none </dev/null | tr -d '\r' | tee "$work/console"
if grep -q "^skipped: real nodes" "$work/console" || ! grep -q "^numa: exit 0$" "$work/console"; then
    echo "numa: failed" >&2
    exit 1
fi
