#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Record what BuildKit makes of the Dockerfiles in ``tests/unit/build/modern.py``, for the tests that compare.

Usage: ``.venv/bin/python tools/record_buildkit.py BUILDCTL [--addr unix:///run/buildkit/buildkitd.sock]``. Needs a
running buildkitd, which Debian does not have; the recording says its version.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.unit.build.modern import CASES, Case, dockerfile_of, write_files  # noqa: E402
from tests.unit.build.seen import recorded, seen  # noqa: E402

from manyfest.stores.layout import Layout  # noqa: E402

GOLDEN = ROOT / "tests" / "golden" / "buildkit"


def main() -> int:
    """Record all, or say which failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("buildctl")
    parser.add_argument("--addr", default="unix:///run/buildkit/buildkitd.sock")
    parser.add_argument("--by", default="", help="which BuildKit it is, where buildctl does not know")
    args = parser.parse_args()
    command = [args.buildctl, "--addr", args.addr]
    version = subprocess.run(
        [*command, "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        settings, files = _built(command, case)
        value = {"by": args.by or version, "settings": settings, "files": recorded(files)}
        text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
        (GOLDEN / f"{case.name}.json").write_text(f"{text}\n", encoding="utf-8")
        print(f"{case.name}: {len(files)} files")
    return 0


def _built(command: list[str], case: Case) -> tuple[dict[str, object], dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        write_files(project)
        (project / "Dockerfile").write_text(dockerfile_of(case))
        (project / ".dockerignore").write_text(case.ignore)
        if case.own_ignore:
            (project / "Dockerfile.dockerignore").write_text(case.own_ignore)
        out = Path(folder) / "out"
        words = ["build", "--frontend", "dockerfile.v0", "--local", f"context={project}"]
        words += ["--local", f"dockerfile={project}", "--opt", "platform=linux/amd64"]
        words += [word for k, v in case.args.items() for word in ("--opt", f"build-arg:{k}={v}")]
        words += ["--output", f"type=oci,tar=false,dest={out}"]
        done = subprocess.run([*command, *words], check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{case.name}: {done.stderr[-2000:]}")
        with Layout(str(out)) as source:
            return seen(source, "")


if __name__ == "__main__":
    sys.exit(main())
