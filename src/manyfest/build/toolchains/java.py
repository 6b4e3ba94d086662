# SPDX-License-Identifier: Apache-2.0
"""Java: compiled once for all platforms, with the JDK of JAVA_HOME or PATH."""

from __future__ import annotations

import os

from manyfest.build.toolchains.setup import Setup, on_path, variable

__all__ = ["java"]


def java() -> Setup:
    """JAVA_HOME. Raises :class:`BuildError` where there is no compiler."""
    tool = _find()
    # /usr/bin/javac is a link to a link; JAVA_HOME is where it leads.
    home = os.path.dirname(os.path.dirname(os.path.realpath(tool)))
    return Setup(os.path.join(home, "bin", "javac"), {"JAVA_HOME": home})


def _find() -> str:
    home = os.environ.get("JAVA_HOME", "")
    path = os.path.join(home, "bin", "javac")
    if home and os.access(path, os.X_OK):
        return path
    return variable("JAVAC") or on_path(
        "javac", "install a JDK (apt-get install default-jdk-headless), or say where one is with JAVA_HOME"
    )
