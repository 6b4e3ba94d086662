# SPDX-License-Identifier: Apache-2.0
"""One repository of a registry as a store.

Every operation takes the fewest requests the protocol allows, and tests count them: ``resolve`` and ``tag`` one, a
new blob two, an accepted mount one. Nothing asks ``/v2/`` first, and nothing is looked for before it is fetched.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import re
from _thread import allocate_lock

from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import MAX_BYTES, Document
from manyfest.content.mediatypes import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    DOCUMENTS,
    OCI_INDEX,
    OCI_MANIFEST,
    is_document,
    is_foreign,
)
from manyfest.errors import (
    AuthRequired,
    ContentError,
    DigestMismatch,
    Forbidden,
    InvalidDocument,
    InvalidReference,
    TooLarge,
    Unsupported,
)
from manyfest.stores.base import CanDelete, CanMount, CanWarm, HasReferrers, HasTags, Store, Verified
from manyfest.stores.registry.endpoint import DELETE, PUSH, Endpoint
from manyfest.stores.registry.transport import Cut
from manyfest.stores.registry.wire import content_digest, is_count, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.stores.base import Opener, Readable, Source
    from manyfest.stores.registry.session import Session
    from manyfest.stores.registry.transport import Response

__all__ = ["ACCEPT", "Registry"]

ACCEPT = ", ".join(
    (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, DOCKER_SCHEMA1_SIGNED, DOCKER_SCHEMA1)
)
"""What we say we take. Schema 1 is last and refused with a reason: unasked, registries answer only "not found"."""

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_READS = 3
"""How often a document that was cut on its way is asked for."""


class Registry(Store, CanMount, CanWarm, HasReferrers, HasTags, CanDelete):
    """``repository`` of the registry ``host``; stores of one session share its connections and tokens.

    ``piece`` is the most bytes to upload in one request, 0 for no limit; a registry or proxy that refuses a body as
    too large is served in pieces anyway. ``mirrors`` lets configured mirrors answer ``resolve``, ``peek`` and
    ``open``: right for a source, wrong for a place that is written to, since a mirror may be behind.
    """

    def __init__(
        self, host: str, repository: str, session: Session, *, piece: int = 0, mirrors: bool = False
    ) -> None:
        self._endpoint = Endpoint(session, host, repository)
        self.place = self._endpoint.place
        self._piece = piece
        self._mirrors = mirrors
        self._lock = allocate_lock()
        # Uploads that a refused mount has opened: the blob is going to be pushed next, and they save its POST.
        self._opened: dict[Digest, str] = {}
        self._referrers_lock = allocate_lock()
        self._has_referrers_api = True

    # Reading

    def resolve(self, name: str) -> Document:
        """See :meth:`Source.resolve`. One GET; ``""`` is ``latest``, as everywhere a tag is left out.

        Raises :class:`~manyfest.errors.DigestMismatch` when the bytes are not what was asked for, or not what the
        registry says in ``Docker-Content-Digest``.
        """
        name = _checked(name)
        for last in range(1, _READS + 1):
            response = self._ask("GET", name)
            if response.status == 404:
                raise self._endpoint.missing(response, f"manifests/{name}")
            try:
                return self._document(response, name)
            except Cut:
                if last == _READS:
                    raise
        raise AssertionError("unreachable")

    def peek(self, name: str) -> Descriptor:
        """See :meth:`Source.peek`. One HEAD, and a GET where the registry does not say enough in its headers.

        Not being there is enough said: a copy to a new name waits for this.
        """
        name = _checked(name)
        response = self._ask("HEAD", name, expect=(200, 400, 404, 405, 501))
        if response.status == 404:
            raise self._endpoint.missing(response, f"manifests/{name}")
        response.close()
        digest = content_digest(response.headers)
        media_type = _media_type(response)
        size = response.headers.get("Content-Length") or ""
        usable = digest is not None and media_type in DOCUMENTS and is_count(size)
        if response.status != 200 or not usable or digest is None:
            return self.resolve(name).descriptor
        if ":" in name and digest.algorithm == name.partition(":")[0] and str(digest) != name:
            raise _mismatch(f"{self.place}: asked for {name}, the registry says {digest}")
        return Descriptor(media_type, digest, int(size))

    def exists(self, descriptor: Descriptor) -> bool:
        """See :meth:`Source.exists`. One HEAD."""
        kind = "manifests" if is_document(descriptor.media_type) else "blobs"
        headers = {"Accept": ACCEPT} if kind == "manifests" else {}
        path = self._endpoint.path(f"{kind}/{descriptor.digest}")
        response = self._endpoint.send("HEAD", path, headers=headers, expect=(200, 404))
        response.close()
        return response.status == 200

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """See :meth:`Source.open`. One GET; a cut transfer goes on from where it stopped.

        Raises :class:`~manyfest.errors.Unsupported` for layers that only their ``urls`` serve.
        """
        if is_document(descriptor.media_type) or (offset and offset >= descriptor.size):
            from io import BytesIO

            document = is_document(descriptor.media_type)
            return BytesIO(self.resolve(str(descriptor.digest)).raw[offset:] if document else b"")
        from manyfest.stores.registry.download import Download

        def ask(at: int) -> Response:
            return self._ask_blob(descriptor, at)

        return Download(self.place, descriptor, ask, offset)

    def warm(self, connections: int) -> None:
        """See :meth:`CanWarm.warm`. Repositories of one registry share what they warm."""
        self._endpoint.session.warm(self._endpoint.host, connections)
        # What moves blobs, too: imported by all threads at once, it would have each of them wait for the others.
        from manyfest.stores.registry import download, upload  # noqa: F401

    def _ask(self, method: str, name: str, expect: tuple[int, ...] = (200, 404)) -> Response:
        path = self._endpoint.path(f"manifests/{name}")
        headers = {"Accept": ACCEPT}
        return self._endpoint.send(method, path, headers=headers, expect=expect, reading=self._mirrors)

    def _ask_blob(self, descriptor: Descriptor, offset: int) -> Response:
        from manyfest.stores.registry.download import range_header

        path = f"blobs/{descriptor.digest}"
        response = self._endpoint.send(
            "GET",
            self._endpoint.path(path),
            headers=range_header(offset),
            expect=(200, 206, 404, 416),
            reading=self._mirrors,
        )
        if response.status != 404:
            return response
        missing = self._endpoint.missing(response, path)
        if is_foreign(descriptor.media_type) or descriptor.urls:
            raise Unsupported(
                f"{self.place}: the layer {descriptor.digest} is not in the registry; its licence lets only "
                f"{', '.join(printable(url, 200) for url in descriptor.urls[:3]) or 'its publisher'} serve it",
                hint="choose the platforms you need without it, or push the layer to the registry yourself",
            ) from missing
        raise missing

    def _document(self, response: Response, name: str) -> Document:
        raw = b""
        try:
            announced = content_digest(response.headers)
            raw = self._endpoint.session.read(response, MAX_BYTES)
            document = Document.parse(raw, _media_type(response))
        except (ContentError, Unsupported) as error:
            if isinstance(error, InvalidDocument):
                # Bytes of the wrong digest are damaged, whatever they look like.
                self._check(name, raw, None)
            hint = error.hint
            if raw.lstrip()[:1] == b"<":
                hint = f"{self._endpoint.host} does not look like a registry, or a proxy is in between"
            joint = "@" if ":" in name else ":"
            raise type(error)(f"{self.place}{joint}{name}: {error}", hint=hint) from error
        finally:
            response.close()
        self._check(name, raw, announced)
        return document

    def _check(self, name: str, raw: bytes, announced: Digest | None) -> None:
        if ":" in name:
            wanted = Digest.parse(name)
            got = Digest.of(raw, wanted.algorithm)
            if got != wanted:
                raise _mismatch(f"{self.place}: asked for {wanted}, got {got}")
        if announced is not None:
            got = Digest.of(raw, announced.algorithm)
            if got != announced:
                raise _mismatch(f"{self.place}: {name}: the registry announces {announced}, got {got}")

    # Writing

    def put(self, descriptor: Descriptor, content: Opener) -> None:
        """See :meth:`Store.put`. POST and PUT for a blob, one PUT for a document; it does not look first."""
        if is_document(descriptor.media_type):
            document = self._read(descriptor, content)
            self._put_document(document, str(descriptor.digest))
            return
        from manyfest.stores.registry.upload import Upload

        with self._lock:
            location = self._opened.pop(descriptor.digest, "")
        Upload(self._endpoint, descriptor, content, location=location, piece=self._piece).run()

    def tag(self, document: Document, name: str) -> None:
        """See :meth:`Store.tag`. One PUT.

        More only for a document with a subject in a registry without the referrers API: the index under the
        subject's stand-in tag is brought up to date.
        """
        self._put_document(document, _checked(name))

    def mount(self, descriptor: Descriptor, source: Source) -> bool:
        """See :meth:`CanMount.mount`. One POST, only between repositories of one registry and one session.

        A refusal leaves an upload open, which the ``put`` of the same content then uses.
        """
        if not isinstance(source, Registry) or is_document(descriptor.media_type):
            return False
        mine, other = self._endpoint, source._endpoint
        if other.session is not mine.session or other.host != mine.host:
            return False
        if other.repository == mine.repository:
            return True
        path = mine.path(f"blobs/uploads/?mount={descriptor.digest}&from={other.repository}")
        try:
            response = mine.send(
                "POST",
                path,
                actions=PUSH,
                mounting_from=other.repository,
                body=b"",
                expect=(201, 202, 400, 404, 405, 501),
                idempotent=True,
            )
        except (AuthRequired, Forbidden):
            # Perhaps only the other repository is closed to us; the upload that follows will tell.
            return False
        response.close()
        if response.status == 202 and "Location" in response.headers:
            location = mine.location(response)
            with self._lock:
                self._opened[descriptor.digest] = location
        return response.status == 201

    def close(self) -> None:
        """Cancel uploads that a refused mount has opened and nobody used. The session stays open."""
        with self._lock:
            unused = list(self._opened.values())
            self._opened.clear()
        if not unused:
            return
        from manyfest.stores.registry.upload import cancel

        for location in unused:
            cancel(self._endpoint, location)

    def _read(self, descriptor: Descriptor, content: Opener) -> Document:
        if descriptor.size > MAX_BYTES:
            raise TooLarge(
                f"{self.place}: a document of {descriptor.size} bytes is over the limit of {MAX_BYTES}"
            )
        stream = Verified(content(0), descriptor, self.place)
        try:
            return Document(descriptor.media_type, stream.read())
        finally:
            stream.close()

    def _put_document(self, document: Document, name: str) -> None:
        subject = (document.index if document.is_index else document.manifest).subject
        response = self._write(document, name)
        if subject is None or "OCI-Subject" in response.headers:
            return
        from manyfest.stores.registry.catalog import add_referrer

        with self._referrers_lock:
            add_referrer(self, self._write, subject.digest, document)

    def _write(self, document: Document, name: str) -> Response:
        path = f"manifests/{name}"
        response = self._endpoint.send(
            "PUT",
            self._endpoint.path(path),
            actions=PUSH,
            headers={"Content-Type": document.media_type},
            body=document.raw,
            expect=(200, 201, 202, 404),
        )
        if response.status == 404:
            raise self._endpoint.missing(response, f"uploads/{path}")
        response.close()
        stored = content_digest(response.headers)
        if stored is not None and stored != Digest.of(document.raw, stored.algorithm):
            raise _mismatch(f"{self.place}: pushed {document.digest}, the registry stored {stored}")
        return response

    # Listing

    def tags(self) -> Iterator[str]:
        """See :meth:`HasTags.tags`. A GET for each thousand, as they are needed."""
        from manyfest.stores.registry.catalog import list_tags

        return list_tags(self._endpoint)

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """See :meth:`HasReferrers.referrers`. One GET; where there is no such API, one more for the stand-in tag."""
        from manyfest.stores.registry.catalog import list_referrers, read_tagged

        if self._has_referrers_api:
            found = list_referrers(self._endpoint, digest, artifact_type)
            if found is not None:
                return found
            self._has_referrers_api = False
        listed = read_tagged(self, digest)
        return tuple(d for d in listed if artifact_type in ("", d.artifact_type))

    # Deleting

    def untag(self, name: str) -> None:
        """See :meth:`CanDelete.untag`. One DELETE."""
        if not _TAG.fullmatch(name):
            raise InvalidReference(
                f"{self.place}: expected a tag to remove, got {printable(repr(name), 200)}"
            )
        self._delete(
            f"manifests/{name}",
            "this registry removes content by digest only, which takes every tag of it along; "
            "move the tag to other content, or remove it in the registry's own interface",
        )

    def delete(self, descriptor: Descriptor) -> None:
        """See :meth:`CanDelete.delete`. One DELETE; for a document a GET before, which tells its subject."""
        hint = "deleting is switched off in this registry; ask its operator, or use its own interface"
        if not is_document(descriptor.media_type):
            self._delete(f"blobs/{descriptor.digest}", hint)
            return
        subject = self._subject(descriptor)
        self._delete(f"manifests/{descriptor.digest}", hint)
        if subject is None:
            return
        from manyfest.stores.registry.catalog import drop_referrer, list_referrers

        if self._has_referrers_api and list_referrers(self._endpoint, subject, "") is not None:
            return
        self._has_referrers_api = False
        with self._referrers_lock:
            drop_referrer(self, self._write, subject, descriptor.digest)

    def _subject(self, descriptor: Descriptor) -> Digest | None:
        try:
            document = self.resolve(str(descriptor.digest))
            view = document.index if document.is_index else document.manifest
        except (ContentError, Unsupported):
            # What cannot be read can still be deleted.
            return None
        return None if view.subject is None else view.subject.digest

    def _delete(self, path: str, hint: str) -> None:
        response = self._endpoint.send(
            "DELETE", self._endpoint.path(path), actions=DELETE, expect=(200, 202, 204, 400, 404, 405, 501)
        )
        if response.status == 404:
            raise self._endpoint.missing(response, path)
        if response.status >= 400:
            problem = self._endpoint.problem(response)
            said = f": {problem.words}" if problem.words else ""
            name = path.partition("/")[2]
            raise Unsupported(
                f"{self.place}: the registry does not delete {name} (HTTP {response.status}){said}", hint=hint
            )
        response.close()


def _checked(name: str) -> str:
    """A tag or a digest; anything else would be another path."""
    name = name or "latest"
    if ":" in name:
        return str(Digest.parse(name))
    if not _TAG.fullmatch(name):
        raise InvalidReference(
            f"{printable(repr(name), 200)}: expected a tag (up to 128 of A-Z a-z 0-9 _ . -, "
            "not beginning with . or -) or a digest"
        )
    return name


def _media_type(response: Response) -> str:
    return (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()


def _mismatch(message: str) -> DigestMismatch:
    return DigestMismatch(
        message, hint="the registry's copy is damaged, or a proxy changes it; fetch it from another place"
    )
