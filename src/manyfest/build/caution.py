# SPDX-License-Identifier: Apache-2.0
"""What a person should look at although it can be built: secrets that stay in the image, files nobody meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.build.settings import looks_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from manyfest.build.dockerfile import Step
    from manyfest.build.layer import Entry

__all__ = ["much_of", "secrets_of"]

_MANY_FILES = 50_000
_MANY_BYTES = 2 * 10**9


def secrets_of(steps: Iterable[tuple[Step, str]]) -> Iterator[str]:
    """Warnings of instructions, each with its line, whose variables' names say that their values are secrets."""
    for step, where in steps:
        if step.name == "ENV":
            for name in filter(looks_secret, step.args[::3]):
                yield f"{where}: ENV {name}: its value can be read by whoever has the image"
        elif step.name == "ARG":
            for name in filter(looks_secret, (word.partition("=")[0] for word in step.args)):
                yield f"{where}: ARG {name}: build arguments are no place for secrets"


def much_of(entries: Sequence[Entry], doing: str) -> Iterator[str]:
    """Warnings of a context that nobody meant to copy whole. ``doing``: who does what with the files."""
    history = sum("/.git/" in f"/{entry.path}" for entry in entries)
    if history:
        yield f"{doing} .git ({history} files); list it in .dockerignore"
    for layout in (entry.path for entry in entries if f"/{entry.path}".endswith("/oci-layout")):
        # Where it is what this build writes, every build would hold the one before.
        folder = layout.rpartition("/")[0] or "the project"
        yield f"{doing} {folder}, a folder of images; list it in .dockerignore unless they are meant"
    size = sum(entry.size for entry in entries)
    if len(entries) > _MANY_FILES or size > _MANY_BYTES:
        yield f"{doing} {len(entries)} files of {size // 10**6} MB; .dockerignore can leave some out"
