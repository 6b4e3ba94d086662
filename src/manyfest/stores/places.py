# SPDX-License-Identifier: Apache-2.0
"""Places: where images are, in one word, with the names that skopeo's users know.

Grammar::

    place         ::= registry | layout | archive | docker-archive | engine
    registry      ::= [ "docker://" ] reference                    see manyfest.reference
    layout        ::= "oci:" path [ ":" tag ]                      a directory
    archive       ::= "oci-archive:" path [ ":" tag ]              a tar file
    docker-archive ::= "docker-archive:" path [ ":" ( name [ ":" tag ] | "@" number ) ]
    engine        ::= "docker-daemon:" ( reference | image id )

``docker:24`` is the tag of a repository called docker; ``docker://oci:1`` is how a repository called oci is named.

A path ends at its first colon, as it does for skopeo, so a path with a colon in it has no spelling here; go there and
use a link. ``tag`` may be a digest, which names that document of the place. A registry's tag defaults to ``latest``;
in the other places no tag means the only image there is.

>>> Place.parse("oci:build/out:1.2")
Place(transport='oci', location='build/out', name='1.2')
>>> place = Place.parse("ghcr.io/acme/app")
>>> str(place), place.location, place.name
('ghcr.io/acme/app:latest', 'ghcr.io/acme/app', 'latest')
>>> Place.parse("docker-daemo:app")
Traceback (most recent call last):
manyfest.errors.InvalidReference: 'docker-daemo:app': no place is called 'docker-daemo:'
"""

from __future__ import annotations

from manyfest.errors import InvalidReference
from manyfest.reference import Reference
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.stores.base import Source, Store
    from manyfest.stores.registry.session import Session

__all__ = ["TRANSPORTS", "Place", "open_source", "open_store"]

TRANSPORTS = ("docker", "oci", "oci-archive", "docker-archive", "docker-daemon")

_WITH_PATH = ("oci", "oci-archive", "docker-archive")

# What skopeo, podman and crane have besides, and what to say to those who ask for it.
_ELSEWHERE = {
    "dir": "copy it into a layout first: skopeo copy --all dir:… oci:DIR",
    "containers-storage": "copy it out first: skopeo copy containers-storage:… oci:DIR",
    "ostree": "copy it into a layout first: skopeo copy ostree:… oci:DIR",
    "oci-layout": "the word here is oci:DIR",
}

# These could be names of images, unless a path follows.
_ELSEWHERE_WITH_PATH = {
    "sif": "copy it into a layout first: skopeo copy sif:… oci:DIR",
    "tarball": "make it a docker-archive or a layout first",
    "http": "leave the scheme out: HOST/REPOSITORY:TAG; plain HTTP is --insecure",
    "https": "leave the scheme out: HOST/REPOSITORY:TAG",
}


