# SPDX-License-Identifier: Apache-2.0
"""The places a command line names, opened when they are needed, over one conversation with registries."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from types import TracebackType
    from typing import Any, Self

    from manyfest.cli.console import Console
    from manyfest.stores.base import Source, Store
    from manyfest.stores.places import Place
    from manyfest.stores.registry.session import Session

__all__ = ["Places", "docker_config", "list_name", "with_tag"]

_EARLY = 8

GRACE_S = 3.0
"""Seconds that interrupted work gets to leave things clean; asking a registry for it is part of it."""


class Places:
    """Opens sources and stores by their text; a context manager that closes all of them."""

    def __init__(self, args: argparse.Namespace, console: Console) -> None:
        self._options: dict[str, Any] = {"insecure": args.insecure, "on_warning": console.warn}
        if args.config:
            self._options["config"] = args.config
        self._options.update(_tool_options(args, console))
        self._session: Session | None = None
        self._sources: dict[str, Source] = {}
        self._stores: dict[str, Store] = {}

    @property
    def session(self) -> Session:
        """The conversation with registries, begun at first use."""
        if self._session is None:
            from manyfest.stores.registry.session import Session
            from manyfest.stores.registry.settings import Settings

            self._session = Session(Settings(**self._options))
        return self._session

    def source(self, text: str) -> tuple[Source, str]:
        """The place to read from, and the tag or digest in it. A name alone means ``latest``."""
        from manyfest.stores.places import Place, open_source

        place = Place.parse(text)
        key = str(place.replace(name=""))
        if key not in self._sources:
            self._sources[key] = self._stores.get(key) or open_source(place, self.session)
        return self._sources[key], _name_in(place)

    def store(self, text: str) -> tuple[Store, str]:
        """The place to write to, and the tag in it. A name alone means ``latest``."""
        from manyfest.stores.places import Place, open_store

        place = Place.parse(text)
        key = str(place.replace(name=""))
        if key not in self._stores:
            self._stores[key] = open_store(place, self.session)
        return self._stores[key], _name_in(place)

    def list_store(self, text: str) -> tuple[Store, str]:
        """:meth:`store` for a list. Raises :class:`InputError` for places that hold one platform per name."""
        from manyfest.errors import InputError
        from manyfest.stores.places import Place

        if Place.parse(text).transport.startswith("docker-"):
            raise InputError(
                f"{text}: engines and their archives hold the image of one platform under a name, no list",
                hint="name a registry, oci:DIR or oci-archive:FILE; manyfest copy brings one platform there",
            )
        return self.store(text)

    def warm(self, *texts: str) -> None:
        """Open connections to the registries of these places while the first answer is under way.

        For commands that read a whole list: how many images it has is not known yet, a few it will be.
        """
        from manyfest.stores.places import Place

        for place in map(Place.parse, texts):
            if place.transport == "docker":
                self.session.warm(place.reference.domain, _EARLY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._interrupt()
        opened: list[Source] = [*self._sources.values(), *self._stores.values()]
        for place in opened:
            place.close()
        if self._session is not None:
            self._session.close()

    def _interrupt(self) -> None:
        """Take work that waits for a silent registry out of it, and give it time to clean up."""
        import threading
        from time import monotonic

        if self._session is not None:
            self._session.interrupt()
        until = monotonic() + GRACE_S
        for thread in threading.enumerate():
            if thread.name.startswith("manyfest") and thread.is_alive():  # not one that is just being started
                thread.join(max(until - monotonic(), 0.0))


def _tool_options(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """What manifest-tool's own options say; the short forms that skip argparse have none of them."""
    given: dict[str, Any] = {}
    if getattr(args, "plain_http", False):
        given["insecure"] = True
    password, cfg = getattr(args, "password", ""), getattr(args, "docker_cfg", "")
    if password:
        console.warn("a password in the arguments is visible to every user; use manyfest login")
        given.update(username=args.username, password=password)
    if cfg:
        given["docker_config"] = docker_config(cfg)
    return given


def docker_config(path: str) -> str:
    """What ``--docker-cfg`` names: the directory, or the file in it, as manifest-tool takes it."""
    import os

    return (os.path.dirname(path) or ".") if os.path.isfile(path) else path


def with_tag(text: str) -> str:
    """A place's text as we store and print it: registry names in full and with their tag."""
    from manyfest.stores.places import Place

    place = Place.parse(text)
    if place.transport != "docker":
        return str(place)
    reference = place.reference
    return str(reference if reference.tag or reference.digest else reference.with_tag(reference.target))


def list_name(text: str) -> str:
    """Like :func:`with_tag` for a list, which has a tag. Raises :class:`InputError` for one with a digest."""
    from manyfest.errors import InputError
    from manyfest.stores.places import Place

    place = Place.parse(text)
    if place.transport == "docker" and place.reference.digest:
        raise InputError(f"{text}: a list has a tag, not a digest", hint="leave out what follows the @")
    return with_tag(text)


def _name_in(place: Place) -> str:
    return place.reference.target if place.transport == "docker" else place.name
