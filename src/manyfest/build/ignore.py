# SPDX-License-Identifier: Apache-2.0
"""The build context: files of the project that a Dockerfile may copy, less what .dockerignore leaves out.

``<Dockerfile>.dockerignore`` beside the Dockerfile goes before ``.dockerignore``
(https://docs.docker.com/build/concepts/context/#dockerignore-files). Only what a COPY names is ever looked at. What
compiling wrote for a platform lies over the project's own files and is never ignored.

Nothing outside the project is read: paths cannot climb, and a link that leads out is refused where it would have to
be followed. Links inside copied folders are copied as links.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from typing import TYPE_CHECKING

from e2b_dockerfile_utils import PatternMatcher

from manyfest.build.layer import Entry
from manyfest.errors import BuildError, InvalidProject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from manyfest.build.cache import Hashes
    from manyfest.stores.base import Readable

__all__ = ["OWN_FOLDER", "Context", "DiskFile", "has_wildcard", "matcher_for", "pattern_of"]

OWN_FOLDER = ".manyfest"
"""Never part of a context."""

_MAX_IGNORE = 1024 * 1024
_WILD = re.compile(r"(?<!\\)[*?\[]")


def matcher_for(folder: str, dockerfile: str) -> tuple[PatternMatcher, str]:
    """The patterns that go with a Dockerfile and the file they are from, if any. Raises :class:`InvalidProject`."""
    for path in (f"{dockerfile}.dockerignore", os.path.join(folder, ".dockerignore")):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(_MAX_IGNORE + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InvalidProject(f"{path}: {error.strerror}") from error
        if len(text) > _MAX_IGNORE:
            raise InvalidProject(f"{path}: more than {_MAX_IGNORE} bytes")
        try:
            # Only a line feed ends a line for engines; blanks, a carriage return too, are taken off the patterns.
            return PatternMatcher(text.removeprefix("\ufeff").split("\n")), path
        except ValueError as error:
            raise InvalidProject(f"{path}: {error}") from error
    return PatternMatcher([]), ""


def has_wildcard(path: str) -> bool:
    """Does a COPY source have ``*``, ``?`` or ``[…]``?"""
    return bool(_WILD.search(path))


def pattern_of(part: str) -> re.Pattern[str]:
    """One path component of a source with wildcards, by Go's filepath.Match: ``[^a]`` negates, backslash escapes."""
    translated: list[str] = []
    i = 0
    while i < len(part):
        c = part[i]
        end = part.find("]", i + 2) if c == "[" else -1
        if c == "\\" and i + 1 < len(part):
            i += 1
            translated.append(re.escape(part[i]))
        elif end > 0:
            translated.append(_set_of(part[i + 1 : end]))
            i = end
        else:
            translated.append({"*": "[^/]*", "?": "[^/]"}.get(c, re.escape(c)))
        i += 1
    return re.compile("".join(translated), re.DOTALL)


def _set_of(body: str) -> str:
    """``[a-z]`` as a regular expression. Unlike a shell's, ``!`` is a character like others."""
    negated = "^" if body.startswith("^") else ""
    plain = re.sub(r"\\(.)", r"\1", body.removeprefix("^"), flags=re.DOTALL)
    found = f"[{negated}{''.join(c if c == '-' else re.escape(c) for c in plain)}]"
    try:
        re.compile(found)
    except re.error:
        return "(?!)"  # a range that ends before it begins holds nothing
    return found


class DiskFile:
    """A file of the project, read when the layer is written."""

    def __init__(self, path: str, facts: os.stat_result, hashes: Hashes) -> None:
        self._path = path
        self._facts = facts
        self._hashes = hashes

    @property
    def key(self) -> str:
        """By hash."""
        return f"sha256:{self._hashes.of(self._path, self._facts)}"

    @property
    def path(self) -> str:
        """Where it is on disk."""
        return self._path

    def open(self) -> Readable:
        """The file; a link put in its place meanwhile is refused."""
        try:
            return os.fdopen(
                os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0
            )
        except OSError as error:
            raise BuildError(f"{self._path}: {error.strerror}") from error


