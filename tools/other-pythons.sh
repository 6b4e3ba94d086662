#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The quick tests on the Pythons of other Debian releases (13: 3.13, unstable: newer), each in a tree of its own.
# Needs root, mmdebstrap and a network. usage: tools/other-pythons.sh [SUITE...]
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "other-pythons: root is needed, to enter the trees" >&2; exit 2; }
command -v mmdebstrap >/dev/null || tools/apt-install.sh mmdebstrap
mirror=$(python3 -c 'from tools.mixed_swarm import mirror; print(mirror())')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

[ $# -gt 0 ] || set -- trixie unstable
for suite in "$@"; do
    tree=$scratch/$suite
    echo "Making a tree of Debian $suite …" >&2
    # A mirror may lag behind what the archive calls valid; signatures are checked all the same.
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,git,make,openssl,python3,python3-venv,zstd \
        --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$tree" "$mirror"
    # The network as it is here, with the authorities that are trusted here.
    cp /etc/resolv.conf /etc/hosts "$tree/etc/"
    cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
    git clone --quiet . "$tree/root/manyfest"
    TREE=$tree unshare --mount --pid --fork --kill-child bash -euc '
        mount --make-rprivate /
        mount --bind "$TREE" "$TREE"
        mount -t proc proc "$TREE/proc"
        mount --rbind /dev "$TREE/dev"
        mount -t tmpfs tmpfs "$TREE/tmp"
        exec chroot "$TREE" bash -euc "cd /root/manyfest; export HOME=/root; python3 --version; make check"'
done
