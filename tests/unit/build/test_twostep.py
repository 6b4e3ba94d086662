# SPDX-License-Identifier: Apache-2.0
"""A Dockerfile that is built once, files copied out of it, the platforms' Dockerfiles over them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.build.conftest import HOST, Kitchen, files_of
from tests.unit.build.test_engines import AMD64, ARM64, BASE, S390X, Engine, Site, report, script

from manyfest.build.built import Built
from manyfest.build.cache import Cache
from manyfest.build.engines import Engines
from manyfest.build.plan import Options, build, plan
from manyfest.build.project import load
from manyfest.engines import builders
from manyfest.engines.builders import Order, find
from manyfest.errors import BuildError, EngineError, InputError, InvalidProject

PLATFORMS = (AMD64, ARM64, S390X)


class Once(Engine):
    """Stands in for Docker: the paths that it has, each an archive as ``docker cp`` writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.has: dict[str, dict[str, str | None]] = {
            "/out": {
                "out": None,
                "out/amd64": "a",
                "out/arm64": "b",
                "out/sub": None,
                "out/sub/l": "-> ../amd64",
            }
        }
        self.paths: list[str] = []

    def copy_out(
        self, order: Order, paths: Sequence[str], folder: str, *, no_cache: bool = False
    ) -> list[str]:
        self.orders.append(order)
        self.paths += paths
        made = []
        for number, path in enumerate(paths):
            if path not in self.has:
                raise EngineError(f"{self}: there is no {path} in what was built", hint="/ holds bin, out")
            made.append(os.path.join(folder, f"{number}.tar"))
            Path(made[-1]).write_bytes(tar(self.has[path]))
        return made


def tar(files: dict[str, str | None]) -> bytes:
    """Path -> text, ``None`` for a folder, ``-> target`` for a link, ``| `` for a pipe."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.uid = 0o755, 1000
            if text is None:
                info.type = tarfile.DIRTYPE
            elif text.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, text[3:]
            elif text == "|":
                info.type = tarfile.FIFOTYPE
            else:
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
                continue
            archive.addfile(info)
    return out.getvalue()


class Twice(Site):
    """A project of two steps whose engine is a stand-in."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, patch)
        self.once = Once()
        patch.setattr(builders, "find", lambda _: self.once)
        self.write("Dockerfile.build", f"FROM {BASE}\nARG TARGETARCH\nRUN make\n")
        self.write("Dockerfile.amd64", "FROM scratch\nCOPY out/amd64 /app\n")
        self.write("Dockerfile", "FROM scratch\nCOPY out/arm64 /app\n")
        self.write(".dockerignore", "out\nDockerfile*\nmanyfest.yaml\n")

    def take(self, *, cache: Cache | None = None, engines: Engines | None = None, **options: Any) -> Built:
        return build(
            load(str(self.folder)),
            Options(PLATFORMS, **options),
            HOST,
            self.open_source,
            cache or Cache(str(self.cache_folder)),
            engines=engines or self.engines(),
            on_step=self.steps.append,
            on_warning=self.warnings.append,
        )


@pytest.fixture
def twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Twice:
    return Twice(tmp_path, monkeypatch)


def test_built_once_and_copied_for_each(twice: Twice) -> None:
    """For the platform of the engine, with pinned bases; the ignore file does not hide what was taken."""
    built = twice.take(args=(("V", "1"),))
    (order,) = twice.once.orders
    assert (order.platform, dict(order.args)) == (AMD64, {"TARGETARCH": "amd64", "V": "1"})
    assert twice.once.paths == ["/out"]
    assert [files_of(built, at)["app"] for at in range(3)] == ["a", "b", "b"]
    assert twice.steps == ["took out out of Dockerfile.build (with docker (BuildKit), native)"]


def test_again_asks_no_engine_to_build(twice: Twice) -> None:
    """Until a file or an argument changes; --no-cache builds again."""
    first = twice.take().index.digest
    assert twice.take().index.digest == first
    assert twice.steps[-1] == "took out out of Dockerfile.build (unchanged)"
    assert len(twice.once.orders) == 1
    twice.write("Dockerfile.s390x", "FROM scratch\nCOPY out/sub /sub\n")
    assert files_of(twice.take(), 2) == {"sub": None, "sub/l": "-> ../amd64"}
    assert len(twice.once.orders) == 1
    twice.write("main.c", "int main;")
    twice.take()
    twice.take(args=(("V", "2"),))
    twice.take(args=(("V", "2"),), cache=Cache(str(twice.cache_folder), fresh=True))
    assert len(twice.once.orders) == 4


