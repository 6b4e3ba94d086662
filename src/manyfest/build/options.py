# SPDX-License-Identifier: Apache-2.0
"""How to build, and what building would do, as values: :mod:`manyfest.build.plan` carries it out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manyfest.build.attest import Attest
from manyfest.build.layer import COMPRESSIONS, media_type_of
from manyfest.errors import InputError
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manyfest.build.engines import Choice
    from manyfest.build.git import Revision
    from manyfest.build.toolchains import Job
    from manyfest.build.twostep import First
    from manyfest.platforms import Platform

__all__ = ["Options", "Planned", "source_date_epoch"]


class Options(Value):
    """How to build. ``type``: oci or docker. ``epoch``: seconds since 1970 for every time in the image.

    ``attest``: what to attest of the images. ``expect``: platforms without which building is refused at once.
    ``revision``: what git knows of the project, for provenance.
    """

    __slots__ = (
        "annotations",
        "args",
        "attest",
        "compression",
        "epoch",
        "expect",
        "jobs",
        "labels",
        "platforms",
        "revision",
        "target",
        "type",
    )
    annotations: tuple[tuple[str, str], ...]
    args: tuple[tuple[str, str], ...]
    attest: Attest
    compression: str
    epoch: int
    expect: tuple[Platform, ...]
    jobs: int
    labels: tuple[tuple[str, str], ...]
    platforms: tuple[Platform, ...]
    revision: Revision | None
    target: str
    type: str

    def __init__(
        self,
        platforms: tuple[Platform, ...],
        *,
        annotations: tuple[tuple[str, str], ...] = (),
        args: tuple[tuple[str, str], ...] = (),
        attest: Attest | None = None,
        compression: str = "gzip",
        epoch: int = 0,
        expect: tuple[Platform, ...] = (),
        jobs: int = 0,
        labels: tuple[tuple[str, str], ...] = (),
        revision: Revision | None = None,
        target: str = "",
        type: str = "oci",
    ) -> None:
        if compression not in COMPRESSIONS:
            raise InputError(f"compression {compression!r}: expected one of {', '.join(COMPRESSIONS)}")
        media_type_of(compression, docker=type == "docker")
        if type == "docker" and annotations:
            raise InputError(
                "annotations in Docker's format, which has none", hint="use --type oci, or labels"
            )
        if type == "docker" and attest:
            raise InputError(
                "attestations in Docker's format, which has none",
                hint="use --type oci, or leave --provenance and --sbom out",
            )
        if jobs < 0:
            raise InputError(f"{jobs} jobs: expected a number from 1, or 0 for one for each CPU")
        if not platforms:
            raise InputError("no platform to build for", hint="name some: --platform linux/amd64,linux/arm64")
        self._set(
            platforms=platforms,
            annotations=annotations,
            args=args,
            attest=attest or Attest(),
            compression=compression,
            epoch=epoch,
            expect=expect,
            jobs=jobs or os.cpu_count() or 1,
            labels=labels,
            revision=revision,
            target=target,
            type=type,
        )


class Planned(Value):
    """What building one platform would do. ``bases``: stage, name and pinned digest of each image that is needed.

    ``choice``: which engine builds it; ``None`` for the embedded builder. ``first``: what is built once before.
    """

    __slots__ = ("bases", "choice", "dockerfile", "first", "job", "platform")
    bases: tuple[tuple[str, str, str], ...]
    choice: Choice | None
    dockerfile: str
    first: First | None
    job: Job | None
    platform: Platform

    def __init__(
        self,
        platform: Platform,
        dockerfile: str,
        bases: tuple[tuple[str, str, str], ...],
        job: Job | None,
        choice: Choice | None = None,
        first: First | None = None,
    ) -> None:
        self._set(platform=platform, dockerfile=dockerfile, bases=bases, job=job, choice=choice, first=first)


def source_date_epoch(environment: Mapping[str, str]) -> int:
    """``SOURCE_DATE_EPOCH`` (https://reproducible-builds.org/specs/source-date-epoch/), or 0. Raises InputError."""
    text = environment.get("SOURCE_DATE_EPOCH", "").strip()
    if not text:
        return 0
    if not text.isdecimal() or int(text) > 0o77777777777:
        raise InputError(f"SOURCE_DATE_EPOCH={text}: expected seconds since 1970")
    return int(text)