class Context:
    """What one platform's build may copy. ``over`` maps paths of the project to where compiling put them."""

    def __init__(
        self,
        folder: str,
        ignore: PatternMatcher,
        hashes: Hashes,
        *,
        ignore_file: str = "",
        over: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = os.path.realpath(folder)
        self.ignore_file = ignore_file
        self._ignore = ignore
        self._hashes = hashes
        self._over = {posixpath.normpath(path): real for path, real in (over or {}).items()}

    def resolve(self, path: str) -> str:
        """The path with links followed (also the last), as a path of the project again.

        Raises :class:`BuildError` for a link that leads out, or nowhere.
        """
        clean = posixpath.normpath("/" + path).lstrip("/")
        if self._covered(clean) or self._is_above_cover(clean):
            return clean
        real = os.path.realpath(os.path.join(self.folder, clean))
        if os.path.islink(real):
            # What is followed to its end is no link, unless it has none.
            raise BuildError(
                f"{path}: symbolic links that lead in a circle", hint="copy the file itself into the project"
            )
        if real == self.folder:
            return ""
        if not real.startswith(self.folder + os.sep):
            raise BuildError(
                f"{path}: a link that leads out of the project, to {real}",
                hint="copy the file into the project, or build from a folder that holds both",
            )
        return os.path.relpath(real, self.folder)

    def find(self, path: str) -> Entry | None:
        """What is at a path, not following a link there; ``None`` if it is not there or ignored."""
        left_out = bool(path) and self._is_left_out(path)
        if left_out and not self._may_hold(path):
            return None
        try:
            entry = self._entry(path, self._real(path))
            return None if left_out and entry.kind != "dir" else entry
        except (FileNotFoundError, NotADirectoryError):
            # A folder that exists only because something below it was compiled.
            return Entry(path, "dir", 0o755) if self._is_above_cover(path) else None

    def is_ignored(self, path: str) -> bool:
        """Is something there that .dockerignore leaves out?"""
        return self._is_left_out(path) and os.path.lexists(self._real(path))

    def names(self, folder: str) -> list[str]:
        """What a folder holds, sorted, whether ignored or not."""
        prefix = f"{folder}/" if folder else ""
        names = {p[len(prefix) :].partition("/")[0] for p in self._over if p.startswith(prefix)}
        try:
            names.update(os.listdir(self._real(folder)))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise BuildError(
                f"{self._real(folder)}: {error.strerror}",
                hint="every folder that is copied must be readable; .dockerignore can leave it out",
            ) from error
        return sorted(names)

    def below(self, folder: str) -> Iterator[Entry]:
        """Everything under a folder that is not ignored, parents before children."""
        for name in self.names(folder):
            path = posixpath.join(folder, name)
            left_out = self._is_left_out(path)
            if left_out and not self._may_hold(path):
                continue
            try:
                entry = self._entry(path, self._real(path))
            except FileNotFoundError:
                if not self._is_above_cover(path):
                    raise BuildError(f"{path}: it went away while the project was read") from None
                entry = Entry(path, "dir", 0o755)
            if entry.kind != "dir":
                if not left_out:
                    yield entry
                continue
            children = list(self.below(path))
            # A folder that is ignored comes along only for what is taken from it after all.
            if not left_out or children:
                yield entry
            yield from children

    def _may_hold(self, path: str) -> bool:
        return self._ignore.may_match_under(path) or self._is_above_cover(path)

    def _is_left_out(self, path: str) -> bool:
        if path == OWN_FOLDER or path.startswith(f"{OWN_FOLDER}/"):
            return True
        return not self._covered(path) and bool(self._ignore.patterns) and self._ignore.matches(path)

    def _covered(self, path: str) -> str:
        """The compiled output that a path is, or is in."""
        return next((over for over in self._over if path == over or path.startswith(f"{over}/")), "")

    def _is_above_cover(self, path: str) -> bool:
        return any(over.startswith(f"{path}/") for over in self._over)

    def _real(self, path: str) -> str:
        over = self._covered(path)
        if over:
            return (
                os.path.join(self._over[over], path[len(over) :].lstrip("/"))
                if path != over
                else self._over[over]
            )
        return os.path.join(self.folder, path) if path else self.folder

    def _entry(self, path: str, real: str) -> Entry:
        facts = os.lstat(real)
        mode = stat.S_IMODE(facts.st_mode)
        if stat.S_ISDIR(facts.st_mode):
            return Entry(path, "dir", mode)
        if stat.S_ISLNK(facts.st_mode):
            return Entry(path, "link", 0o777, link=os.readlink(real))
        if stat.S_ISREG(facts.st_mode):
            return Entry(path, "file", mode, size=facts.st_size, content=DiskFile(real, facts, self._hashes))
        raise BuildError(
            f"{real}: a device, pipe or socket in the project", hint="remove it, or list it in .dockerignore"
        )
