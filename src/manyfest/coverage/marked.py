# SPDX-License-Identifier: Apache-2.0
"""YAML whose every value knows its line and column, so that whoever reads a file can say where it is wrong.

    >>> document, = load(b"services:\\n  web: {image: nginx}\\n", "compose.yaml")
    >>> image = document["services"]["web"]["image"]
    >>> image.text("an image"), image.where
    ('nginx', 'compose.yaml:2:16')

Bounded: a file of at most 16 MB and, aliases followed, at most 200,000 values.
"""

from __future__ import annotations

import sys

from manyfest.errors import InputError, InvalidSpec
from manyfest.values import brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

__all__ = ["MAX_BYTES", "Marked", "load", "read_file"]

MAX_BYTES = 16 * 1024 * 1024
MAX_VALUES = 200_000
MAX_DEPTH = 100


class Marked:
    """A value of a document: a mapping of text to :class:`Marked`, a list of them, a scalar, or nothing at all.

    What is absent is a :class:`Marked` of ``None`` that is where its parent is, so paths need no tests on the way.
    ``raw`` is the text of a scalar without quotes, which other programs may take for something else than we do.
    """

    __slots__ = ("column", "file", "line", "path", "raw", "value")

    def __init__(
        self, value: Any, file: str, line: int, column: int, path: str = "", raw: str | None = None
    ) -> None:
        self.value = value
        self.file = file
        self.line = line
        self.column = column
        self.path = path
        self.raw = raw

    @property
    def where(self) -> str:
        """``FILE:LINE:COLUMN``, counted from one."""
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def is_there(self) -> bool:
        """Is it anything but null or absent?"""
        return self.value is not None

    def __getitem__(self, key: str) -> Marked:
        found = self.value.get(key) if isinstance(self.value, dict) else None
        path = f"{self.path}.{key}" if self.path else key
        return found if found is not None else Marked(None, self.file, self.line, self.column, path)

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def mapping(self, what: str = "a mapping") -> dict[str, Marked]:
        """Its items; none when absent. Raises :class:`InvalidSpec`."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            self.refuse(what)
        found: dict[str, Marked] = self.value
        return found

    def items(self, what: str = "a list") -> list[Marked]:
        """Its elements; none when absent. Raises :class:`InvalidSpec`."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            self.refuse(what)
        found: list[Marked] = self.value
        return found

    def text(self, what: str = "text") -> str:
        """Its text, numbers as they read; empty when absent. Raises :class:`InvalidSpec`."""
        if self.value is None:
            return ""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float):
            self.refuse(what)
        return str(self.value)

    def texts(self, what: str = "a list of texts") -> list[str]:
        """Texts of a list, or a single text as a list."""
        if isinstance(self.value, str):
            return [self.value]
        return [item.text(what) for item in self.items(what)]

    def refuse(self, expected: str) -> NoReturn:
        """Raises :class:`InvalidSpec` that names place and path."""
        plain = brief(self.value)
        if isinstance(self.value, dict | list):
            plain = "a mapping" if isinstance(self.value, dict) else "a list"
        raise InvalidSpec(f"{self.where}: {self.path or 'the document'} is {plain}, expected {expected}")

    def __repr__(self) -> str:
        return f"Marked({self.where}, {type(self.value).__name__})"


def read_file(path: str) -> bytes:
    """The bytes of a file, ``-`` for standard input. Raises :class:`InputError`."""
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES} bytes, expected a description of what to run")
    return raw


def load(raw: bytes, file: str) -> list[Marked]:
    """Every document of a YAML stream (JSON is YAML too); empty ones are left out.

    Raises :class:`InvalidSpec` with line and column.
    """
    import yaml

    loader = _loader()(raw)
    budget = _Budget(file)
    found: list[Marked] = []
    try:
        while loader.check_node():
            node = loader.get_node()
            if node.tag == "tag:yaml.org,2002:null":
                continue
            found.append(_marked(loader, node, budget, "", 0))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
        raise InvalidSpec(f"{file}{at}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidSpec(
            f"{file}: not YAML: {(str(error).splitlines() or ['nested too deep'])[0]}"
        ) from None
    finally:
        loader.dispose()
    return found


class _Budget:
    def __init__(self, file: str) -> None:
        self.file = file
        self.left = MAX_VALUES

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise InvalidSpec(f"{self.file}: more than {MAX_VALUES} values, its aliases followed")


def _marked(loader: Any, node: Any, budget: _Budget, path: str, depth: int) -> Marked:
    budget.spend()
    if depth > MAX_DEPTH:
        raise InvalidSpec(f"{budget.file}:{node.start_mark.line + 1}: nested too deep, or in a loop")
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    kind = type(node).__name__
    if node.tag == "!reset":  # Compose: this key is taken back
        return Marked(None, budget.file, line, column, path)
    if kind == "MappingNode":
        _refuse_doubles(node)
        loader.flatten_mapping(node)
        fields = {
            key: _marked(loader, value, budget, f"{path}.{key}" if path else key, depth + 1)
            for key, value in _pairs(node)
        }
        return Marked(fields, budget.file, line, column, path)
    if kind == "SequenceNode":
        items = [
            _marked(loader, item, budget, f"{path}[{at}]", depth + 1) for at, item in enumerate(node.value)
        ]
        return Marked(items, budget.file, line, column, path)
    value = node.value if node.tag.startswith("!") else loader.construct_object(node, deep=True)
    is_plain = not node.style and not node.tag.startswith("!")
    return Marked(value, budget.file, line, column, path, node.value if is_plain else None)


def _pairs(node: Any) -> Iterator[tuple[str, Any]]:
    """Keys as text; of a key that merging (``<<``) brought in too, the mapping's own value, which comes last."""
    import yaml

    own: dict[str, Any] = {}
    for key, value in node.value:
        if type(key).__name__ != "ScalarNode":
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
        own[key.value] = value
    yield from own.items()


def _refuse_doubles(node: Any) -> None:
    """YAML forbids a key given twice, and so do Compose and Kubernetes; looked at before merging adds more."""
    import yaml

    # A mapping that an alias brings here again was flattened the first time, and looked at before that.
    if getattr(node, "flattened", False):
        return
    node.flattened = True
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key.value, str) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in seen:
                problem = f"the key {key.value!r} stands here twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)


def _loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
