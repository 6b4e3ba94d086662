# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of everything that reads strangers' bytes: ``make fuzz``.

    python tests/fuzz/run.py TARGET [SECONDS]      one target; with no argument all of them, 30 seconds each

A target passes when nothing but manyfest's own errors comes out and no input takes longer than two seconds or more than
a gigabyte. What fails is written to ``tests/fuzz/found`` and can be given to :func:`reproduce`. Needs atheris, which is
not among the development dependencies since it has no wheels for some machines; ``make fuzz`` installs it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOUND = Path(__file__).parent / "found"
sys.path.insert(0, str(ROOT / "src"))

SECONDS = 30


def document(data: bytes) -> None:
    """A manifest or index, and every view of it."""
    from manyfest.content.document import Document, successors

    parsed = Document.parse(data)
    successors(parsed)
    view = parsed.index if parsed.is_index else parsed.manifest
    repr(view)


def config(data: bytes) -> None:
    """An image configuration."""
    from manyfest.content.document import ImageConfig

    found = ImageConfig(data)
    repr((found.platform, found.diff_ids, found.settings, found.created))


def layer(data: bytes) -> None:
    """A layer's archive, in small pieces, and the tree it makes."""
    from manyfest.verify import runs, walk
    from manyfest.verify.tree import Tree

    # A fuzzer does not guess check sums, and would see nothing behind them.
    walk.check_sum = lambda header: None  # type: ignore[attr-defined]
    runs.is_sum_plain = bytes.isascii  # type: ignore[attr-defined,assignment]
    read = walk.walk((data[i : i + 700] for i in range(0, len(data), 700)), "sha256:" + "0" * 64)
    tree = Tree([read])
    for path, _ in list(tree.files())[:100]:
        tree.find("/" + path)


def archive(data: bytes) -> None:
    """A jar or wheel, in pieces, with archives inside."""
    from manyfest.verify import archives
    from manyfest.verify.archives import Scan, held_in

    # Nor does it guess the endings of names.
    archives._is_wanted = lambda name: len(name) <= 512
    archives._is_archive = lambda name: name.endswith(b"j")
    scan = Scan(len(data))
    for at in range(0, len(data), 3000):
        scan.feed(data[at : at + 3000])
    held_in(scan.text())


def command(data: bytes) -> None:
    """What an image for Linux and one for Windows start: the words are the data's lines."""
    from manyfest.platforms import Platform
    from manyfest.verify import entry, windows
    from manyfest.verify.facts import Facts
    from manyfest.verify.layers import FILE, SYMLINK, Entry, Layer
    from manyfest.verify.programs import Programs
    from manyfest.verify.tree import Tree

    words = data.decode("utf-8", "replace").split("\n")
    facts = Facts("pe", platforms=(Platform("windows", "amd64"),), type="exec")
    files = {
        f"Files/{name}": Entry(FILE, facts=facts)
        for name in ("a.exe", "b c/d.cmd", "Windows/System32/cmd.exe")
    }
    files |= {f"Files/{word}": Entry(SYMLINK, link=words[0]) for word in words[1:3] if word.strip("/.")}
    tree = Tree([Layer("sha256:" + "0" * 64, entries=files)])
    settings = {"Entrypoint": words[:2], "Cmd": words[2:], "WorkingDir": words[-1], "Env": words}
    environment = entry.environment_of(settings)
    windows.start(
        Programs(tree, Platform("windows", "amd64"), environment), {**settings, "ArgsEscaped": True}
    )
    entry.start(Programs(tree, Platform("linux", "amd64"), environment), settings)


def program(data: bytes) -> None:
    """The first bytes of a file that may run."""
    from manyfest.verify.kinds import HEAD, read_facts, wanted

    head = data[:HEAD]
    wanted(head, len(data))
    read_facts(head, len(data), lambda offset, length: data[offset : offset + length])


def reference(data: bytes) -> None:
    """The name of an image, and of a place."""
    from manyfest.reference import Reference
    from manyfest.stores.places import Place

    text = data.decode("utf-8", "replace")
    for parse in (Reference.parse, Place.parse):
        parsed = parse(text)
        if parse(str(parsed)) != parsed:
            raise AssertionError(f"{text!r} reads back as something else")


def platform(data: bytes) -> None:
    """A platform, printed and read back."""
    from manyfest.platforms import Platform, normalise

    parsed = Platform.parse(data.decode("utf-8", "replace"))
    if normalise(normalise(parsed)) != normalise(parsed):
        raise AssertionError(f"{parsed} is not normal after normalising")


def challenge(data: bytes) -> None:
    """What a registry says in a 401."""
    from manyfest.stores.registry.wire import challenges

    challenges([data.decode("latin-1")])


def deployment(data: bytes) -> None:
    """A Compose file, Kubernetes YAML and a Dockerfile of what shall run."""
    from manyfest.coverage import kubernetes
    from manyfest.coverage.compose import Compose
    from manyfest.coverage.dockerfile import bases
    from manyfest.coverage.marked import load
    from manyfest.errors import Error

    try:
        bases(data.decode("utf-8", "replace"), "Dockerfile")
    except Error:
        pass
    for each in load(data, "x.yaml"):
        if kubernetes.is_object(each):
            list(kubernetes.uses_of(each))
        else:
            Compose({}).uses(each)


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        document,
        config,
        layer,
        archive,
        command,
        program,
        reference,
        platform,
        challenge,
        deployment,
    )
}


def reproduce(name: str, path: str) -> None:
    """Run one target on one file."""
    TARGETS[name](Path(path).read_bytes())


def fuzz(name: str, seconds: int) -> None:
    """Run one target in this process until it fails or the time is over; does not return."""
    import atheris

    with atheris.instrument_imports(include=["manyfest"]):
        from manyfest.errors import Error

        for warm in TARGETS.values():  # import what the targets import, instrumented
            try:
                warm(b"")
            except (Error, AssertionError):
                continue

    def once(data: bytes) -> None:
        try:
            TARGETS[name](data)
        except Error:
            return

    FOUND.mkdir(exist_ok=True)
    options = [f"-max_total_time={seconds}", "-timeout=2", "-rss_limit_mb=1024", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={FOUND}/{name}-"], once)
    atheris.Fuzz()


def main(argv: list[str]) -> int:
    """All targets one after the other, each in a process of its own; or the one named."""
    if argv and argv[0] not in TARGETS:
        print(f"no target {argv[0]!r}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    if argv:
        fuzz(argv[0], int(argv[1]) if len(argv) > 1 else SECONDS)
    failed = []
    for name in TARGETS:
        print(f"== {name}", flush=True)
        command = [sys.executable, __file__, name, str(SECONDS)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        told = [
            line
            for line in done.stderr.splitlines()
            if line.startswith(("Done ", " === ")) or "Error" in line
        ]
        print("\n".join(told[-5:]))
        failed += [name] if done.returncode else []
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
