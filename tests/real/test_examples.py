# SPDX-License-Identifier: Apache-2.0
"""The examples, built as their READMEs say: what comes out is verified, started, and looked at in a browser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from html import unescape
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

import pytest
from tests.real.debian import fetched
from tests.real.parts import Host, Registry, find_go, free_port, listening, need, stop, wait_for
from tests.real.test_dashboard import browse, kept

from manyfest.build.project import load
from manyfest.emulate.programs import program
from manyfest.platforms import Platform
from manyfest.stores._inflate import Inflated
from manyfest.stores.layout import Layout

pytestmark = [pytest.mark.real, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")
"""Go compiles its library for each of them, which is most of the time of these tests."""

DOCKER = "/usr/bin/docker"
DIGEST = f"sha256:{'4e1f0a3b5c6d7e89' * 4}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, go_cache: Path) -> Path:
    """The folder of an OCI layout with qcon for three platforms, whose contents ``verify: true`` has agreed to."""
    home = tmp_path_factory.mktemp("qcon")
    here = Host(home, {"GOCACHE": str(go_cache), "MANYFEST_CACHE": str(home / "cache")})
    here.manyfest("build", str(EXAMPLES / "qcon"), "-t", "oci:built:1", "--platform", ",".join(PLATFORMS))
    here.manyfest("verify", "--strict", "oci:built:1")
    return home / "built"


@pytest.fixture(scope="module")
def programs(built: Path) -> dict[str, Path]:
    """The program of each platform, out of its image."""
    found = {}
    with Layout(str(built)) as layout:
        for entry in layout.resolve("1").index.manifests:
            (layer,) = layout.resolve(str(entry.digest)).manifest.layers
            folder = built.parent / str(entry.platform).replace("/", "-")
            folder.mkdir()
            plain = Inflated(layout.open(layer), "layer").read()
            subprocess.run(["tar", "-x", "-C", folder], input=plain, check=True)
            found[str(entry.platform)] = folder / "qcon"
    return found


@pytest.fixture
def serving(programs: dict[str, Path], tmp_path: Path) -> Iterator[dict[str, int]]:
    """Ports where qcon answers: natively, and as an s390x under QEMU."""
    need("qemu-s390x-static", package="qemu-user-static")
    ports, running = {}, []
    try:
        for name, words in (("linux/amd64", []), ("linux/s390x", ["qemu-s390x-static"])):
            ports[name] = free_port()
            command = [*words, str(programs[name]), "--listen", f"127.0.0.1:{ports[name]}"]
            env = {"QCON_IMAGE": f"reg.example.org/qcon:1.0@{DIGEST}", "QCON_NODE": f"node-of-{name[6:]}"}
            log = tmp_path / f"log-{name[6:]}"
            with log.open("wb") as out:
                running.append(subprocess.Popen(command, env=env, stdout=out, stderr=out))
            wait_for(lambda port=ports[name]: listening(port), name, running[-1], log)  # type: ignore[misc]
        yield ports
    finally:
        for process in running:
            stop(process)
    assert {process.returncode for process in running} == {0}, "told to end, it ends well"


def ask(port: int, path: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    return text


@pytest.fixture
def balancer(serving: dict[str, int]) -> Iterator[int]:
    """A port behind which both take turns, by connection, as Swarm's mesh does it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        turns = cycle(serving.values())
        threads: list[threading.Thread] = []

        def accept() -> None:
            with contextlib.suppress(OSError):  # The listener is closed at the end.
                while True:
                    threads.append(threading.Thread(target=relay, args=(server.accept()[0], next(turns))))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for thread in threads:
            thread.join()


def relay(client: socket.socket, port: int) -> None:
    """One request and its answer, whose end is the end of the connection; a browser's spare connection has neither."""
    client.settimeout(10)
    with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as service:
        if request := client.recv(65536):
            service.sendall(request)
            while data := service.recv(65536):
                client.sendall(data)


