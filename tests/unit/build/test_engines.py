# SPDX-License-Identifier: Apache-2.0
"""Who builds what has a RUN, what engines are given, what is taken from them. They are scripts and stand-ins."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.build.conftest import HOST, Kitchen, config_of, files_of, image_of

from manyfest.build.attest import Attest
from manyfest.build.built import Built
from manyfest.build.cache import Cache
from manyfest.build.engines import Engines
from manyfest.build.plan import Options, build, plan
from manyfest.build.project import load
from manyfest.content import mediatypes
from manyfest.emulate.binfmt import Handler, target_for
from manyfest.emulate.doctor import Report, Status
from manyfest.emulate.images import layer_tar, write_image
from manyfest.emulate.interpreter import Interpreter
from manyfest.engines import builders, nodes, processes
from manyfest.engines.builders import Builder, Order, failed_step, find, on_node
from manyfest.engines.processes import wind_down
from manyfest.errors import BuildError, EngineError, InvalidProject
from manyfest.indexes import edit
from manyfest.platforms import Platform
from manyfest.stores.base import read
from manyfest.stores.copy import copy
from manyfest.stores.dockerarchive import DockerArchiveStore
from manyfest.stores.memory import Memory

AMD64, ARM64, S390X = (Platform.parse(f"linux/{name}") for name in ("amd64", "arm64", "s390x"))
BASE = "registry.test/base:1"
FILES = {p: layer_tar({"etc/base": (str(p).encode(), 0o644)}) for p in (AMD64, ARM64, S390X)}


class Engine(Builder):
    """Stands in for an engine: adds a layer that tells what it was asked, fails for the platforms in ``broken``."""

    def __init__(self, own: Platform = AMD64, where: str = "", name: str = "docker") -> None:
        super().__init__(name, "/nonexistent", mode="BuildKit" if name == "docker" else "", where=where)
        self.own = own
        self.orders: list[Order] = []
        self.contexts: list[dict[str, str]] = []
        self.broken: set[Platform] = set()
        self.makes: Platform | None = None

    def platform(self) -> Platform:
        return self.own

    def build(self, order: Order, archive: str, *, no_cache: bool = False) -> None:
        self.orders.append(order)
        self.contexts.append(
            {
                os.path.relpath(os.path.join(folder, name), order.context): Path(folder, name).read_text()
                for folder, _, names in os.walk(order.context)
                for name in names
            }
        )
        if order.platform in self.broken:
            raise EngineError("docker (BuildKit): RUN x failed; it said last:\n    no x")
        layers = [FILES[order.platform], layer_tar({"ran": (str(order.platform).encode(), 0o644)})]
        store, made = Memory("engine"), self.makes or order.platform
        settings = {"Cmd": ["/ran"], "Hostname": "x", "Shell": ["/bin/x"]}
        document = write_image(store, made, layers, settings=settings, docker=True)
        with DockerArchiveStore(archive) as target:
            copy(store, document, target, ["manyfest-build:1"])


def report(*served: Platform) -> Report:
    """Emulators for these."""
    statuses = []
    for platform in served:
        target = target_for(platform)
        handler = Handler.parse(f"qemu-{target.qemu}", _entry())
        statuses.append(
            Status(handler, Interpreter("/usr/bin/qemu", "/usr/bin/qemu", "qemu", "static"), (target,))
        )
    return Report("ready", "x86_64", tuple(statuses), ())


def _entry() -> str:
    return "enabled\ninterpreter /usr/bin/qemu\nflags: F\noffset 0\nmagic 7f454c46\n"


class Site(Kitchen):
    """A project whose platforms are built by stand-ins."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self.local = Engine()
        self.nodes: dict[str, Engine] = {}
        patch.setattr(builders, "find", lambda _: self.local)
        patch.setattr(builders, "on_node", lambda where, _: self.nodes[where])
        store = self.base(BASE)
        made = [(p, write_image(store, p, [FILES[p]], settings={})) for p in FILES]
        entries = [document.descriptor.with_platform(platform) for platform, document in made]
        store.tag(edit.build(entries), "1")
        self.digests = {p: str(document.digest) for p, document in made}

    def engines(self, **given: Any) -> Engines:
        return Engines(lambda: report(ARM64, S390X), **given)

    def run(
        self, dockerfile: str, *platforms: Platform, engines: Engines | None = None, **options: Any
    ) -> Built:
        self.write("Dockerfile", dockerfile)
        return build(
            load(str(self.folder)),
            Options(platforms, **options),
            HOST,
            self.open_source,
            Cache(str(self.cache_folder)),
            engines=engines or self.engines(),
            on_step=self.steps.append,
            on_warning=self.warnings.append,
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


RUN = f"FROM {BASE}\nARG TARGETARCH\nCOPY a /\nRUN x\n"


# --- who ---


@pytest.mark.parametrize(
    ("platform", "how"),
    [("linux/amd64", "native"), ("linux/386", "native"), ("linux/arm64", "emulated by qemu-aarch64")],
)
def test_this_machine(site: Site, platform: str, how: str) -> None:
    choice = site.engines().choose(Platform.parse(platform), "Dockerfile:1")
    assert (str(choice), choice.builder) == (f"docker (BuildKit), {how}", site.local)


def test_a_node_goes_first(site: Site) -> None:
    """For the platform that it is named for, which it has to be."""
    site.nodes = {"ssh://pi": Engine(ARM64, "ssh://pi"), "z": Engine(AMD64, "z")}
    engines = site.engines(nodes={ARM64: "ssh://pi", S390X: "z"})
    assert str(engines.choose(ARM64, "")) == "docker (BuildKit) at ssh://pi, native"
    with pytest.raises(BuildError, match=r"D:4: RUN for linux/s390x: .* at z runs linux/amd64, not") as told:
        engines.choose(S390X, "D:4")
    assert "leave linux/s390x out of the nodes" in told.value.hint
    assert engines.choose(AMD64, "").builder is site.local


def test_a_far_engine_may_emulate(site: Site) -> None:
    """DOCKER_HOST names an engine for everything."""
    site.local = Engine(AMD64, "ssh://far")
    assert str(site.engines().choose(S390X, "")) == "docker (BuildKit) at ssh://far, emulated there"


def test_nobody_can(site: Site) -> None:
    """Without an emulator, and on another system."""
    with pytest.raises(
        BuildError, match=r"Dockerfile:4: RUN for linux/riscv64: docker .* no emulator"
    ) as told:
        site.engines().choose(Platform.parse("linux/riscv64"), "Dockerfile:4")
    assert told.value.hint.startswith("manyfest emulators install riscv64; or name a machine")
    with pytest.raises(BuildError, match="runs linux"):
        site.engines().choose(Platform.parse("windows/amd64"), "Dockerfile:4")


def test_the_plan_says_who_and_why(site: Site) -> None:
    """Also for platforms that need nobody."""
    site.write("a", "A")
    site.write("Dockerfile", RUN)
    site.write("Dockerfile.s390x", "FROM scratch\nCOPY a /\n")
    project, options = load(str(site.folder)), Options((ARM64, S390X))
    planned = plan(project, options, HOST, site.open_source, Cache(str(site.cache_folder)), site.engines())
    assert [each.choice and each.choice.how for each in planned] == ["emulated by qemu-aarch64", None]
    assert planned[0].bases == (("0", BASE, site.digests[ARM64]),)
    assert site.local.orders == []


# --- what engines are given ---


def test_bases_are_pinned_for_each_platform(site: Site) -> None:
    """By digest, on the same lines; arguments of the platform are passed where they are declared."""
    site.write("a", "A")
    site.run(
        "# syntax=x\nARG B=base\nFROM registry.test/\\\n$B:1 AS Made\nRUN x\nFROM scratch AS none\nRUN y\n"
        f"FROM --platform=linux/amd64 {BASE}\nARG TARGETARCH\nCOPY --from=made /x /\nCOPY --from={BASE} /etc /\n",
        ARM64,
        args=(("V", "1"),),
    )
    (order,) = site.local.orders
    assert order.text == (
        "# syntax=x\nARG B=base\nFROM @@manyfest-base-0@@ AS made\n\nRUN x\nFROM scratch AS none\nRUN y\n"
        "FROM --platform=linux/amd64 @@manyfest-base-1@@\nARG TARGETARCH\nCOPY --from=made /x /\n"
        "COPY --from=@@manyfest-base-2@@ /etc /\n"
    )
    named = "registry.test/base@"
    assert [name for _, name, _ in order.bases] == [
        named + site.digests[ARM64],
        named + site.digests[AMD64],
        named + site.digests[ARM64],
    ]
    assert order.args == (("TARGETARCH", "arm64"), ("V", "1"))


def test_the_context(site: Site) -> None:
    """What is not ignored, links as links, and what was compiled though it is ignored."""
    for name in ("a", "b/c", "secret", "out/old"):
        site.write(name, name)
    os.symlink("a", site.folder / "l")
    site.write(".dockerignore", "secret\nout\nDockerfile\nmanyfest.yaml\n")
    site.write("manyfest.yaml", "image: x\ncompile: {run: 'echo {arch} > out/app', outputs: [out/app]}\n")
    site.run(RUN, AMD64, ARM64)
    contexts = sorted(site.local.contexts, key=lambda each: each["out/app"])
    assert [c.pop("out/app") for c in contexts] == ["amd64\n", "arm64\n"]
    assert contexts[0] == contexts[1] == {"a": "a", "b/c": "b/c", "l": "a"}


def test_a_base_of_another_platform_is_refused(site: Site) -> None:
    """Before any engine is asked."""
    single = site.base("registry.test/one:1")
    single.tag(write_image(single, S390X, [FILES[S390X]], settings={}), "1")
    with pytest.raises(
        BuildError, match=r"Dockerfile:1: registry.test/one:1: a single image, not for linux/arm64"
    ):
        site.run("FROM registry.test/one:1\nRUN x\n", ARM64)
    assert site.local.orders == []


def test_a_base_that_no_engine_can_pull(site: Site) -> None:
    site.bases["oci:bases:1"] = site.base(BASE)
    with pytest.raises(BuildError, match="oci:bases:1: engines pull bases from registries"):
        site.run("FROM oci:bases:1\nRUN x\n", AMD64)


# --- what is taken ---


def test_one_list_of_both_kinds(site: Site) -> None:
    """A base's layer is the base's own, the new one is compressed; the configuration is the engine's, cleaned."""
    site.write("a", "A")
    site.write("Dockerfile.s390x", "FROM scratch\nCOPY a /\n")
    built = site.run(RUN, AMD64, S390X, ARM64, labels=(("k", "v"),))
    assert [str(p) for p, _ in built.platforms] == ["linux/amd64", "linux/s390x", "linux/arm64"]
    base = site.base(BASE).resolve(site.digests[ARM64])
    own, new = image_of(built, 2).manifest.layers
    assert own.digest == base.manifest.layers[0].digest
    assert new.media_type == mediatypes.OCI_LAYER_GZIP
    assert files_of(built, 2) == {"etc": None, "etc/base": "linux/arm64", "ran": "linux/arm64"}
    config = config_of(built, 2)
    assert config["config"] == {"Cmd": ["/ran"], "Shell": ["/bin/x"], "Labels": {"k": "v"}}
    assert len(config["rootfs"]["diff_ids"]) == 2
    assert read(built, image_of(built, 2).manifest.config)
    assert "built for linux/amd64 with docker (BuildKit), native" in site.steps


def test_again_asks_no_engine(site: Site) -> None:
    """Until a file, an argument or the base changes."""
    site.write("a", "A")
    first = site.run(RUN, AMD64)
    assert site.run(RUN, AMD64).index.digest == first.index.digest
    assert len(site.local.orders) == 1
    site.write("a", "B")
    site.run(RUN, AMD64)
    site.run(RUN, AMD64, args=(("TARGETARCH", "x"),))
    assert len(site.local.orders) == 3


def test_attestations_of_what_an_engine_made(site: Site) -> None:
    """Who built it, from which base, and the files that the engine added; those of the base are the base's."""
    site.write("a", "A")
    built = site.run(RUN, ARM64, attest=Attest("max", sbom=True))
    said = {each.predicate_type: json.loads(each.raw)["predicate"] for each in built.attestations[0][1]}
    sbom, provenance = said["https://spdx.dev/Document"], said["https://slsa.dev/provenance/v1"]
    assert [each["fileName"] for each in sbom["files"]] == ["./ran"]
    definition = provenance["buildDefinition"]
    assert definition["internalParameters"]["builder"] == "docker"
    assert definition["resolvedDependencies"] == [
        {
            "uri": "pkg:docker/registry.test/base@1?platform=linux%2Farm64",
            "digest": {"sha256": site.digests[ARM64].removeprefix("sha256:")},
        }
    ]


def test_what_should_be_looked_at(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets and large contexts are warned of whoever builds, each once for all platforms."""
    monkeypatch.setattr("manyfest.build.caution._MANY_FILES", 3)
    site.write("a", "A")
    for number in range(2):
        site.write(f".git/{number}", "x")
    site.run(f"ARG TOKEN=x\n{RUN}ARG NPM_TOKEN\nENV PASSWORD=x\n", AMD64, ARM64)
    warned = [each.replace(f"{site.folder}/", "") for each in site.warnings]
    assert warned[:3] == [
        "Dockerfile:1: ARG TOKEN: build arguments are no place for secrets",
        "Dockerfile:6: ARG NPM_TOKEN: build arguments are no place for secrets",
        "Dockerfile:7: ENV PASSWORD: its value can be read by whoever has the image",
    ]
    assert warned[3:] == [
        "the engine gets .git (2 files); list it in .dockerignore",
        "the engine gets 5 files of 0 MB; .dockerignore can leave some out",
    ]


def test_keep_going_and_resume(site: Site) -> None:
    """All failures are told, what succeeded is kept."""
    site.write("a", "A")
    site.local.broken = {ARM64, S390X}
    with pytest.raises(BuildError, match="2 of 3 platforms failed") as told:
        site.run(RUN, AMD64, ARM64, S390X, engines=site.engines(keep_going=True))
    assert "building for linux/arm64: emulated by qemu-aarch64: docker (BuildKit): RUN x failed" in str(
        told.value
    )
    site.local.broken = set()
    site.local.orders.clear()
    assert len(site.run(RUN, AMD64, ARM64, S390X).platforms) == 3
    assert {order.platform for order in site.local.orders} == {ARM64, S390X}
    assert [name for name in os.listdir(site.cache_folder) if name.startswith("engine-")] == []


def test_keep_going_without_a_node(site: Site) -> None:
    """A node that is not what it should be loses only its own platform; without the option nothing is begun."""
    site.write("a", "A")
    site.nodes = {"z": Engine(AMD64, "z")}
    for keep_going, built in ((False, set()), (True, {AMD64, ARM64})):
        with pytest.raises(BuildError, match="RUN for linux/s390x") as told:
            site.run(
                RUN, S390X, AMD64, ARM64, engines=site.engines(nodes={S390X: "z"}, keep_going=keep_going)
            )
        assert {order.platform for order in site.local.orders} == built
    assert "the same command builds only the rest" in told.value.hint
    site.local.orders.clear()
    assert len(site.run(RUN, S390X, AMD64, ARM64).platforms) == 3
    assert [order.platform for order in site.local.orders] == [S390X]


def test_an_engine_that_makes_something_else(site: Site) -> None:
    site.write("a", "A")
    site.local.makes = S390X
    with pytest.raises(BuildError, match="for linux/arm64"):
        site.run(RUN, ARM64)


def test_nodes_of_the_project(site: Site) -> None:
    """With the place of a mistake."""
    site.write("Dockerfile", RUN)
    site.write("manyfest.yaml", "image: x\nnodes: {linux/arm64: ssh://pi}\n")
    assert load(str(site.folder)).nodes == ((ARM64, "ssh://pi"),)
    site.write("manyfest.yaml", "image: x\nnodes: {'': ssh://pi}\n")
    with pytest.raises(InvalidProject, match=r"manyfest.yaml:2:"):
        load(str(site.folder))


# --- engines' commands ---


def script(folder: Path, name: str, body: str) -> None:
    """A program of that name which also writes down how it was called."""
    path = folder / name
    log = folder / f"{name}.log"
    path.write_text(f'#!/bin/sh\necho "$DOCKER_BUILDKIT|$*" >> {log}\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


DOCKER = """case "$*" in
*buildx*) exit 1;;
--version) echo "Docker version 20.10.24+dfsg1, build x";;
*"version --format"*) echo linux/amd64;;
*" build "*|build*) echo "#5 [2/3] RUN make"; echo "#5 ERROR: exit code: 2"; exit 1;;
esac"""


def test_docker_builds_with_buildkit(tmp_path: Path) -> None:
    """Words, environment, the failed step; and what is cleaned up."""
    script(tmp_path, "docker", DOCKER)
    builder = find("docker", {"PATH": str(tmp_path)})
    assert (str(builder), builder.platform()) == ("docker (BuildKit)", AMD64)
    order = Order(
        ARM64, "FROM @@b@@\n", "ctx", args=(("A", "1"),), bases=(("@@b@@", "x@y", ARM64),), target="t"
    )
    with pytest.raises(
        EngineError, match=r"docker \(BuildKit\): RUN make failed; it said last:\n    #5 \[2/3\]"
    ):
        builder.build(order.replace(network="none"), str(tmp_path / "i.tar"))
    calls = (tmp_path / "docker.log").read_text().splitlines()
    asked = next(call for call in calls if "|build " in call)
    assert asked.startswith("1|build --platform linux/arm64 --tag manyfest-build-")
    assert asked.endswith("i.tar.Dockerfile --build-arg A=1 --target t --network none ctx")
    assert calls[-1].startswith("1|image rm --force manyfest-build-") or "image rm --force" in calls[-1]
    assert not (tmp_path / "i.tar.Dockerfile").exists()


def test_which_docker(tmp_path: Path) -> None:
    """A newer command without buildx cannot; an older one further on can; or the user wants the classic builder."""
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    script(tmp_path / "new", "docker", DOCKER.replace("20.10.24", "28.2.2"))
    script(tmp_path / "old", "docker", DOCKER)
    path = f"{tmp_path}/new{os.pathsep}{tmp_path}/old"
    assert find("docker", {"PATH": f"{tmp_path}/new"}).mode == "classic"
    assert find("docker", {"PATH": path}).mode == "BuildKit"
    assert find("docker", {"PATH": path, "DOCKER_BUILDKIT": "0"}).mode == "classic"
    plugin = DOCKER.replace("*buildx*) exit 1;;", "*buildx*) echo github.com/docker/buildx v0.1;;")
    script(tmp_path / "new", "docker", plugin)
    assert find("docker", {"PATH": path}).mode == "buildx"


@pytest.mark.parametrize(
    ("where", "words"), [("ssh://u@h", "--host ssh://u@h version"), ("ctx", "--context ctx version")]
)
def test_nodes_by_url_and_by_context(tmp_path: Path, where: str, words: str) -> None:
    script(tmp_path, "docker", DOCKER)
    env = {"PATH": str(tmp_path), "DOCKER_CONFIG": str(tmp_path)}
    _write_context(tmp_path, "ctx", "tcp://far:2376")
    assert str(on_node(where, "", env)) == f"docker (BuildKit) at {where}"
    assert words in (tmp_path / "docker.log").read_text()
    with pytest.raises(EngineError, match="'cxt' does not exist") as told:
        on_node("cxt", "", env)
    assert told.value.hint.endswith("default, ctx")


@pytest.mark.parametrize(
    "where",
    [
        "",
        "--x",
        "ftp://x",
        "ssh://",
        "tcp://",
        "unix://",
        "ssh://-oProxyCommand=x",
        "ssh://me@-x",
        "ssh://-l@h",
        "tcp://:1",
    ],
)
def test_what_is_no_node(tmp_path: Path, where: str) -> None:
    """Nothing is run for it: ssh would take a host with a dash for an option."""
    script(tmp_path, "docker", DOCKER)
    with pytest.raises(EngineError, match="expected a URL such as") as told:
        on_node(where, "", {"PATH": str(tmp_path)})
    assert "machine:NAME" in told.value.hint
    assert not (tmp_path / "docker.log").exists()


def _write_context(config: Path, name: str, host: str) -> None:
    folder = config / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    fields = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
    (folder / "meta.json").write_text(json.dumps(fields))


SSH = (
    "error during connect: Get http://x/version: command [ssh -- pi docker system dial-stdio] has exited with exit "
    "status 255, please make sure Docker 18.09 or later is installed on the remote host: stderr="
)


@pytest.mark.parametrize(
    ("where", "said", "shown", "hint"),
    [
        ("ssh://me@pi:2", f"{SSH}Host key verification failed.", "Host key verification failed.", "ssh -p 2 me@pi"),
        ("ssh://pi", f"{SSH}me@pi: Permission denied (publickey).", "Permission denied", "ssh-copy-id pi,"),
        ("ssh://pi", f"{SSH}ssh: Could not resolve hostname pi: x", "resolve hostname", "name in ssh://pi"),
        ("ssh://pi", f"{SSH}sh: 1: docker: not found", "docker: not found", "install Docker on that machine"),
        ("ssh://pi", "error during connect: malformed HTTP", "malformed HTTP", "try: ssh pi docker version"),
        ("tcp://pi:1", "error during connect: x509: unknown authority", "x509", "docker context create"),
        ("tcp://pi:1", "Cannot connect to the Docker daemon", "Cannot connect", "at tcp://pi:1 running?"),
        ("unix:///s", "permission denied while trying to connect to the socket", "permission", "its user to"),
    ],
)  # fmt: skip
def test_a_node_that_cannot_be_reached(tmp_path: Path, where: str, said: str, shown: str, hint: str) -> None:
    """What the way says, without the frame around it, and what helps."""
    script(tmp_path, "docker", f"case $1 in --host) echo '{said}' >&2; exit 1;; esac\n{DOCKER}")
    with pytest.raises(EngineError) as told:
        on_node(where, "", {"PATH": str(tmp_path)})
    assert shown in str(told.value)
    assert "dial-stdio" not in str(told.value)
    assert hint in told.value.hint


def test_a_node_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "docker", f"case $1 in --host) exec sleep 60;; esac\n{DOCKER}")
    monkeypatch.setattr(builders, "CALL_TIMEOUT_S", 0.2)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with pytest.raises(EngineError, match=r"at ssh://pi: version: no answer within 0.2 s") as told:
        on_node("ssh://pi", "", {"PATH": path})
    assert "try: ssh pi" in told.value.hint


def test_nothing_to_be_found(tmp_path: Path) -> None:
    """What was looked for, and what was wrong with what is there."""
    script(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(EngineError) as told:
        find("", {"PATH": str(tmp_path)})
    assert "docker (version: Cannot connect to the Docker daemon), podman (not on PATH), buildah (not" in str(
        told.value
    )
    with pytest.raises(EngineError, match="expected one of docker, podman, buildah"):
        find("rkt", {})
    with pytest.raises(EngineError, match="buildah works on its own machine only"):
        on_node("ssh://h", "buildah", {"PATH": str(tmp_path)})


def test_buildah_gets_bases_under_names_of_ours(tmp_path: Path) -> None:
    """So that its containers can be told from others; a registry of this machine is asked over HTTP."""
    script(tmp_path, "buildah", 'case "$1" in pull) echo sha;; esac')
    builder = find("buildah", {"PATH": str(tmp_path)})
    order = Order(ARM64, "FROM @@b@@\n", "ctx", bases=(("@@b@@", "127.0.0.1:5/x@y", ARM64),))
    builder.build(order, str(tmp_path / "i.tar"))
    calls = [line[1:] for line in (tmp_path / "buildah.log").read_text().splitlines()]
    assert calls[1] == "pull --quiet --platform linux/arm64 --tls-verify=false 127.0.0.1:5/x@y"
    assert calls[2].startswith("tag sha localhost/manyfest-build-")
    assert calls[3].startswith("build --format docker --layers=false --platform linux/arm64 --tag localhost/")
    assert calls[4].startswith("push --quiet localhost/manyfest-build-")
    assert [call.split()[0] for call in calls[5:]] == ["containers", "rmi", "rmi"]


def test_stop_ends_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another thread; nothing starts after it."""
    monkeypatch.setattr(processes, "IDLE_S", 0.05)
    started = tmp_path / "started"
    os.mkfifo(started)
    script(
        tmp_path,
        "podman",
        f'case "$1" in version) echo linux/amd64;; build) echo > {started}; exec sleep 60;; esac',
    )
    builder = find("podman", {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    failures: list[EngineError] = []

    def work() -> None:
        try:
            builder.build(Order(AMD64, "FROM scratch\n", "."), str(tmp_path / "i.tar"))
        except EngineError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    started.read_text()
    builder.stop()
    thread.join(30)
    with pytest.raises(EngineError, match="stopped"):
        builder.build(Order(AMD64, "FROM scratch\n", "."), str(tmp_path / "i.tar"))
    assert [str(error) for error in failures] == ["podman: build: stopped"]


def test_a_node_that_goes_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it builds: it is asked now and then, and given up when it leaves three questions unanswered."""
    monkeypatch.setattr(nodes, "PULSE_S", 0.02)
    script(
        tmp_path,
        "docker",
        "case $* in *' build '*) touch gone; exec sleep 60;; --host*) test ! -e gone || exit 1;; esac\n"
        + DOCKER,
    )
    monkeypatch.chdir(tmp_path)
    builder = on_node("ssh://pi", "", {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    with pytest.raises(EngineError) as told:
        builder.build(Order(AMD64, "FROM scratch\n", "."), str(tmp_path / "i.tar"))
    assert "at ssh://pi: build failed; it said last:\n    no answer to 3 questions in a row" in str(
        told.value
    )
    assert told.value.hint == "is the machine up, and does it listen there? try: ssh pi"


@pytest.mark.parametrize("signals", ["", "trap '' TERM;"])
def test_a_build_that_cleans_up(tmp_path: Path, signals: str) -> None:
    """What RUN started is ended first, whatever it does about it: the engine's command sees a step that failed."""
    body = f"""{signals} (sh -c 'echo $$ >begun; exec sleep 60'); echo $? >cleaned; exit 1"""
    command = ["/bin/sh", "-c", body]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as process:
        while not (tmp_path / "begun").exists() or not (tmp_path / "begun").read_text():
            assert process.poll() is None
        wind_down([process])
        assert process.wait(10) == 1
    assert (tmp_path / "cleaned").read_text() == "137\n"


@pytest.mark.parametrize(
    ("lines", "step"),
    [
        (["#4 [1/2] FROM x", "#5 [2/2] RUN a", "#6 [b 1/1] RUN c", "#5 ERROR: exit code: 1"], "RUN a"),
        (["#4 [1/2] FROM x", "#5 [2/2] RUN a", "unexpected EOF"], "RUN a"),
        (["Step 1/2 : FROM x", "Step 2/2 : RUN a && b", "non-zero code: 1"], "RUN a && b"),
        (["STEP 1/2: FROM x", "STEP 2/2: RUN a", 'Error: building at STEP "RUN a"'], "RUN a"),
        (["[1/2] STEP 2/2: RUN a", "x"], "RUN a"),
        (["no such host"], ""),
    ],
)
def test_the_step_that_failed(lines: list[str], step: str) -> None:
    assert failed_step(lines) == step
