#!/usr/bin/env bash
# Brings Intel's QPL and the newer accel-config, with the C library that they need, from Debian's unstable packages into
# target/sid, and prints that directory. The system is not changed; what is there is used again.
#
#     root=$(ci/sid.sh) && "$root/run" PROGRAM [ARGUMENT...]
#
# `run` starts a program of ours or of the packages with the packages' own loader and libraries. Prints nothing but the
# reason, and ends with code 3, where they cannot be had: no apt-get, or no answer from the registry.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/target/sid
packages=(libqpl1 libqpl-dev libaccel-config1 accel-config libc6 libgcc-s1 libstdc++6 libjson-c5 libuuid1)

if [ -e "$root/complete" ]; then
    echo "$root"
    exit 0
fi
absent() {
    echo "$1" >&2
    exit 3
}
for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || absent "no $tool"
done
# The mirror and the keys that this machine uses for its own release.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(ORIGIN)' 'Created-By: Packages' 2>/dev/null |
    awk '$3 == "Debian" && $2 !~ /security/ { print $1; exit }')
[ -n "$mirror" ] || absent "apt has no list of a Debian release (run apt-get update)"

rm -rf "$root"
mkdir -p "$root"/apt/{lists/partial,cache/archives/partial}
: >"$root/apt/status"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [arch=amd64 signed-by=$keys] $mirror sid main" >"$root/apt/sources.list"
apt=(apt-get -qq -o Dir::State="$root/apt" -o Dir::State::status="$root/apt/status" -o Dir::Cache="$root/apt/cache"
    -o Dir::Etc::sourcelist="$root/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Acquire::Languages=none
    -o Acquire::Retries=2 -o APT::Sandbox::User="$(id -un)")
"${apt[@]}" update >/dev/null 2>&1 || absent "$mirror does not answer for sid"
(cd "$root/apt/cache" && "${apt[@]}" download "${packages[@]}" >/dev/null 2>&1) ||
    absent "$mirror does not give ${packages[*]}"
for package in "$root"/apt/cache/*.deb; do
    dpkg-deb --extract "$package" "$root"
done
rm -rf "$root/apt"

cat >"$root/run" <<'RUN'
#!/bin/sh
# Starts a program with the loader and the libraries beside this file.
root=$(dirname "$(readlink -f "$0")")
libraries=$root/usr/lib/x86_64-linux-gnu
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$@"
RUN
chmod +x "$root/run"
touch "$root/complete"
echo "$root"
