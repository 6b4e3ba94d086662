# SPDX-License-Identifier: Apache-2.0
"""Dockerfiles with RUN for three architectures: Docker with both its builders, Buildah, under Debian's QEMU."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.real.building import push_base, rootfs, runs, start, until
from tests.real.debian import ARCHITECTURES, fetched, system
from tests.real.parts import Done, Host, Registry, need, stop, wait_for

from manyfest.content.descriptor import Descriptor
from manyfest.stores.layout import Layout

pytestmark = pytest.mark.real

DOCKER = "/usr/bin/docker"
DEBIAN = ("amd64", "arm64", "s390x")
PLATFORMS = tuple(ARCHITECTURES[name] for name in DEBIAN)
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64", "linux/s390x": "s390x"}
DOCKERFILE = """\
ARG BASE
FROM $BASE AS made
ARG TARGETARCH
COPY debs/$TARGETARCH.deb /tmp/tini.deb
RUN dpkg --install /tmp/tini.deb && \\
    dpkg-query --showformat '${Package} ${Architecture} ${db:Status-Status}\\n' --show tini >/tini && \\
    uname -m >>/tini
FROM $BASE
SHELL ["/bin/sh", "-ec"]
COPY data /data
COPY --from=made /usr/bin/tini /usr/bin/
COPY --from=made /tini /tini
RUN tini --version | grep -o '^tini version' >>/tini
HEALTHCHECK CMD ["true"]
ENTRYPOINT ["tini", "--"]
CMD ["cat", "/tini", "/data"]
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, plain: Registry) -> str:
    """The name of a list of three bases in a registry."""
    layers = {ARCHITECTURES[debian]: rootfs(debian) for debian in DEBIAN}
    return push_base(tmp_path_factory.mktemp("bases"), f"{plain.host}/engines/base", layers)


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory, plain: Registry) -> str:
    """The same of three Debian systems in which packages can be installed."""
    layers = {ARCHITECTURES[debian]: system(debian) for debian in DEBIAN}
    return push_base(tmp_path_factory.mktemp("systems"), f"{plain.host}/engines/system", layers)


