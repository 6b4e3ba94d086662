# SPDX-License-Identifier: Apache-2.0
"""What git knows of a project: the commit, where it came from, and whether files differ from it."""

from __future__ import annotations

import subprocess

from manyfest.errors import InputError
from manyfest.values import Value

__all__ = ["Revision", "revision_of"]

TIMEOUT_S = 30


class Revision(Value):
    """``commit``: its hash; ``name``: as ``git describe`` calls it; ``origin``: an address without credentials.

    ``is_clean``: the tracked files are those of the commit.
    """

    __slots__ = ("commit", "is_clean", "name", "origin")
    commit: str
    is_clean: bool
    name: str
    origin: str

    def __init__(self, commit: str, name: str = "", origin: str = "", *, is_clean: bool = True) -> None:
        self._set(commit=commit, name=name, origin=origin, is_clean=is_clean)

    @property
    def uri(self) -> str:
        """The origin as SPDX writes it (``git+https://…``); empty where it is not a place that others can reach."""
        scheme, separator, rest = self.origin.partition("://")
        if separator:
            return f"git+{scheme}://{rest}" if scheme in ("https", "http", "ssh", "git") else ""
        host, colon, path = self.origin.partition(":")
        # git@host:path, which is ssh's own way of writing it.
        return f"git+ssh://{host}/{path}" if colon and "/" not in host and not path.startswith("/") else ""


def revision_of(folder: str) -> Revision | None:
    """The revision of a folder; ``None`` where it is in no repository with a commit, or no git is installed.

    Raises :class:`InputError` where git does not end.
    """

    def asked(*words: str) -> str:
        try:
            done = subprocess.run(
                ["git", "-C", folder, *words], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except FileNotFoundError:
            return ""
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"{folder}: git could not be run: {error}") from error
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = asked("rev-parse", "HEAD")
    if not commit:
        return None
    name = asked("describe", "--tags", "--always", "--dirty")
    origin = _without_credentials(asked("remote", "get-url", "origin"))
    return Revision(commit, name, origin, is_clean=not name.endswith("-dirty"))


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
