# SPDX-License-Identifier: Apache-2.0
"""Drafts: lists that are described but not pushed yet, one YAML file each; and the YAML of ``push -f``.

A draft *is* a list spec (:mod:`manyfest.indexes.spec`), so what was done by hand can be committed as a file. Files
live in ``$MANYFEST_DATA/drafts``, by default ``~/.local/share/manyfest/drafts``, and are named after the list with
everything but small letters, digits and ``-._~`` percent-encoded: two lists never share a file, not even where file
names ignore case.

    >>> path_of(Reference.parse("app:V1")).rpartition("/")[2]
    'docker.io%2Flibrary%2Fapp%3A%561.yaml'

Writing is atomic, and :func:`update` holds a lock from reading to writing, so that two ``annotate`` at the same time
lose nothing.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from urllib.parse import quote, unquote

from manyfest.errors import InputError, InvalidSpec, NotFound, StoreError
from manyfest.indexes.spec import Spec
from manyfest.reference import DEFAULT_TAG, Reference
from manyfest.stores._data import data_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = [
    "all",
    "directory",
    "dump",
    "load",
    "parse",
    "path_of",
    "place_of",
    "read_spec",
    "remove",
    "save",
    "update",
]

MAX_BYTES = 4 * 1024 * 1024
"""The largest spec that is read."""

_PAGES = "docs/reference/list-file.md and docs/reference/manyfest-yaml.md say what the file may hold"
_ENDING = ".yaml"
_LONGEST = 200
"""Bytes of a file name before the rest goes into a folder below; file systems end at 255."""


def directory() -> str:
    """The folder of all drafts; it need not exist."""
    return data_folder("drafts")


def path_of(reference: Reference) -> str:
    """Where the draft of a list is, or would be."""
    name = _encoded(_key(reference))
    pieces = [name[i : i + _LONGEST] for i in range(0, len(name), _LONGEST)]
    # "+" never comes out of percent-encoding, so a folder is never mistaken for a list.
    return os.path.join(directory(), *(f"{piece}+" for piece in pieces[:-1]), pieces[-1] + _ENDING)


def load(reference: Reference) -> Spec:
    """The draft of a list. Raises :class:`NotFound`, or :class:`InvalidSpec` for a file somebody broke."""
    path = path_of(reference)
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(reference) from None
    except OSError as error:
        raise _failed(path, error) from error
    return parse(raw, path)


def save(spec: Spec) -> str:
    """Write a draft, whole or not at all; returns its path. Raises :class:`StoreError`."""
    path = path_of(Reference.parse(spec.image))
    with _lock():
        _write(path, dump(spec))
    return path


def update(reference: Reference, change: Callable[[Spec | None], Spec]) -> Spec:
    """Replace a draft by what ``change`` makes of it (of ``None`` when there is none), alone meanwhile."""
    with _lock():
        try:
            known: Spec | None = load(reference)
        except NotFound:
            known = None
        spec = change(known)
        _write(path_of(reference), dump(spec))
    return spec


def remove(reference: Reference) -> None:
    """Forget a draft. Raises :class:`NotFound`."""
    path = path_of(reference)
    if not os.path.lexists(path):
        raise _missing(reference)
    # Locked, so that an update under way does not bring back what it read before.
    with _lock():
        try:
            os.unlink(path)
        except FileNotFoundError:
            raise _missing(reference) from None
        except OSError as error:
            raise _failed(path, error) from error


def all() -> list[Spec]:
    """Every draft, sorted by name. Raises :class:`InvalidSpec` for a file somebody broke."""
    root = directory()
    references: list[Reference] = []
    for folder, _, names in os.walk(root):
        above = "" if folder == root else os.path.relpath(folder, root).replace(os.sep, "").replace("+", "")
        for name in names:
            if name.endswith(_ENDING) and not name.startswith("."):
                references.append(Reference.parse(unquote(above + name.removesuffix(_ENDING))))
    return [load(reference) for reference in sorted(references, key=str)]


def read_spec(path: str) -> Spec:
    """The list spec in a file, ``-`` for standard input.

    Raises :class:`InvalidSpec` naming file, line and column, :class:`InputError` for a file that cannot be read.
    """
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return parse(raw, "standard input" if path == "-" else path)


def parse(raw: bytes, where: str) -> Spec:
    """The spec that YAML text holds. Raises :class:`InvalidSpec` with ``where``, line and column."""
    if len(raw) > MAX_BYTES:
        raise InvalidSpec(f"{where}: more than {MAX_BYTES} bytes, expected a list spec")
    import yaml

    try:
        loader = _loader()(raw)
        try:
            node = loader.get_single_node()
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidSpec(f"{_at(where, mark)}: {error.problem or error.context}", hint=_PAGES) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidSpec(f"{where}: not YAML: {str(error).splitlines()[0]}") from None
    if value is None:
        raise InvalidSpec(
            f"{where}: an empty document, expected a list spec", hint="it needs image: and manifests:"
        )
    try:
        return Spec.from_mapping(value)
    except InvalidSpec as error:
        raise InvalidSpec(
            f"{_at(where, _mark_of(node, str(error)))}: {error}", hint=error.hint or _PAGES
        ) from error


def place_of(path: str, message: str) -> str:
    """``FILE:LINE:COLUMN`` of the key that a message such as ``smoke.timeout: …`` begins with; else the file alone."""
    import yaml

    if path == "-":
        return "standard input"
    try:
        with open(path, "rb") as file:
            node = yaml.compose(file.read(MAX_BYTES), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return path
    return path if node is None else _at(path, _mark_of(node, message))


def dump(spec: Spec) -> str:
    """The YAML of a spec, as ``push -f`` reads it."""
    import yaml

    return str(yaml.safe_dump(spec.to_mapping(), sort_keys=False, allow_unicode=True, width=110))


def _key(reference: Reference) -> str:
    if reference.digest:
        raise InputError(
            f"{reference.familiar}: a list has a tag, not a digest", hint="leave out what follows the @"
        )
    return str(reference if reference.tag else reference.with_tag(DEFAULT_TAG))


def _encoded(text: str) -> str:
    return "".join(f"%{ord(c):02X}" if "A" <= c <= "Z" else quote(c, safe="") for c in text)


def _loader() -> Any:
    """PyYAML's safe loader, in C where it was built so, refusing what YAML itself forbids: a key given twice."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key.value, str):
                    raise yaml.constructor.ConstructorError(
                        None, None, "a key must be text, got a list or mapping", key.start_mark
                    )
                if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands here twice", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    return Loader


