# SPDX-License-Identifier: Apache-2.0
"""``manyfest verify`` beside ``crane blob | zcat`` of the same layer, on one core.

    python -m bench.verify [--rounds N] [--megabytes N] [--no-write]

Two layers, of this machine's own programs and libraries and of small files (documentation, Python, headers), packed
with gzip and with Zstandard, on Debian's docker-registry on loopback. In each round, in random order, each command runs
once, pinned to one core: crane fetching the layer into ``zcat`` (or ``zstd -dc``) and throwing away what comes out, and
manyfest verifying the image with an empty cache. The ratio is the pipe's time divided by manyfest's in the same round:
over 1 manyfest is faster. Processor time is what the kernel charged to all processes of the command, which on a busy
machine says more than the clock; a cached verify is measured by the clock.

The two do not do the same: both hash the packed bytes, but manyfest also hashes the plain ones (for the
configuration's diff IDs) and reads the archive. Zstandard unpacks about as fast as a processor hashes: there it shows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import peers, report
from bench.registry import Registry as RegistryProcess
from bench.starter import Took
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import Document
from manyfest.content.mediatypes import OCI_CONFIG, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST
from manyfest.emulate.images import write_json
from manyfest.stores.registry.client import Registry
from manyfest.stores.registry.session import Session
from manyfest.stores.registry.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.stores.base import Readable

PROJECT = Path(__file__).resolve().parents[1]

RESULTS = Path(__file__).parent / "results" / "verify.md"
PROGRAMS = (
    "/usr/bin",
    "/usr/lib/git-core",
    "/usr/lib/python3",
    "/usr/share/perl",
    "/usr/share/locale",
    "/usr/lib",
)
SMALL = (
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/perl5",
    "/usr/lib/python3",
    "/usr/include",
    sys.base_prefix,
)
LAYERS = {"programs": PROGRAMS, "small files": SMALL}
PACKINGS = {
    "gzip": ("gzip", "-6", "zcat", OCI_LAYER_GZIP),
    "zstd": ("zstd", "-3", "zstd -dc", OCI_LAYER_ZSTD),
}
Commands = dict[tuple[str, str], list[str]]


class Run:
    """What one command took: by the clock and of processors, in seconds; the largest process's memory in MB."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        took = Took(command, {**os.environ, **environment})
        # 1 is verify's "no": a layer of some of a machine's files lacks what its programs need.
        if took.code not in (0, 1) or "error:" in took.said:
            raise SystemExit(f"bench: {' '.join(command)}: exit {took.code}\n{took.said[-2000:]}")
        self.wall, self.cpu, self.peak = took.wall_s, took.cpu_s, took.peak_bytes / 2**20


def make_layer(folder: Path, size: int, folders: Sequence[str]) -> tuple[Path, str]:
    """A tar archive of about ``size`` bytes of this machine's files, and its digest."""
    path = folder / "layer.tar"
    with tarfile.open(path, "w") as archive:
        for top in folders:
            for name in sorted(Path(top).rglob("*")):
                if archive.offset > size:
                    break
                if name.is_file() or name.is_symlink():
                    archive.add(name, str(name)[1:], recursive=False)
    digest = subprocess.run(
        ["sha256sum", str(path)], check=True, capture_output=True, text=True
    ).stdout.split()[0]
    return path, f"sha256:{digest}"


def push(host: str, repository: str, path: Path, kind: str, diff_id: str) -> str:
    """Push an image of the one layer, tagged ``1``; the layer's digest."""
    with path.open("rb") as file:
        digest = Digest.parse(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
    layer = Descriptor(kind, digest, path.stat().st_size)

    def opened(offset: int) -> Readable:
        file = path.open("rb")
        file.seek(offset)
        return file

    with Session(Settings()) as session:
        store = Registry(host, repository, session)
        store.put(layer, opened)
        rootfs = {"type": "layers", "diff_ids": [diff_id]}
        fields: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
        config = write_json(store, fields, OCI_CONFIG)
        fields = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.to_json()}
        store.tag(Document(OCI_MANIFEST, json.dumps({**fields, "layers": [layer.to_json()]}).encode()), "1")
    return str(digest)


def measure(folder: Path, rounds: int, size: int) -> dict[str, list[float]]:
    """Every figure by its name, a value for each round."""
    program, crane = peers.manyfest(PROJECT), peers.BIN / "crane"
    found: dict[str, list[float]] = {}
    core = str(max(os.sched_getaffinity(0)))
    with RegistryProcess(folder, folder / "storage") as registry:
        host = f"127.0.0.1:{registry.port}"
        commands: Commands = {}
        for layer, folders in LAYERS.items():
            path, diff_id = make_layer(folder, size, folders)
            found[f"{layer}: MB unpacked"] = [path.stat().st_size / 1e6]
            for packing, (pack, level, unpack, kind) in PACKINGS.items():
                packed = folder / f"layer.{packing}"
                with packed.open("wb") as out:
                    subprocess.run([pack, level, "-c", str(path)], stdout=out, check=True)
                found[f"{layer}, {packing}: MB packed"] = [packed.stat().st_size / 1e6]
                repository = f"{layer.replace(' ', '-')}/{packing}"
                digest = push(host, repository, packed, kind, diff_id)
                packed.unlink()
                name = f"{host}/{repository}"
                pipe = f"{crane} blob {name}@{digest} | {unpack} > /dev/null"
                key = f"{layer}, {packing}"
                commands[key, "pipe"] = ["taskset", "-c", core, "bash", "-o", "pipefail", "-c", pipe]
                commands[key, "manyfest"] = ["taskset", "-c", core, program, "verify", "-q", f"{name}:1"]
            path.unlink()
        for _ in range(rounds):
            _round(folder, commands, found)
    return found


def _round(folder: Path, commands: Commands, found: dict[str, list[float]]) -> None:
    runs: dict[tuple[str, str], Run] = {}
    for key in random.sample(list(commands), len(commands)):
        cache = folder / "cache" / key[0].replace(" ", "-")
        shutil.rmtree(cache, ignore_errors=True)
        runs[key] = Run(commands[key], {"MANYFEST_CACHE": str(cache)})
        if key[1] == "manyfest":
            again = Run(commands[key], {"MANYFEST_CACHE": str(cache)})
            found.setdefault(f"{key[0]}: verify again, cached, ms", []).append(1000 * again.wall)
    for packing in dict.fromkeys(key for key, _ in commands):
        pipe, ours = runs[packing, "pipe"], runs[packing, "manyfest"]
        for name, value in (
            ("crane blob and unpack, s of processor", pipe.cpu),
            ("manyfest verify, s of processor", ours.cpu),
            ("manyfest verify, peak MB", ours.peak),
            ("speed, times the pipe's, by processor time", pipe.cpu / ours.cpu),
            ("speed, times the pipe's, by the clock", pipe.wall / ours.wall),
        ):
            found.setdefault(f"{packing}: {name}", []).append(value)


def text(found: dict[str, list[float]], rounds: int) -> str:
    """As a page."""
    about = ", ".join(str(value) for value in report.machine().values())
    lines = ["# Verify", "", f"{about}. Medians of {rounds} rounds, on one core; see `../verify.py`.", ""]
    lines += ["| figure | median | least | most |", "| --- | ---: | ---: | ---: |"]
    for name, values in sorted(found.items()):
        cells = (statistics.median(values), min(values), max(values))
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args(argv)
    peers.build()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch), args.rounds, args.megabytes * 1_000_000)
    page = text(found, args.rounds)
    if not args.no_write:
        RESULTS.write_text(page)
    print(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