def test_several_paths_under_other_names(twice: Twice) -> None:
    """Also below a folder that the project has."""
    twice.once.has |= {"/src/app": {"app": "x"}, "/etc/conf": {"real-name": "y"}}
    twice.write("etc/own", "o")
    twice.write("manyfest.yaml", "image: a\nbuild: {copy: ['/src/app', '/etc/conf:etc/app.conf']}\n")
    for name in ("Dockerfile", "Dockerfile.amd64"):
        twice.write(name, "FROM scratch\nCOPY app etc /\n")
    files = files_of(twice.take())
    assert {path: text for path, text in files.items() if text} == {"app": "x", "own": "o", "app.conf": "y"}


def test_the_plan_tells_it(twice: Twice) -> None:
    """And nothing is built."""
    project, options = load(str(twice.folder)), Options(PLATFORMS)
    planned = plan(project, options, HOST, twice.open_source, Cache(str(twice.cache_folder)), twice.engines())
    assert {each.first for each in planned} == {planned[0].first}
    first = planned[0].first
    assert first is not None
    assert (first.step.shown, first.step.copies) == ("Dockerfile.build", (("/out", "out"),))
    assert str(first.choice) == "docker (BuildKit), native"
    assert first.bases == (("0", BASE, twice.digests[AMD64]),)
    assert twice.once.orders == []


def test_what_is_not_there(twice: Twice) -> None:
    """Is told with what is; nothing is kept, and the next build asks again."""
    twice.write("manyfest.yaml", "image: a\nbuild: {copy: /nowhere}\n")
    for _ in range(2):
        with pytest.raises(
            BuildError, match=r"Dockerfile.build: docker \(BuildKit\): there is no /nowhere"
        ) as told:
            twice.take()
        assert told.value.hint == "/ holds bin, out"
    assert len(twice.once.orders) == 2
    assert not [
        name
        for _, names, _ in os.walk(twice.cache_folder)
        for name in names
        if name.startswith(("taken", "first"))
    ]


def test_what_cannot_be_copied(twice: Twice) -> None:
    twice.once.has["/out"] = {"out": None, "out/p": "|"}
    with pytest.raises(BuildError, match="/out/p is a device or a pipe"):
        twice.take()


def test_an_archive_cannot_write_elsewhere(twice: Twice, tmp_path: Path) -> None:
    """Through a link of its own, or by names: what is written is below the folder for it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    twice.once.has["/out"] = {"out": None, "out/l": f"-> {outside}", "out/l/x": "x", "out/../../../y": "y"}
    twice.write("Dockerfile", "FROM scratch\nCOPY out /\n")
    twice.write("Dockerfile.amd64", "FROM scratch\nCOPY out /\n")
    twice.take()
    assert os.listdir(outside) == []
    assert not (tmp_path / "y").exists()


def test_buildah_gives_the_image(twice: Twice) -> None:
    """It has no containers to copy out of; links on the way are followed inside of the image."""
    engine = Engine(name="buildah")
    twice.once = engine  # type: ignore[assignment]
    twice.write("manyfest.yaml", "image: a\nbuild: {copy: [/etc/base, /ran]}\n")
    for name in ("Dockerfile", "Dockerfile.amd64"):
        twice.write(name, "FROM scratch\nCOPY base ran /\n")
    assert files_of(twice.take()) == {"base": "linux/amd64", "ran": "linux/amd64"}
    twice.write("manyfest.yaml", "image: a\nbuild: {copy: /etc/none}\n")
    with pytest.raises(
        BuildError, match=r"Dockerfile\.build: there is no /etc/none in what was built"
    ) as told:
        twice.take()
    assert told.value.hint == "/etc holds base"


def test_without_run_no_engine_is_needed(kitchen: Kitchen) -> None:
    """The embedded builder makes it."""
    kitchen.write("a", "A", 0o755)
    kitchen.write(
        "Dockerfile.build", "FROM scratch AS x\nCOPY a /out/\nFROM scratch\nCOPY --from=x /out /made/\n"
    )
    kitchen.write("manyfest.yaml", "image: a\nbuild: {copy: [/made/a:bin/a]}\n")
    built = kitchen.build("FROM scratch\nCOPY bin /bin\n", "linux/amd64,linux/arm64")
    assert files_of(built, 1) == {"bin": None, "bin/a": "A"}
    assert kitchen.steps == ["took bin/a out of Dockerfile.build (embedded)"]
    kitchen.build()
    assert kitchen.steps[1:] == ["took bin/a out of Dockerfile.build (unchanged)"]


def test_nobody_builds_it(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without engines, and with none that answers: before anything is done. A node will do."""

    def none(_: str) -> Engine:
        raise EngineError(
            "no container engine; looked for docker (not on PATH)", hint="apt-get install buildah"
        )

    monkeypatch.setattr(builders, "find", none)
    with pytest.raises(
        BuildError, match=r"Dockerfile.build:3: no container engine; looked for docker"
    ) as told:
        twice.take()
    assert told.value.hint == (
        "apt-get install buildah; or build: {builder: false} in manyfest.yaml leaves this step out"
    )
    twice.nodes["ssh://pi"] = once = Once()
    twice.take(engines=Engines(report, nodes={ARM64: "ssh://pi"}))
    assert len(once.orders) == 1