def test_its_own_tests(go_cache: Path, tmp_path: Path) -> None:
    """As its README says."""
    env = {**os.environ, "GOCACHE": str(go_cache), "HOME": str(tmp_path), "CGO_ENABLED": "0"}
    done = subprocess.run(
        [find_go(), "test", "-trimpath", "."],
        cwd=EXAMPLES / "qcon",
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ok")


def test_every_platform_says_which_it_is(programs: dict[str, Path], here: Host) -> None:
    """Natively and under QEMU."""
    need("qemu-s390x-static", "qemu-aarch64-static", package="qemu-user-static")
    words = {"linux/arm64": ["qemu-aarch64-static"], "linux/s390x": ["qemu-s390x-static"]}
    for name in PLATFORMS:
        assert here.run(*words.get(name, []), str(programs[name]), "version").out == f"qcon {name}\n"


def test_it_says_where_it_runs(serving: dict[str, int], here: Host, programs: dict[str, Path]) -> None:
    """For programs: the platform, the node and the image; and what nobody told is null."""
    for name, port in serving.items():
        told = json.loads(ask(port, "/json"))
        assert (told["platform"], told["node"]) == (name, f"node-of-{name[6:]}")
        assert (told["image"], told["digest"]) == ("reg.example.org/qcon:1.0", DIGEST)
        assert told["host"] == socket.gethostname()
        assert here.run(str(programs["linux/amd64"]), "get", f"http://127.0.0.1:{port}/healthz").out == "ok\n"


def test_asking_again_reaches_another(balancer: int) -> None:
    """Each link remembers who has answered; after both have, it says two."""
    link, seen = "/", []
    for _ in range(3):
        page = ask(balancer, link)
        seen.append(re.findall(r"<h1[^>]*>(.*?)</h1>", page)[0])
        link = unescape(re.findall(r'class="button" href="(.*?)"', page)[0])
    assert seen == ["linux/amd64", "linux/s390x", "linux/amd64"]
    assert "2 of 8 architectures have answered" in page


def test_the_page_in_a_browser(balancer: int, tmp_path: Path) -> None:
    """It asks by itself when told to; nothing is fetched from elsewhere; landmarks and names are there."""
    html = browse(
        tmp_path, f"http://127.0.0.1:{balancer}/?seen=arm64", "--dump-dom", "--enable-logging=stderr"
    )
    for expected in (
        "<header",
        "<main",
        "<footer",
        'class="skip"',
        "aria-labelledby",
        'aria-current="true"',
        DIGEST,
    ):
        assert expected in html, expected
    assert html.count("<svg") == 9
    assert [word for word in ("<script", "<img", "url(", "onclick") if word in html] == []
    assert set(re.findall(r'(?:href|src)="([^"#]*)"', html)) >= {"/json", "/healthz", "/icon.svg"}
    assert [
        link for link in re.findall(r'(?:href|src)="([^"]*)"', html) if not link.startswith(("/", "#"))
    ] == []


@pytest.mark.parametrize(
    ("name", "flags"), [("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",))]
)
def test_screenshots(serving: dict[str, int], tmp_path: Path, name: str, flags: tuple[str, ...]) -> None:
    """A picture of each kind of light; dark is darker."""
    picture = kept(f"qcon-{name}")
    url = f"http://127.0.0.1:{serving['linux/s390x']}/?seen=amd64,arm64,386,arm/v7"
    browse(tmp_path, url, f"--screenshot={picture}", "--window-size=1100,820", *flags)
    raw = picture.read_bytes()
    assert struct.unpack(">II", raw[16:24]) == (1100, 820)
    assert len(raw) > 50_000, "an empty page is smaller"


def test_in_an_engine(built: Path, here: Host, engine: str) -> None:
    """The image as it is: its user, its port, its health check."""
    here.env["DOCKER_HOST"] = engine
    port = free_port()
    here.manyfest("copy", f"oci:{built}:1", "docker-daemon:qcon:1", "--platform", "linux/s390x")
    run = ("run", "--detach", "--network", "host", "--platform", "linux/s390x")
    name = here.run(DOCKER, *run, "--env", f"QCON_LISTEN=127.0.0.1:{port}", "qcon:1").out.strip()
    try:
        check = here.run(DOCKER, "inspect", "--format", "{{json .Config.Healthcheck.Test}}", name).json
        assert check == ["CMD", "/qcon", "get"]
        # The first of its own checks is ten seconds away; this is the same command.
        wait = (
            f"for i in 1 2 3 4 5 6 7 8; do {DOCKER} exec {name} /qcon get && exit 0; sleep 0.5; done; exit 1"
        )
        assert here.run("sh", "-c", wait).out == "ok\n"
        told = json.loads(ask(port, "/json"))
        assert (told["platform"], told["digest"]) == ("linux/s390x", None)
    finally:
        here.run(DOCKER, "rm", "--force", name)


