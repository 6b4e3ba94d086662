# SPDX-License-Identifier: Apache-2.0
"""The environment of a service: its files of variables, then its own; what has no value gets it from ours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manyfest.coverage.marked import read_file
from manyfest.errors import InputError, InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manyfest.coverage.marked import Marked
    from manyfest.deploy.stack.scalars import Scalars

__all__ = ["environment_of", "read_variables"]


def environment_of(item: Marked, scalars: Scalars, folder: str) -> list[str]:
    """Sorted ``KEY=VALUE``, or ``KEY`` where nobody has a value. Raises :class:`InvalidSpec`."""
    found: dict[str, str | None] = {}
    for each in item["env_file"].items() if isinstance(item["env_file"].value, list) else [item["env_file"]]:
        if each.is_there:
            found |= _of_file(each, scalars, folder)
    found |= _filled(scalars.pairs(item["environment"]), scalars.variables)
    return sorted(key if value is None else f"{key}={value}" for key, value in found.items())


def _filled(given: Mapping[str, str | None], variables: Mapping[str, str]) -> dict[str, str | None]:
    return {key: value or variables.get(key, value) for key, value in given.items()}


def _of_file(item: Marked, scalars: Scalars, folder: str) -> dict[str, str | None]:
    path = os.path.join(folder, scalars.text(item, "a file's name"))
    try:
        text = read_file(path).decode("utf-8-sig")
        return _filled(read_variables(text, scalars.variables), scalars.variables)
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{item.where}: {path}: not UTF-8 text at byte {error.start}") from error
    except InputError as error:
        raise InvalidSpec(f"{item.where}: {error}") from error


def read_variables(text: str, variables: Mapping[str, str]) -> dict[str, str | None]:
    """``KEY=VALUE`` lines as docker reads them: nothing is unquoted or filled in, and ``KEY`` alone is ours if set.

    Raises :class:`InputError` for a line without a name.
    """
    found: dict[str, str | None] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if (
            not name
            or any(sign.isspace() for sign in name.rstrip() if equals)
            or (equals and name != name.rstrip())
        ):
            raise InputError(f"line {number}: expected KEY=VALUE, without spaces in the key")
        name = name.strip()
        if equals:
            found[name] = value
        elif name in variables:
            found[name] = variables[name]
    return found