# --- what the project says ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("build: {builder: none}", r":2:9: build.builder: .*none: no such file"),
        ("build: {copy: out}", r":2:9: build.copy: 'out': expected a path from the root"),
        ("build: {copy: /}", r":2:9: build.copy: '/'"),
        ("build: {copy: '/x:'}", r":2:9: build.copy: '/x:'"),
        ("build: {copy: '/x:/y'}", r":2:9: build.copy: '/y': expected a path inside the project"),
        ("build: {copy: '/x:../y'}", r":2:9: build.copy: '../y'"),
        ("build: {copy: 7}", r":2:9: build.copy: expected a list"),
        ("build: {copy: [/x, /a/x]}", r":2:9: build.copy: 'x' is written twice"),
        ("build: {copy: [/x, '/y:x/y']}", r":2:9: build.copy: 'x/y' is written twice, or inside"),
        ("compile: {run: x, outputs: [x]}\nbuild: {copy: [/x]}", r":3:9: build.copy: 'x' is written twice"),
        ("build:\n  builder: false\n  copy: /x", r":4:3: build.copy: there is nothing to copy out of"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    """With file, line and column."""
    for name in ("Dockerfile", "Dockerfile.build"):
        (tmp_path / name).write_text("FROM scratch\n")
    (tmp_path / "manyfest.yaml").write_text(f"image: a\n{text}\n")
    with pytest.raises(InputError, match=message):
        load(str(tmp_path))


def test_it_is_found_named_and_left_out(tmp_path: Path) -> None:
    for name in ("Dockerfile", "Dockerfile.build", "make.Dockerfile"):
        (tmp_path / name).write_text("FROM scratch\n")
    found = load(str(tmp_path)).first
    assert found is not None
    assert (found.shown, found.copies) == ("Dockerfile.build", (("/out", "out"),))
    assert load(str(tmp_path), str(tmp_path / "Dockerfile.build")).first is None
    for text, shown in (("builder: make.Dockerfile", "make.Dockerfile"), ("builder: false", "")):
        (tmp_path / "manyfest.yaml").write_text(f"image: a\nbuild: {{{text}}}\n")
        first = load(str(tmp_path)).first
        assert (first.shown if first else "") == shown
    (tmp_path / "Dockerfile.build").unlink()
    (tmp_path / "manyfest.yaml").write_text("image: a\nbuild: {copy: /x}\n")
    with pytest.raises(InvalidProject, match="there is nothing to copy out of") as told:
        load(str(tmp_path))
    assert told.value.hint == "add a Dockerfile.build, or name one with builder:"


# --- the engines' commands ---

FAKE = """case "$*" in
*"buildx version") exit 1;;
*--version) echo "Docker version 20.10.24, build x";;
*version*) echo linux/amd64;;
cp*:/gone*) echo "Could not find the file" >&2; exit 1;;
cp*:/odd*) echo "no space" >&2; exit 1;;
cp*) cat {cp};;
export*) cat {export};;
esac"""


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_copying_out_of_a_container(tmp_path: Path, name: str) -> None:
    """Made, never started, removed; what is near a missing path is told, other failures as they are."""
    (tmp_path / "cp.tar").write_bytes(b"an archive")
    names = {f"usr/bin/{i:02}": "x" for i in range(14)}
    (tmp_path / "export.tar").write_bytes(
        tar({"bin": "-> usr/bin", "usr": None, "usr/bin": None, **names, "odd": "x"})
    )
    script(tmp_path, name, FAKE.format(cp=tmp_path / "cp.tar", export=tmp_path / "export.tar"))
    builder = find(name, {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    (tmp_path / "folder").mkdir()
    order, folder = Order(AMD64, "FROM x\n", "ctx"), str(tmp_path / "folder")
    (archive,) = builder.copy_out(order, ["/out"], folder)
    assert Path(archive).read_bytes() == b"an archive"
    calls = [line.partition("|")[2] for line in (tmp_path / f"{name}.log").read_text().splitlines()]
    did = [call.split()[0] for call in calls if "version" not in call]
    assert did == ["build", "create", "cp", "rm", *(["ps"] if name == "podman" else []), "image"]
    assert not [call for call in calls if call.startswith(("start", "run"))]
    with pytest.raises(EngineError, match="there is no /gone/x in what was built") as told:
        builder.copy_out(order, ["/gone/x"], folder)
    assert told.value.hint == "/ holds bin, odd, usr"
    with pytest.raises(EngineError, match="cp: no space"):
        builder.copy_out(order, ["/odd"], folder)
    assert builder._near("c", "/usr/bin/none") == (
        "/usr/bin holds 00, 01, 02, 03, 04, 05, 06, 07, 08, 09, 10, 11 and 2 more"
    )
    assert builder._near("c", "/usr/bin/01") is None
