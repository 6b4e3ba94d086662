# SPDX-License-Identifier: Apache-2.0
"""Platforms with RUN on nodes of their own: an i386 engine over its socket and over ssh, an amd64 one over TLS."""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.real.building import push_base, rootfs, runs, start, until
from tests.real.parts import Done, Host, free_port, need, serve
from tests.real.swarm import MixedSwarm
from tests.real.swarm import until as wait_until

pytestmark = pytest.mark.real

DOCKER = "/usr/bin/docker"
PLATFORMS = ("linux/amd64", "linux/386")
DOCKERFILE = """\
FROM {base} AS made
RUN busybox uname -m >/machine
FROM {base}
COPY --from=made /machine /machine
ARG TARGETARCH
RUN echo $TARGETARCH >>/machine
COPY data /data
CMD ["/bin/cat", "/machine", "/data"]
"""


@dataclass
class Sshd:
    """A server on loopback whose users find the i386 engine; ``folder`` has keys, and ``bin/ssh`` that uses them."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def know(self, *, known: bool = True) -> None:
        """Make the server's host key known to the client, or unknown."""
        key = (self.folder / "host.pub").read_text() if known else ""
        (self.folder / "known").write_text(key and f"[127.0.0.1]:{self.port} {key}")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory, mixed: MixedSwarm) -> Iterator[Sshd]:
    """Debian's sshd with keys and configuration of its own. ssh itself reads nothing of the user's."""
    need("sshd", "ssh-keygen", package="openssh-server")
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv DOCKER_HOST={mixed.old.docker_host}\n"
    )
    for name in ("user", "stranger"):
        (folder / f"{name}.config").write_text(
            f"IdentityFile {folder}/{name}\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {folder}/known\nGlobalKnownHostsFile none\n"
        )
        program = folder / f"as-{name}" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/{name}.config "$@"\n')
        program.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    for _ in serve(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")], folder, port):
        yield Sshd(folder, port)


@dataclass
class TlsEngine:
    """An amd64 engine that asks for client certificates, which are in ``certificates``."""

    url: str
    certificates: Path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsEngine]:
    need("dockerd", package="docker.io")
    need("openssl")
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    write_certificates(folder)
    command = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    command += ["--pidfile", f"{folder}/pid", "--iptables=false", "--bridge=none", "--storage-driver", "vfs"]
    command += ["-H", f"tcp://127.0.0.1:{port}", "--tlsverify", f"--tlscacert={folder}/ca.pem"]
    command += [f"--tlscert={folder}/cert.pem", f"--tlskey={folder}/key.pem"]
    for _ in serve(command, folder, port):
        yield TlsEngine(f"tcp://127.0.0.1:{port}", folder)


