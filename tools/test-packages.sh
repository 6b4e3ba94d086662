#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Debian packages that the tests on real parts need: installed when root, named exactly when not.
# More of them may be given as arguments.
set -euo pipefail
packages=(git arch-test docker.io docker-registry skopeo buildah podman umoci qemu-user-static
    apache2-utils openssl zstd iptables iproute2 ca-certificates mmdebstrap socat nginx-light wrk openssh-server chromium
    qemu-system-arm qemu-system-misc kmod e2fsprogs debian-archive-keyring cargo cmake make openjdk-17-jdk-headless rustc
    maven libmaven-compiler-plugin-java libmaven-dependency-plugin-java libmaven-jar-plugin-java
    libmaven-resources-plugin-java libsurefire-java "$@")

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "The tests on real parts need these packages, and you are not root. Install them, then run make test again:" >&2
    echo "    sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 2
fi
echo "Installing ${missing[*]} …" >&2
tools/apt-install.sh "${missing[@]}"