class Place(Value):
    """A place and what is meant there.

    ``transport``: one of :data:`TRANSPORTS`. ``location``: the full repository name (``docker``, ``docker-daemon``;
    empty for an image id), else a path. ``name``: a tag or a digest; ``""`` for the only image.
    """

    __slots__ = ("transport", "location", "name")  # noqa: RUF023 - the order in which they are written
    transport: str
    location: str
    name: str

    def __init__(self, transport: str, location: str, name: str = "") -> None:
        if transport not in TRANSPORTS:
            raise InvalidReference(f"{transport!r} is not a place, expected one of {', '.join(TRANSPORTS)}")
        if transport in _WITH_PATH and (not location or ":" in location):
            raise InvalidReference(f"{transport}:{location}: expected a path without a colon")
        if "\0" in location or "\0" in name:
            raise InvalidReference(f"{transport}:{location!r}: a path or name with a null character")
        self._set(transport=transport, location=location, name=name)

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read a place as people write it. Raises :class:`InvalidReference`, for a kind of place that only other tools
        have with a hint."""
        scheme, colon, rest = text.partition(":")
        if colon and scheme in _WITH_PATH:
            path, _, name = rest.partition(":")
            if not path:
                raise InvalidReference(f"{text!r}: expected a path after {scheme}:")
            return cls(scheme, path, name)
        if colon and scheme == "docker-daemon":
            return _engine(rest)
        if colon and scheme == "docker" and rest.startswith("/"):
            return _registry(_without_slashes(text, rest))
        if colon:
            _refuse_other(text, scheme, rest)
        return _registry(text)

    @property
    def reference(self) -> Reference:
        """The full name. Raises :class:`InvalidReference` for a place without one (a path, an image id)."""
        if self.transport not in ("docker", "docker-daemon") or not self.location:
            raise InvalidReference(f"{self}: has no name in a registry")
        reference = Reference.parse(self.location)
        if not self.name:
            return reference
        return reference.with_digest(self.name) if ":" in self.name else reference.with_tag(self.name)

    @property
    def holds_index(self) -> bool:
        """Can an image of several platforms stand there under one name?"""
        return self.transport not in ("docker-archive", "docker-daemon")

    def with_name(self, name: str) -> Place:
        """The same place, another tag or digest."""
        return self.replace(name=name)

    def __str__(self) -> str:
        if self.transport in _WITH_PATH:
            return f"{self.transport}:{self.location}" + (f":{self.name}" if self.name else "")
        shown = self.reference.familiar if self.location else self.name
        if self.transport == "docker-daemon":
            return f"docker-daemon:{shown}"
        return f"docker://{shown}" if _reads_as_place(shown) else shown


def open_source(place: Place, session: Session) -> Source:
    """Open for reading; ``session`` serves registries. The caller closes it, and the session, which is shared.

    Raises :class:`~manyfest.errors.NotFound` and the other errors of the place.
    """
    if place.transport == "docker":
        return _open_registry(place, session, mirrors=True)
    if place.transport == "oci":
        from manyfest.stores.layout import Layout

        return Layout(place.location)
    if place.transport == "oci-archive":
        from manyfest.stores.archive import Archive

        return Archive(place.location)
    if place.transport == "docker-archive":
        from manyfest.stores.dockerarchive import DockerArchive

        return DockerArchive(place.location)
    from manyfest.stores.daemon import DaemonSource

    return DaemonSource(place.location)


def open_store(place: Place, session: Session) -> Store:
    """Open for writing: a layout or archive that is not there yet is made. See :func:`open_source`.

    Raises :class:`InvalidReference` for a name that could not be written there, before anything is sent.
    """
    if place.transport == "docker":
        return _open_registry(place, session, mirrors=False)
    if place.transport in ("oci", "oci-archive"):
        from manyfest.stores.layout import check_target_name

        check_target_name(place.name)
    if place.transport == "oci":
        from manyfest.stores.layout import Layout

        return Layout.create(place.location)
    if place.transport == "oci-archive":
        from manyfest.stores.archive import Archive

        return Archive.create(place.location)
    if place.transport == "docker-archive":
        from manyfest.stores.dockerarchive import DockerArchiveStore

        return DockerArchiveStore(place.location)
    from manyfest.stores.daemon import DaemonStore

    if not place.location:
        raise InvalidReference(
            f"{place}: an image id cannot be written to", hint="name it: docker-daemon:NAME:TAG"
        )
    return DaemonStore(place.location)


def _open_registry(place: Place, session: Session, *, mirrors: bool) -> Store:
    from manyfest.stores.registry.client import Registry

    reference = place.reference
    return Registry(reference.domain, reference.path, session, mirrors=mirrors)


def _registry(text: str) -> Place:
    reference = Reference.parse(text)
    return Place("docker", reference.name, reference.target)


def _engine(text: str) -> Place:
    if text.startswith("sha256:"):
        return Place("docker-daemon", "", text)
    reference = Reference.parse(text)
    return Place("docker-daemon", reference.name, reference.target)


def _reads_as_place(name: str) -> bool:
    """Would a repository of this name (``oci:1``) be taken for another place?"""
    word = name.partition(":")[0]
    return word in (*_WITH_PATH, "docker-daemon") or word in _ELSEWHERE or bool(_closest(word))


def _without_slashes(text: str, rest: str) -> str:
    if not rest.startswith("//"):
        raise InvalidReference(f"{text!r}: expected docker://NAME", hint=f"did you mean docker://{rest}?")
    return rest[2:]


def _refuse_other(text: str, scheme: str, rest: str) -> None:
    """Raises for a scheme that is not ours. ``app:1`` and ``localhost:5000/app`` are names, and pass."""
    hint = _ELSEWHERE.get(scheme) or (_ELSEWHERE_WITH_PATH.get(scheme) if rest.startswith("/") else None)
    if hint is not None:
        raise InvalidReference(f"{text!r}: {scheme}: places are not supported", hint=hint)
    close = _closest(scheme)
    if close or rest.startswith("//"):
        places = ", ".join(f"{transport}:" for transport in TRANSPORTS)
        raise InvalidReference(
            f"{text!r}: no place is called '{scheme}:'",
            hint=f"did you mean {close}:? A repository of that name is docker://{text}"
            if close
            else f"places are {places}",
        )


def _closest(scheme: str) -> str:
    """The long word that this is a slip of. Short ones would catch repositories such as ``docker`` and ``oci``."""
    if not scheme.startswith(("docker", "oci", "daemon")) or len(scheme) < 9:
        return ""
    from difflib import get_close_matches

    return next(
        iter(get_close_matches(scheme, ("oci-archive", "docker-archive", "docker-daemon"), 1, 0.85)), ""
    )
