#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install Debian packages without questions, without starting their services, and quietly unless something fails.
set -euo pipefail
log=$(mktemp)
# A package's own service must not start: the tests start what they need, with their own settings.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    made=$policy
fi
trap 'rm -f "$log" $made' EXIT
if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "$@"; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "Installing $* failed; see above." >&2
    exit 3
fi
