# SPDX-License-Identifier: Apache-2.0
"""The command lines of the jobs that build.

``assemble``: six platforms of a project without RUN, pushed under one name; ``rebuild``: the same again, nothing having
changed; ``tar``: a tar archive as the one layer of an image; ``clean`` throws away, unmeasured, what was built.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from bench.names import PLATFORMS, tag_of

if TYPE_CHECKING:
    from bench.peers import Commands, Scene

__all__ = ["BUILDING", "buildah", "crane", "docker", "docker_program", "manyfest"]

BUILDING = ("assemble", "rebuild", "tar")
_LAST_WITH_BUILDKIT = 22
"""From version 23 on docker needs a plugin for it."""


def manyfest(program: str, job: str, scene: Scene) -> Commands:
    """One process for all platforms."""
    if job == "clean":
        return []
    if job == "tar":
        return [
            [
                program,
                "build",
                str(scene.project.archive),
                "-t",
                scene.target(job),
                "--platform",
                "linux/amd64",
            ]
        ]
    platforms = ",".join(PLATFORMS)
    target = _target(job, scene, "manyfest")
    return [[program, "build", str(scene.project.folder), "-t", target, "--platform", platforms]]


def docker(program: str, job: str, scene: Scene) -> Commands:
    """Six builds with BuildKit, six pushes, and a list of what was pushed."""
    if not scene.engine or job == "tar":
        return []
    if job == "clean":
        return [[program, "image", "prune", "--all", "--force"]]
    target, folder = _target(job, scene, "docker"), str(scene.project.folder)
    repository = target.rpartition(":")[0]
    names = {platform: f"{repository}:{tag_of(platform)}" for platform in PLATFORMS}
    build = [
        [program, "build", "--quiet", "--platform", p, "--tag", name, folder] for p, name in names.items()
    ]
    push = [[program, "push", "--quiet", name] for name in names.values()]
    manifest = [program, "manifest"]
    create = [*manifest, "create", "--insecure", "--amend", target, *names.values()]
    return [*build, *push, create, [*manifest, "push", "--insecure", target]]


def buildah(program: str, job: str, scene: Scene) -> Commands:
    """One build of all platforms into a list, one push of it, with layers kept for the next build."""
    if job == "tar":
        return []
    kept = [f"--root={scene.scratch}/build-root", f"--runroot={scene.scratch}/build-run"]
    command = [program, *kept, "--storage-driver=overlay"]
    if job == "clean":
        return [[*command, "rmi", "--all", "--force"]]
    target, name = _target(job, scene, "buildah"), f"localhost/{scene.fresh}"
    words = ["--layers", "--jobs=0", "--isolation=chroot", f"--platform={','.join(PLATFORMS)}"]
    build = [*command, "build", "--quiet", *words, f"--manifest={name}", str(scene.project.folder)]
    push = [
        *command,
        "manifest",
        "push",
        "--all",
        "--quiet",
        "--tls-verify=false",
        name,
        f"docker://{target}",
    ]
    return [build, push]


def crane(program: str, job: str, scene: Scene) -> Commands:
    """It builds nothing, but makes a layer of a tar archive."""
    if job != "tar":
        return []
    return [[program, "append", "--insecure", "-f", str(scene.project.tar), "-t", scene.target(job)]]


def _target(job: str, scene: Scene, tool: str) -> str:
    """Always new, but for what is built again: that is each tool's own."""
    return f"{scene.here}/bench/rebuilt-{tool}:1" if job == "rebuild" else scene.target(job)


def docker_program() -> str | None:
    """A docker that has BuildKit: the first one on PATH is not always one."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    paths = (shutil.which("docker", path=folder) for folder in folders)
    for path in filter(None, paths):
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        number = re.search(r"version (\d+)\.", done.stdout)
        if number and int(number[1]) <= _LAST_WITH_BUILDKIT:
            return path
    return None