@pytest.fixture
def demo(here: Host, go_cache: Path) -> Iterator[subprocess.Popen[str]]:
    """``manyfest demo --app --serve`` on the example for three of its platforms."""
    shutil.copytree(EXAMPLES / "qcon", here.home / "qcon")
    text = (here.home / "qcon/manyfest.yaml").read_text()
    wanted = "".join(f"  - {name}\n" for name in PLATFORMS)
    fewer = re.sub(r"(?m)^platforms:\n(  - .*\n)+", f"platforms:\n{wanted}", text)
    (here.home / "qcon/manyfest.yaml").write_text(fewer)
    (here.home / "temporary").mkdir()
    own = {
        "GOCACHE": str(go_cache),
        "MANYFEST_CACHE": f"{here.home}/cache",
        "TMPDIR": f"{here.home}/temporary",
    }
    env = {"PATH": f"/usr/bin:/bin:{os.environ['PATH']}", "HOME": str(here.home), **own}
    env["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, "-m", "manyfest", "demo", "--app", "qcon", "--no-engine", "--serve"]
    with subprocess.Popen(
        command, cwd=here.home, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_the_demo_shows_who_answers(demo: subprocess.Popen[str], here: Host) -> None:
    """From source to a page behind one address, whose every reload reaches the next; Ctrl-C ends it well."""
    need("qemu-s390x-static", "qemu-aarch64-static", package="qemu-user-static")
    assert demo.stdout is not None
    lines = []
    while line := demo.stdout.readline():
        lines.append(line)
        if "Ctrl-C ends it" in line:
            break
    told = "".join(lines)
    for name in PLATFORMS:
        assert f"compiled for {name}" in told
        assert re.search(rf"{name} +\S+ +answers\n", told), told
    url = re.findall(r"Look: (\S+)", told)[0]
    port = int(url.split(":")[2].strip("/"))
    pages = [ask(port, "/") for _ in PLATFORMS]
    assert {re.findall(r"<h1[^>]*>(.*?)</h1>", page)[0] for page in pages} == set(PLATFORMS)
    digest = re.findall(r"\$ manyfest build.*?(sha256:[0-9a-f]{64})\n\$ ", told, re.DOTALL)[0]
    assert all(digest in page for page in pages)
    demo.send_signal(signal.SIGINT)
    out, _ = demo.communicate(timeout=90)
    assert (demo.returncode, "Done:" in out) == (0, True)
    assert list((here.home / "temporary").iterdir()) == []
    assert not listening(port)


def test_the_classic_layout(here: Host, go_cache: Path, tmp_path: Path) -> None:
    """The plan: an engine first, then eight Dockerfiles that need none. And its loop writes what those copy."""
    folder = EXAMPLES / "qcon/classic"
    assert {str(p) for p in load(str(folder)).platforms} == {
        str(p) for p in load(str(EXAMPLES / "qcon")).platforms
    }
    text = (folder / "Dockerfile.build").read_text()
    script = text.partition("\nRUN ")[2].replace("\\\n", " ").replace("/out/", f"{tmp_path}/")
    wanted = "amd64 arm64 s390x"
    env = {
        **os.environ,
        "GOCACHE": str(go_cache),
        "HOME": str(tmp_path),
        "CGO_ENABLED": "0",
        "ARCHITECTURES": wanted,
    }
    env["PATH"] = f"{Path(find_go()).parent}:{env['PATH']}"
    subprocess.run(["/bin/sh", "-c", script], cwd=EXAMPLES / "qcon", env=env, check=True)
    made = {path.name: Platform.parse(f"linux/{path.name[5:]}") for path in tmp_path.glob("qcon-*")}
    assert set(made) == {"qcon-amd64", "qcon-arm64", "qcon-s390x"}
    for name, platform in made.items():
        assert f"out/{name} /qcon" in (folder / f"Dockerfile.{platform.architecture}").read_text()


STAND_IN = """\
#!/bin/sh
# In place of Go, which takes a minute for this: the program that it is asked for, ready made.
while [ "$1" != -o ]; do shift; done
mkdir -p "${2%/*}" && cp "/programs/$GOARCH${GOARM:+v$GOARM}" "$2"
"""


def test_the_classic_layout_in_an_engine(here: Host, engine: str, embedded: Registry) -> None:
    """Dockerfile.build by Docker, what it wrote by eight Dockerfiles, and verify agrees that each got its own."""
    base, folder = here.home / "base", EXAMPLES / "qcon/classic"
    (base / "bin").mkdir(parents=True)
    busybox = fetched("amd64", {"busybox-static"}, "debian-12")["busybox-static"]
    here.run("dpkg-deb", "-x", str(busybox), str(base / "unpacked"))
    shutil.copy(base / "unpacked/bin/busybox", base / "bin/sh")
    for name in ("echo", "sed", "tr", "mkdir", "cp"):
        (base / "bin" / name).symlink_to("sh")
    (base / "bin/go").write_text(STAND_IN)
    (base / "bin/go").chmod(0o755)
    (base / "programs").mkdir()
    platforms = load(str(folder)).platforms
    for platform in platforms:
        ready = base / "programs" / f"{platform.architecture}{platform.variant}"
        ready.write_bytes(program(platform))
        ready.chmod(0o755)
    (base / "Dockerfile").write_text("FROM scratch\nCOPY bin /bin\nCOPY programs /programs\nENV PATH=/bin\n")
    here.env |= {"DOCKER_HOST": engine, "MANYFEST_CACHE": str(here.home / "cache")}
    name = f"{embedded.host}/examples/go:1"
    here.manyfest("build", "base", "-t", name, "--platform", "linux/amd64")
    here.manyfest("build", str(folder), "-t", "oci:out:1", "--build-arg", f"GO={name}", "--network", "none")
    shown = here.manyfest("verify", "--strict", "oci:out:1", "--json").json
    assert {each["platform"] for each in shown["platforms"]} == {str(each) for each in platforms}
    assert len(platforms) == 8


@pytest.mark.parametrize(
    ("name", "platforms", "says"),
    [
        ("hello-c", "linux/s390x", "hello from C on Linux s390x, pointers of 64 bits\n"),
        (
            "hello-go",
            "linux/amd64,linux/arm64,linux/s390x",
            f"hello from linux/s390x on {socket.gethostname()}\n",
        ),
    ],
)
def test_hello(here: Host, go_cache: Path, zig_cache: Path, name: str, platforms: str, says: str) -> None:
    """Built and verified; the one for s390x says so under QEMU."""
    need("qemu-s390x-static", package="qemu-user-static")
    here.env |= {"GOCACHE": str(go_cache), "ZIG_GLOBAL_CACHE_DIR": str(zig_cache)}
    here.env["MANYFEST_CACHE"] = str(here.home / "cache")
    here.manyfest("build", str(EXAMPLES / name), "-t", "oci:out:1", "--platform", platforms)
    here.manyfest("verify", "--strict", "oci:out:1")
    with Layout(str(here.home / "out")) as layout:
        entry = layout.resolve("1").index.manifests[-1]
        (layer,) = layout.resolve(str(entry.digest)).manifest.layers
        plain = Inflated(layout.open(layer), "layer").read()
    subprocess.run(["tar", "-x", "-C", here.home], input=plain, check=True)
    assert here.run("qemu-s390x-static", str(here.home / "hello")).out == says


def test_hello_java(here: Host) -> None:
    """Compiled once; one layer on top of a base of every platform."""
    need("javac", package="openjdk-17-jdk-headless")
    base = here.home / "base"
    base.mkdir()
    (base / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /etc/base\n")
    platforms = "linux/amd64,linux/s390x"
    here.manyfest("build", "base", "-t", "oci:bases:1", "--platform", platforms)
    project = here.home / "hello-java"
    shutil.copytree(EXAMPLES / "hello-java", project)
    shown = here.manyfest(
        "build",
        "hello-java",
        "-t",
        "oci:out:1",
        "--platform",
        platforms,
        "--build-arg",
        "BASE=oci:bases:1",
        "--json",
    ).json
    assert len({tuple(each["layers"]) for each in shown["platforms"]}) == 1
    with Layout(str(here.home / "out")) as layout:
        entry = layout.resolve("1").index.manifests[1]
        layer = layout.resolve(str(entry.digest)).manifest.layers[-1]
        plain = Inflated(layout.open(layer), "layer").read()
    subprocess.run(["tar", "-x", "-C", here.home], input=plain, check=True)
    assert here.run("java", "-jar", str(here.home / "hello.jar")).out.startswith(
        "hello from Java 17 on Linux "
    )