def write_certificates(folder: Path) -> None:
    """An authority, and one certificate of it that serves both ends."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    (folder / "ext").write_text(
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n"
    )
    openssl("req", "-x509", *new, "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *new, "-subj", "/CN=engine", "-keyout", "key.pem", "-out", "csr")
    openssl(
        *("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-days", "2", "-extfile", "ext", "-out", "cert.pem"),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, mixed: MixedSwarm) -> str:
    layers = {"linux/amd64": rootfs("amd64"), "linux/386": rootfs("i386")}
    return push_base(tmp_path_factory.mktemp("bases"), f"{mixed.registry}/nodes/base", layers)


@pytest.fixture
def site(here: Host, base: str, sshd: Sshd, tls: TlsEngine) -> Host:
    """A project with RUN, a known host, a context for the engine behind TLS; no engine on this machine."""
    sshd.know()
    here.env |= {
        "DOCKER_CONFIG": str(here.home / "docker"),
        "MANYFEST_CACHE": str(here.home / "cache"),
        "PATH": f"{sshd.folder}/as-user:/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}",
        "DOCKER_HOST": f"unix://{here.home}/none.sock",
    }
    certificates = ",".join(f"{name}={tls.certificates}/{name}.pem" for name in ("ca", "cert", "key"))
    here.run(DOCKER, "context", "create", "behind-tls", "--docker", f"host={tls.url},{certificates}")
    project = here.home / "project"
    project.mkdir()
    (project / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    (project / "data").write_text("from the project\n")
    return here


def words(target: str, *nodes: str, platforms: str = ",".join(PLATFORMS)) -> list[str]:
    command = ["build", "project", "-t", target, "--platform", platforms, "--network", "none"]
    return [*command, *(word for node in nodes for word in ("--node", node))]


@pytest.mark.parametrize("way", ["unix", "ssh"])
def test_one_list_of_two_nodes(site: Host, mixed: MixedSwarm, sshd: Sshd, way: str) -> None:
    """Each platform where it is native, one list, which each node then runs; nothing stays on them."""
    target = f"{mixed.registry}/nodes/{way}:1"
    old = {"unix": mixed.old.docker_host, "ssh": sshd.url}[way]
    command = words(target, "linux/amd64=behind-tls", f"linux/386={old}")
    plan = site.manyfest(*command, "--dry-run", "--json").json["platforms"]
    assert [each["builder"] for each in plan] == [
        "docker (BuildKit) at behind-tls, native",
        f"docker (BuildKit) at {old}, native",
    ]
    first = site.manyfest(*command, "--json").json
    assert [each["platform"] for each in first["platforms"]] == list(PLATFORMS)
    site.manyfest("verify", target)
    for node, said in ((mixed.x86, "x86_64\namd64"), (mixed.old, "i686\n386")):
        assert node.docker("run", "--rm", target) == f"{said}\nfrom the project"
        assert "manyfest-build" not in node.docker("image", "ls")
    assert mixed.old.docker("ps", "--all", "--quiet") == ""
    assert site.manyfest(*command, "--json").json["digest"] == first["digest"]


def told(site: Host, *nodes: str, platforms: str = "linux/386", more: tuple[str, ...] = ()) -> str:
    """What a build says that cannot be done."""
    done = site.manyfest(*words("oci:out:1", *nodes, platforms=platforms), *more, ok=False)
    assert (done.code, done.out) == (3, "")
    assert not (site.home / "out").exists()
    return done.err


def test_a_way_that_is_closed(site: Host, sshd: Sshd, tls: TlsEngine, mixed: MixedSwarm) -> None:
    """Each error names the node and what is wrong with the way to it."""
    hand = f"ssh -p {sshd.port} {getpass.getuser()}@127.0.0.1"
    sshd.know(known=False)
    error = told(site, f"linux/386={sshd.url}")
    assert f"RUN for linux/386: docker (BuildKit) at {sshd.url}: version: Host key verification" in error
    assert f"accept it by hand: {hand}\n" in error
    assert (sshd.folder / "known").read_text() == ""

    sshd.know()
    port = free_port()
    error = told(site, f"linux/386={sshd.url.replace(str(sshd.port), str(port))}")
    assert f"connect to host 127.0.0.1 port {port}: Connection refused\n" in error

    site.env["PATH"] = site.env["PATH"].replace("as-user", "as-stranger")
    error = told(site, f"linux/386={sshd.url}")
    assert "Permission denied (publickey" in error
    assert "hint: nobody can be asked for a password: ssh-copy-id" in error

    # TLS: without certificates, and an engine that speaks plain HTTP.
    error = told(site, f"linux/amd64={tls.url}", platforms="linux/amd64")
    assert "docker context create" in error
    error = told(site, "linux/386=behind-tsl")
    assert "the Docker context 'behind-tsl' does not exist" in error
    assert "default, behind-tls\n" in error

    # An engine of another architecture than was said.
    error = told(site, f"linux/amd64={mixed.old.docker_host}", platforms="linux/amd64")
    assert f"at {mixed.old.docker_host} runs linux/386, not linux/amd64\n" in error


def test_interrupted_on_a_node(site: Host, mixed: MixedSwarm, sshd: Sshd, base: str) -> None:
    """Ctrl-C here ends the RUN there, and leaves nothing."""
    marker = f"{os.getpid()}2"
    (site.home / "project/Dockerfile").write_text(f"FROM {base}\nRUN exec sleep {marker}\n")
    with start(site, *words("oci:out:1", f"linux/386={sshd.url}", platforms="linux/386")) as process:
        until(lambda: runs(marker), process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=90)
    assert (process.returncode, errors) == (130, "manyfest: interrupted\n")
    wait_until(lambda: not runs(marker), "the RUN to end")
    assert mixed.old.docker("ps", "--all", "--quiet") == ""
    assert "manyfest-build" not in mixed.old.docker("image", "ls")
    assert not (site.home / "out").exists()


def test_what_is_finished_is_kept(site: Host, mixed: MixedSwarm, sshd: Sshd, base: str) -> None:
    """A node that goes in the middle of a RUN: the other platform is finished, and only this one is built again."""
    marker = f"{os.getpid()}386"
    (site.home / "project/.dockerignore").write_text("Dockerfile*\n")
    file = site.home / "project/Dockerfile.i386"
    file.write_text(f"FROM {base}\nRUN exec sleep {marker}\n")
    target = f"{mixed.registry}/nodes/kept:1"
    command = words(target, "linux/amd64=behind-tls", f"linux/386={sshd.url}")
    with start(site, *command, "--keep-going", "-j", "2", "-v") as process:
        until(lambda: runs(marker), process)
        mixed.old.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "built for linux/amd64 with docker (BuildKit) at behind-tls, native\n" in errors
    assert f"building for linux/386: native: docker (BuildKit) at {sshd.url}: RUN exec sleep" in errors
    assert site.manyfest("resolve", target, ok=False).code == 3
    # The engine behind ssh is gone; another one runs that platform too.
    unreachable = resumed(site, command, "--keep-going", ok=False)
    assert "Cannot connect to the Docker daemon" in unreachable.err
    assert "built for linux/amd64 (unchanged)\n" in unreachable.err
    file.write_text(f"FROM {base}\nRUN echo done >/done\n")
    made = resumed(site, words(target, "linux/amd64=behind-tls", "linux/386=behind-tls"))
    assert "built for linux/amd64 (unchanged)\nbuilt for linux/386 with docker (BuildKit) at b" in made.err
    entries = json.loads(site.manyfest("inspect", "--raw", target).out)["manifests"]
    assert [entry["platform"]["architecture"] for entry in entries] == ["amd64", "386"]


def resumed(site: Host, command: list[str], *more: str, ok: bool = True) -> Done:
    """The same build again."""
    return site.manyfest(*command, *more, "-j", "1", "-v", ok=ok)
