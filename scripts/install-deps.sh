#!/bin/sh
# install-deps.sh [--list]: installs what moebatch needs to be built and tested on Debian 12 or later. Needs root only if
# something is missing; then apt-get update runs first and no recommended packages come along.
set -eu

build="build-essential autoconf automake pkg-config libopenmpi-dev openmpi-bin libhdf5-openmpi-dev libhwloc-dev
libjansson-dev libyaml-dev libpcre2-dev libutf8proc-dev libxxhash-dev libsmartcols-dev zlib1g-dev libzstd-dev"
check="g++ libcmocka-dev bats procps python3 python3-h5py python3-numpy python3-xxhash python3-jinja2 python3-jsonschema hdf5-tools"

if [ "${1:-}" = --list ]; then
    echo $build $check
    exit 0
fi

have() {
    dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii'
}

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "install-deps.sh: this is not a Debian system. Install the equivalents of:" >&2
    echo $build $check >&2
    exit 1
fi

missing=
for p in $build $check; do
    have "$p" || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "install-deps.sh: missing packages. As root:" >&2
    echo "    apt-get update && apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