def _mark_of(node: Any, message: str) -> Any:
    """The place in the file of the key that a message of :meth:`Spec.from_mapping` begins with."""
    path = message.partition(": ")[0].split(" ")[0]
    unknown = re.search(r"unknown key '([^']*)'", message)
    mark = node.start_mark
    while path and path != "the":
        step = _step(node, path)
        if step is None:
            break
        mark, node, path = step
    if unknown and hasattr(node, "value"):
        return next((k.start_mark for k, _ in _pairs(node) if k.value == unknown[1]), mark)
    return mark


def _step(node: Any, path: str) -> tuple[Any, Any, str] | None:
    """One key or index of a path such as ``manifests[2].platform.os.version``: its mark, its node, what is left."""
    index = re.match(r"\[(\d+)\]\.?", path)
    if index:
        items = node.value if isinstance(node.value, list) else []
        at = int(index[1])
        return (items[at].start_mark, items[at], path[index.end() :]) if at < len(items) else None
    for key, value in _pairs(node):
        if isinstance(key.value, str) and re.match(re.escape(key.value) + r"(?=[.\[]|$)", path):
            return key.start_mark, value, path[len(key.value) :].removeprefix(".")
    return None


def _pairs(node: Any) -> list[Any]:
    return node.value if type(node).__name__ == "MappingNode" else []


def _at(where: str, mark: Any) -> str:
    return where if mark is None else f"{where}:{mark.line + 1}:{mark.column + 1}"


@contextmanager
def _lock() -> Iterator[None]:
    """One writer at a time, over processes; given up by the system when a process dies."""
    import fcntl

    folder = directory()
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle = os.open(os.path.join(folder, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _failed(folder, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        _discard(temporary)
        if isinstance(error, OSError):
            raise _failed(path, error) from error
        raise


def _discard(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)


def _missing(reference: Reference) -> NotFound:
    return NotFound(
        f"No such manifest: {reference.familiar}",
        hint="manyfest ls shows the drafts; manyfest create makes one",
    )


def _failed(path: str, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: {error.strerror}", hint="drafts live in $MANYFEST_DATA, or in $XDG_DATA_HOME/manyfest"
    )
