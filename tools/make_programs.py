# SPDX-License-Identifier: Apache-2.0
"""Writes the tiny program of every architecture, or checks that the generator still makes the same bytes.

    python tools/make_programs.py --out DIR     one executable per platform: DIR/linux-arm-v7, …
    python tools/make_programs.py --check       compare with tests/golden/programs.json
    python tools/make_programs.py --update      rewrite that table after a deliberate change

Needs Python and nothing else. Exit: 0 done or equal, 1 different, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "programs.json"
sys.path.insert(0, str(ROOT / "src"))

from manyfest.emulate.programs import PLATFORMS, program  # noqa: E402 (a checkout runs without being installed)


def digests() -> dict[str, str]:
    """The SHA-256 of every program with its default text, by platform."""
    return {str(platform): hashlib.sha256(program(platform)).hexdigest() for platform in PLATFORMS}


def write(directory: Path) -> None:
    """Every program as an executable file."""
    directory.mkdir(parents=True, exist_ok=True)
    for platform in PLATFORMS:
        path = directory / str(platform).replace("/", "-")
        path.write_bytes(program(platform))
        path.chmod(0o755)
        print(path)


def check() -> int:
    """Compare with the golden table; says which platforms differ."""
    known: dict[str, str] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    made = digests()
    wrong = sorted(name for name in known.keys() | made.keys() if known.get(name) != made.get(name))
    for name in wrong:
        print(
            f"{name}: expected {known.get(name, 'no program')}, got {made.get(name, 'none')}", file=sys.stderr
        )
    return 1 if wrong else 0


def main() -> int:
    """Read the arguments and do one of the three things."""
    parser = argparse.ArgumentParser(description="The tiny static program of every architecture.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", metavar="DIR", type=Path, help="write all programs there")
    action.add_argument("--check", action="store_true", help="compare with tests/golden/programs.json")
    action.add_argument("--update", action="store_true", help="rewrite tests/golden/programs.json")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    if arguments.update:
        GOLDEN.write_text(json.dumps(digests(), indent=2) + "\n", encoding="utf-8")
        return 0
    write(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
