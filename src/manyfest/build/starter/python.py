# SPDX-License-Identifier: Apache-2.0
"""Python: pip unpacks the wheels of each platform here, so that nothing has to run in the image."""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any

from manyfest.build.starter.recipe import Recipe, Wish, plain, read_text
from manyfest.errors import InvalidProject

__all__ = ["python"]

_VERSION = "3.13"
_BASE = f"ARG BASE=docker.io/library/python:{_VERSION}-slim-trixie\nFROM $BASE\n"
_MAINS = ("__main__.py", "main.py", "app.py", "server.py")
_INSTALL = (
    "python3 -m pip install --quiet --no-compile --target {out}/out/lib --only-binary=:all:"
    f" --python-version {_VERSION}"
    "\n    --platform manylinux2014_{uname} --platform manylinux_2_28_{uname} --platform manylinux_2_39_{uname}"
)
"""Wheels with compiled parts say which glibc they need at least; Debian 13 has 2.41."""

_ENTRY = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


def python(wish: Wish) -> Recipe:
    """A package with a ``pyproject.toml``; else scripts, with or without ``requirements.txt``."""
    if os.path.isfile(wish.path("pyproject.toml")) or os.path.isfile(wish.path("setup.py")):
        return _package(wish)
    return _scripts(wish)


def _package(wish: Wish) -> Recipe:
    # Built in a copy: several platforms at once would write into one another's folders.
    text = f"""\
compile:
  run: >-
    rm -rf {{build}}/* && mkdir {{build}}/src &&
    tar -c --exclude=.git --exclude=.manyfest --exclude=.venv --exclude=venv . | tar -x -C {{build}}/src &&
    python3 -m pip wheel --quiet --no-deps --wheel-dir {{build}} {{build}}/src &&
    {_INSTALL} {{build}}/*.whl &&
    rm -rf {{out}}/out/lib/bin {{out}}/out/lib/*.dist-info/direct_url.json
  outputs: [out/lib]
"""
    start = (
        f"WORKDIR /app\nCOPY out/lib /app/lib\nENV PYTHONPATH=/app/lib\nUSER 65532:65532\n{_entrypoint(wish)}"
    )
    return Recipe(text, _BASE + start, needs="python")


def _entrypoint(wish: Wish) -> str:
    """The first of ``[project.scripts]``, as its program would call it; else ``python -m`` of the project's name."""
    try:
        fields: dict[str, Any] = tomllib.loads(read_text(wish.path("pyproject.toml")))
    except tomllib.TOMLDecodeError as error:
        raise InvalidProject(f"{wish.path('pyproject.toml')}: {error}") from error
    project = fields.get("project")
    project = project if isinstance(project, dict) else {}
    scripts = project.get("scripts")
    first = next(iter(scripts.values()), "") if isinstance(scripts, dict) else ""
    entry = _ENTRY.fullmatch(first) if isinstance(first, str) else None
    if entry is not None:
        call = f"import sys; from {entry[1]} import {entry[2]}; sys.exit({entry[2]}())"
        return f'ENTRYPOINT ["python", "-c", "{call}"]\n'
    name = project.get("name")
    module = re.sub(r"[-.]", "_", name if isinstance(name, str) else wish.name)
    return f'ENTRYPOINT ["python", "-m", "{plain(module, "the module to start")}"]\n'


def _scripts(wish: Wish) -> Recipe:
    names = sorted(os.listdir(wish.folder))
    scripts = [name for name in names if name.endswith(".py")]
    main = next((name for name in _MAINS if name in scripts), scripts[0] if len(scripts) == 1 else "")
    if not main:
        what = (
            f"which of {', '.join(scripts)} is started?" if scripts else "no .py files and no pyproject.toml"
        )
        raise InvalidProject(
            f"{wish.folder}: {what}",
            hint=f"call it one of {', '.join(_MAINS)}, or write a pyproject.toml with [project.scripts]",
        )
    packages = [name for name in names if os.path.isfile(os.path.join(wish.folder, name, "__init__.py"))]
    wanted = re.sub(r"#.*", "", read_text(wish.path("requirements.txt"))).strip()
    lines = ["WORKDIR /app"]
    text = ""
    if wanted:
        text = f"""\
compile:
  run: >-
    {_INSTALL} -r requirements.txt &&
    rm -rf {{out}}/out/lib/bin
  outputs: [out/lib]
"""
        lines += ["COPY out/lib /app/lib", "ENV PYTHONPATH=/app/lib"]
    lines.append("COPY *.py /app/")
    lines += [f"COPY {plain(name, 'a package')} /app/{name}" for name in packages]
    lines += ["USER 65532:65532", f'ENTRYPOINT ["python", "{plain(main, "the script to start")}"]', ""]
    return Recipe(
        text, _BASE + "\n".join(lines), needs="python" if wanted else "", ignored=("**/__pycache__",)
    )
