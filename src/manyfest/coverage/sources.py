# SPDX-License-Identifier: Apache-2.0
"""What shall run: images by name, and files that name images. The kind of a file is told by what is in it."""

from __future__ import annotations

import os

from manyfest.coverage import kubernetes
from manyfest.coverage.compose import Compose, variables_beside
from manyfest.coverage.dockerfile import bases
from manyfest.coverage.marked import Marked, load, read_file
from manyfest.coverage.use import Use
from manyfest.errors import InputError, InvalidSpec
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Options", "Sources", "read"]

_YAML = (".yaml", ".yml", ".json")


class Options(Value):
    """How to read files: Compose profiles, files with variables, arguments of a build, and the environment."""

    __slots__ = ("arguments", "env_files", "environment", "profiles")
    profiles: tuple[str, ...]
    env_files: tuple[str, ...]
    arguments: Mapping[str, str]
    environment: Mapping[str, str]

    def __init__(
        self,
        profiles: Sequence[str] = (),
        env_files: Sequence[str] = (),
        arguments: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._set(
            profiles=tuple(profiles),
            env_files=tuple(env_files),
            arguments=dict(arguments or {}),
            environment=dict(environment or {}),
        )


class Sources(Value):
    """What was found, and what to tell about it."""

    __slots__ = ("uses", "warnings")
    uses: tuple[Use, ...]
    warnings: tuple[str, ...]

    def __init__(self, uses: Sequence[Use], warnings: Sequence[str] = ()) -> None:
        self._set(uses=tuple(uses), warnings=tuple(warnings))


def read(words: Sequence[str], options: Options | None = None) -> Sources:
    """Every word is a file (``-`` for standard input) or the name of an image.

    Raises :class:`InputError` for a file that cannot be read or tells nothing to run, :class:`InvalidSpec` with line
    and column for one that is wrong.
    """
    options = options or Options()
    uses: list[Use] = []
    warnings: list[str] = []
    for word in words:
        if word != "-" and not _is_file(word):
            uses.append(Use(word))
            continue
        found = _of_file(word, options)
        uses += found.uses
        warnings += found.warnings
    return Sources(uses, warnings)


def _is_file(word: str) -> bool:
    if os.path.isfile(word):
        return True
    if os.path.isdir(word):
        raise InputError(
            f"{word}: a folder, expected a file or the name of an image", hint="name the file in it"
        )
    if word.endswith(_YAML) or word.startswith(("./", "../", "/", "~")) or "Dockerfile" in word:
        raise InputError(f"{word}: no such file")
    return False


def _of_file(path: str, options: Options) -> Sources:
    raw = read_file(path)
    file = "standard input" if path == "-" else path
    if _is_dockerfile(path, raw):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise InvalidSpec(f"{file}: not UTF-8 text: {error.reason} at byte {error.start}") from None
        return Sources(bases(text, file, options.arguments))
    documents = load(raw, file)
    if not documents:
        raise InputError(f"{file}: empty, expected a Compose file, Kubernetes objects or a Dockerfile")
    if documents[0]["services"].is_there and not kubernetes.is_object(documents[0]):
        return _of_compose(documents, path, options)
    return _of_kubernetes(documents, file)


def _of_compose(documents: Sequence[Marked], path: str, options: Options) -> Sources:
    variables = variables_beside("" if path == "-" else path, options.environment, options.env_files)
    profiles = options.profiles or tuple(filter(None, variables.get("COMPOSE_PROFILES", "").split(",")))
    compose = Compose(variables, profiles)
    uses = [use for document in documents for use in compose.uses(document)]
    return Sources(uses, compose.warnings)


def _of_kubernetes(documents: Sequence[Marked], file: str) -> Sources:
    uses: list[Use] = []
    for document in documents:
        if not kubernetes.is_object(document):
            raise InvalidSpec(
                f"{document.where}: neither a Compose file (services:) nor a Kubernetes object (apiVersion:, kind:)",
                hint="images are given by name; templates must be rendered first: helm template, kubectl kustomize",
            )
        uses += kubernetes.uses_of(document)
    kinds = sorted({document["kind"].text("a kind") for document in documents})
    warnings = [] if uses else [f"{file}: nothing in it runs an image: {', '.join(kinds)}"]
    return Sources(uses, warnings)


def _is_dockerfile(path: str, raw: bytes) -> bool:
    name = os.path.basename(path).lower()
    if name.startswith(("dockerfile", "containerfile")) or name.endswith((".dockerfile", ".containerfile")):
        return True
    if name.endswith(_YAML):
        return False
    for line in raw[: 64 * 1024].splitlines():
        words = line.split()
        if words and not words[0].startswith(b"#"):
            return words[0].upper() in (b"FROM", b"ARG") and len(words) > 1 and not words[0].endswith(b":")
    return False
