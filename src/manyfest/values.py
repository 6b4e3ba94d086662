# SPDX-License-Identifier: Apache-2.0
"""Immutable values without :mod:`dataclasses`, whose import alone costs more than a whole registry request.

``docs/decisions/0005-values-without-dataclasses.md`` has the figures. A value names its fields in
``__slots__`` and sets them once, in ``__init__``::

    >>> class Point(Value):
    ...     __slots__ = ("x", "y")
    ...     def __init__(self, x, y):
    ...         self._set(x=x, y=y)
    >>> Point(1, 2)
    Point(x=1, y=2)
    >>> Point(1, 2) == Point(1, 2), Point(1, 2).replace(y=3)
    (True, Point(x=1, y=3))
    >>> Point(1, 2).x = 5
    Traceback (most recent call last):
    AttributeError: Point is immutable; use replace()
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["Value", "brief"]

_BRIEF = 80


class Value:
    """Equality, hash and repr over ``__slots__``; assignment raises :class:`AttributeError`."""

    __slots__: tuple[str, ...] = ()

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def replace(self, **changes: Any) -> Self:
        """The same value with some fields changed; it is validated again."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return type(self)(**{**fields, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; use replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; use replace()")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self), *self._fields()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Copying and pickling would set the slots one by one, which is what a value refuses.
        return _rebuilt, (type(self), {name: getattr(self, name) for name in self.__slots__})

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value!r}" for name, value in zip(self.__slots__, self._fields(), strict=True)
        )
        return f"{type(self).__name__}({shown})"


def brief(value: object) -> str:
    """Something untrusted, for a message: short, and without walking into what may be nested a thousand deep."""
    if value is None or isinstance(value, (str, int, float)):
        shown = repr(value)
        return shown if len(shown) <= _BRIEF else f"{shown[:_BRIEF]}…"
    return f"a {type(value).__name__}"


def _rebuilt(kind: type[Value], fields: dict[str, Any]) -> Value:
    return kind(**fields)