@pytest.fixture
def site(here: Host, engine: str, base: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A project with RUN, and engines that keep to this home."""
    here.env |= {
        "DOCKER_HOST": engine,
        "DOCKER_CONFIG": str(here.home / "docker"),
        "MANYFEST_CACHE": str(here.home / "cache"),
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_STORAGE_CONF": str(here.home / "storage.conf"),
    }
    (here.home / "docker").mkdir()
    (here.home / "docker/config.json").write_text("{}")
    storage = (
        f'[storage]\ndriver = "vfs"\ngraphroot = "{here.home}/graph"\nrunroot = "{here.home}/graphrun"\n'
    )
    (here.home / "storage.conf").write_text(storage)
    project = here.home / "project"
    project.mkdir()
    (project / "Dockerfile").write_text(DOCKERFILE)
    (project / "data").write_text("from the project\n")
    return here


def build(
    here: Host, base: str, target: str, *more: str, ok: bool = True, platforms: tuple[str, ...] = PLATFORMS
) -> Done:
    words = (
        "build",
        "project",
        "-t",
        target,
        "--platform",
        ",".join(platforms),
        "--build-arg",
        f"BASE={base}",
    )
    return here.manyfest(*words, "--network", "none", *more, ok=ok)


def kept(here: Host) -> str:
    """What Docker still has of ours."""
    images = here.run(DOCKER, "image", "ls").out
    return here.run(DOCKER, "ps", "--all", "--quiet").out + "".join(
        line for line in images.splitlines() if "manyfest-build" in line
    )


def check_runs(here: Host, target: str) -> None:
    """Each platform says what it is."""
    results = here.manyfest("smoke", target, "--json").json["results"]
    assert [r["platform"] for r in results] == list(PLATFORMS)
    for result in results:
        platform = result["platform"]
        architecture = platform.partition("/")[2]
        said = f"tini {architecture} installed\n{MACHINES[platform]}\ntini version\nfrom the project\n"
        assert (result["ok"], result["output"]) == (True, said)


@pytest.mark.parametrize("mode", ["BuildKit", "classic", "buildah", "podman"])
def test_three_platforms(site: Host, systems: str, embedded: Registry, mode: str) -> None:
    """Packages installed, pushed under one name, looked into, run; nothing of it stays, and again nothing is done."""
    need("buildah", "podman")
    base = systems
    (site.home / "project/debs").mkdir()
    for debian in DEBIAN:
        package = fetched(debian, {"tini"}, "debian-12")["tini"]
        shutil.copy(package, site.home / f"project/debs/{debian}.deb")
    target = f"{embedded.host}/engines/{mode.lower()}:1"
    engine = mode if mode in ("buildah", "podman") else "docker"
    site.env["DOCKER_BUILDKIT"] = "0" if mode == "classic" else "1"
    # The slow ones build two.
    platforms = PLATFORMS if mode in ("BuildKit", "buildah") else ("linux/amd64", "linux/s390x")
    words = ("--engine", engine, "--dry-run", "--json")
    plan = build(site, base, target, *words, platforms=platforms).json["platforms"]
    shown = mode if engine == mode else f"docker ({mode})"
    assert {each["builder"] for each in plan} - {f"{shown}, emulated by qemu-aarch64"} == {
        f"{shown}, native",
        f"{shown}, emulated by qemu-s390x",
    }
    # Podman in chroots has no network of its own.
    words = ("--engine", engine, "--json", *(("--network", "host") if mode == "podman" else ()))
    first = build(site, base, target, *words, platforms=platforms).json
    site.manyfest("verify", target)
    if mode in ("BuildKit", "buildah"):
        check_runs(site, target)
    assert kept(site) == ""
    if engine == mode:
        assert "manyfest" not in site.run("buildah", "images").out
        assert site.run("buildah", "containers", "--quiet").out == ""
    again = build(site, base, target, *words, platforms=platforms).json
    assert again["digest"] == first["digest"]
    assert [
        os.path.basename(name) for name in os.listdir(site.home / "cache/build") if "engine" in name
    ] == []


def test_failures_are_told_and_resumed(site: Host, base: str, embedded: Registry) -> None:
    """One of three fails: nothing is pushed; with --keep-going only that one is built the next time."""
    target = f"{embedded.host}/engines/resumed:1"
    (site.home / "project/.dockerignore").write_text("Dockerfile*\n")
    file = site.home / "project/Dockerfile"
    file.write_text(
        f'FROM {base}\nARG TARGETARCH\nRUN echo begun && [ "$TARGETARCH" != s390x ]\nCOPY data /\n'
    )
    done = build(site, base, target, "--engine", "buildah", "--keep-going", ok=False)
    assert done.code == 3
    assert "building for linux/s390x: emulated by qemu-s390x: buildah: RUN echo begun" in done.err
    assert "    begun" in done.err
    assert site.manyfest("resolve", target, ok=False).code == 3
    # What is fixed elsewhere is not asked for again: without an engine the two others are still there.
    (site.home / "project/Dockerfile.s390x").write_text("FROM scratch\nCOPY data /\n")
    made = build(site, base, target, "--engine", "buildah", "-v").err
    # They are built side by side, so either may be told first.
    assert sorted(line for line in made.splitlines() if "built for" in line) == [
        "built for linux/amd64 (unchanged)",
        "built for linux/arm64 (unchanged)",
    ]
    assert len(site.manyfest("inspect", "--raw", target).json["manifests"]) == 3


def test_a_node_and_the_embedded_builder_join(site: Host, base: str, embedded: Registry) -> None:
    """One platform with RUN on a node, another without: one list. The node needs no engine here."""
    target = f"{embedded.host}/engines/joined:1"
    project = site.home / "project"
    (project / "Dockerfile").write_text("FROM scratch\nCOPY data /data\n")
    (project / "Dockerfile.amd64").write_text(f"FROM {base}\nRUN echo x > /x\n")
    node = f"linux/amd64={site.env.pop('DOCKER_HOST')}"
    words = ("build", "project", "-t", target, "--platform", "linux/amd64,linux/arm64", "--network", "none")
    plan = site.manyfest(*words, "--node", node, "--dry-run").out
    assert f"docker (BuildKit) at {node.partition('=')[2]}, native (--node {node}" in plan
    assert "embedded (nothing has to run)" in plan
    site.manyfest(*words, "--node", node)
    first, second = site.manyfest("inspect", "--raw", target).json["manifests"]
    assert (first["platform"]["architecture"], second["platform"]["architecture"]) == ("amd64", "arm64")


TWO_STEPS = """\
FROM {base} AS made
ARG TARGETARCH
SHELL ["/bin/busybox", "sh", "-c"]
COPY data /src/data
RUN busybox mkdir -p /src/out/sub && for a in amd64 s390x; do echo $a by $TARGETARCH > /src/out/$a; done
RUN busybox ln -s ../amd64 /src/out/sub/l && busybox chmod 751 /src/out/amd64 && busybox ln -s /src/out /out
"""


@pytest.mark.parametrize("mode", ["BuildKit", "classic", "buildah", "podman"])
def test_built_once_then_assembled(site: Host, base: str, embedded: Registry, mode: str) -> None:
    """Dockerfile.build by each engine, files out of what it made, a Dockerfile for each; nothing stays there."""
    need("buildah", "podman")
    project, target = site.home / "project", f"{embedded.host}/engines/two-{mode.lower()}:1"
    engine = mode if mode in ("buildah", "podman") else "docker"
    site.env["DOCKER_BUILDKIT"] = "0" if mode == "classic" else "1"
    (project / "Dockerfile.build").write_text(TWO_STEPS.format(base=base))
    (project / "Dockerfile").write_text("FROM scratch\nCOPY out /out\n")
    (project / "Dockerfile.s390x").write_text("FROM scratch\nCOPY out/s390x app/data /\n")
    (project / "manyfest.yaml").write_text("image: x\nbuild: {copy: [/out, '/src/data:app/data']}\n")
    (project / ".dockerignore").write_text("out\nDockerfile*\nmanyfest.yaml\n")
    words = [
        "build",
        "project",
        "-t",
        target,
        "--platform",
        "linux/amd64,linux/s390x",
        "--engine",
        engine,
        "-v",
    ]
    words += ["--network", "host" if mode == "podman" else "none"]
    shown = mode if engine == mode else f"docker ({mode})"
    assert f"took out, app/data out of Dockerfile.build (with {shown}, native)" in site.manyfest(*words).err
    site.manyfest("copy", "-q", target, "oci:two:1")
    with Layout(str(site.home / "two")) as layout:
        index = layout.resolve("1").index
        found = [
            files_in(layout, layout.resolve(str(entry.digest)).manifest.layers) for entry in index.manifests
        ]
    assert found[0]["out/amd64"] == ("amd64 by amd64\n", 0o751)
    assert found[0]["out/sub/l"] == ("../amd64", 0o777)
    assert {name: text for name, (text, _) in found[1].items()} == {
        "s390x": "s390x by amd64\n",
        "data": "from the project\n",
    }
    (project / "manyfest.yaml").write_text("image: x\nbuild: {copy: /src/out/none}\n")
    done = site.manyfest(*words, ok=False)
    assert (done.code, "there is no /src/out/none in what was built" in done.err) == (3, True)
    assert "hint: /src/out holds amd64, s390x, sub\n" in done.err
    assert kept(site) == ""
    if engine == mode:
        assert "manyfest" not in site.run("buildah", "images").out
        assert site.run("buildah", "containers", "--quiet").out == ""


def files_in(layout: Layout, layers: Sequence[Descriptor]) -> dict[str, tuple[str, int]]:
    """Path -> text or link, and mode; without folders."""
    found: dict[str, tuple[str, int]] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layout.open(layer).read())) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isreg() else None
                if not member.isdir():
                    text = stream.read().decode() if stream is not None else member.linkname
                    found[member.name] = (text, member.mode)
    return found


def test_no_engine(site: Host, base: str) -> None:
    """The message says what was looked for."""
    (site.home / "empty").mkdir()
    site.env["PATH"] = str(site.home / "empty")
    done = build(site, base, "oci:out:1", ok=False)
    assert done.code == 3
    assert "no container engine; looked for docker (not on PATH), podman (not on PATH), buildah" in done.err
    assert "--node" in done.err
    assert not (site.home / "out").exists()


@pytest.mark.parametrize(
    ("engine_name", "step"), [("docker", "only"), ("buildah", "only"), ("docker", "first")]
)
def test_interrupt_ends_the_engines_build(site: Host, base: str, engine_name: str, step: str) -> None:
    """SIGTERM while RUN runs: the command ends, nothing of ours stays."""
    marker = f"{os.getpid()}{len(engine_name)}{len(step)}"
    name = "Dockerfile.build" if step == "first" else "Dockerfile"
    (site.home / "project/Dockerfile").write_text("FROM scratch\nCOPY out /\n")
    (site.home / f"project/{name}").write_text(f"FROM {base}\nRUN exec sleep {marker}\n")
    words = ("build", "project", "-t", "oci:out:1", "--platform", "linux/amd64", "--network", "none")
    with start(site, *words, "--engine", engine_name) as process:
        until(lambda: runs(marker), process)
        process.terminate()
        _, errors = process.communicate(timeout=90)
    assert (process.returncode, errors) == (130, "manyfest: interrupted\n")
    deadline = time.monotonic() + 10
    while runs(marker):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = [name for _, names, _ in os.walk(site.home / "cache/build") for name in names]
    assert [name for name in left if name.startswith(("engine-", "first-", "taken-"))] == []
    assert not (site.home / "out").exists()
    if engine_name == "docker":
        assert kept(site) == ""
    else:
        assert "manyfest-build" not in site.run("buildah", "images").out
        assert site.run("buildah", "containers", "--quiet").out == ""


STAGES = """\
FROM scratch AS data
COPY data /data
FROM {base} AS made
RUN busybox touch /made
FROM made
COPY --from=data /data /data
RUN {last}
"""


@pytest.mark.parametrize("engine_name", ["buildah", "podman"])
def test_nothing_is_left_of_stages(site: Host, base: str, engine_name: str) -> None:
    """Neither containers nor images between stages, whether a build succeeds, fails or is ended; but for the base."""
    need("buildah", "podman")
    marker = f"{os.getpid()}{len(engine_name)}7"
    network = "host" if engine_name == "podman" else "none"
    words = ["build", "project", "-t", "oci:out:1", "--platform", "linux/amd64", "--network", network]
    words += ["--engine", engine_name]

    def left() -> tuple[list[str], str]:
        images = site.run("buildah", "images", "--all", "--quiet", "--no-trunc").out.split()
        return images, site.run("buildah", "containers", "--all", "--quiet").out

    file = site.home / "project/Dockerfile"
    file.write_text(STAGES.format(base=base, last="echo a >/a"))
    site.manyfest(*words)
    kept = left()
    assert (len(kept[0]), kept[1]) == (1, "")
    file.write_text(STAGES.format(base=base, last="false"))
    assert site.manyfest(*words, ok=False).code == 3
    assert left() == kept
    file.write_text(STAGES.format(base=base, last=f"exec sleep {marker}"))
    with start(site, *words) as process:
        until(lambda: runs(marker), process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=90)
    assert (process.returncode, errors) == (130, "manyfest: interrupted\n")
    assert (left(), runs(marker)) == (kept, [])


def test_an_engine_that_dies(site: Host, base: str) -> None:
    """Half way: an error that says so, and no image anywhere."""
    address, marker = f"unix://{site.home}/d.sock", f"{os.getpid()}9"
    root = site.home / "second"
    command = ["dockerd", "--data-root", f"{root}/data", "--exec-root", f"{root}/exec", "-H", address]
    command += [
        "--pidfile",
        f"{site.home}/pid",
        "--iptables=false",
        "--bridge=none",
        "--storage-driver",
        "vfs",
    ]
    (site.home / "project/Dockerfile").write_text(f"FROM {base}\nRUN exec sleep {marker}\n")
    site.env["DOCKER_HOST"] = address
    with (site.home / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        asked = lambda: site.run(DOCKER, "version", ok=False).code == 0  # noqa: E731
        wait_for(asked, "dockerd", daemon, site.home / "log")
        words = ("build", "project", "-t", "oci:out:1", "--platform", "linux/amd64", "--network", "none")
        with start(site, *words, "--engine", "docker") as process:
            until(lambda: runs(marker), process)
            daemon.kill()
            _, errors = process.communicate(timeout=60)
    finally:
        stop(daemon)
        for left in runs(marker):
            os.kill(left, signal.SIGKILL)
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(root).encode() in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)
        # A daemon that was killed leaves its mounts, and nobody could remove the folder.
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((m for m in mounted if m.startswith(f"{root}/")), reverse=True):
            subprocess.run(["umount", "-l", place], check=False)
    assert process.returncode == 3
    assert f"building for linux/amd64: native: docker (BuildKit): RUN exec sleep {marker} failed" in errors
    assert not (site.home / "out").exists()
