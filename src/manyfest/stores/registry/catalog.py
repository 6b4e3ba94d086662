# SPDX-License-Identifier: Apache-2.0
"""What a repository holds: its tags, and the documents that refer to another one.

Registries without the referrers API keep the answer in an index under a tag that clients maintain. Nothing protects
that index from two writers, so :func:`add_referrer` reads back what it wrote and tries again.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#content-discovery and #referrers-tag-schema
"""

from __future__ import annotations

import json

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import MAX_BYTES, Document
from manyfest.content.mediatypes import OCI_INDEX
from manyfest.errors import ContentError, InvalidDocument, NotFound, RegistryError, Unsupported
from manyfest.stores.base import as_referrer
from manyfest.stores.registry.wire import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manyfest.content.digest import Digest
    from manyfest.stores.base import Source
    from manyfest.stores.registry.endpoint import Endpoint
    from manyfest.stores.registry.transport import Response

    Write = Callable[[Document, str], object]
    """Puts a document under a tag, without a look at its own subject."""
    Change = Callable[[tuple[Descriptor, ...]], tuple[Descriptor, ...]]

__all__ = [
    "MAX_PAGES",
    "PAGE",
    "add_referrer",
    "drop_referrer",
    "list_referrers",
    "list_tags",
    "read_tagged",
    "referrers_tag",
]

PAGE = 1000
"""Tags asked for at a time; registries may give fewer."""

MAX_PAGES = 1000
"""Pages of one listing until it is given up: some registry's next link leads in a circle."""

_ATTEMPTS = 4
_TAG_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def list_tags(endpoint: Endpoint, page: int = PAGE) -> Iterator[str]:
    """Every tag once, in the registry's order; the next page is asked for when it is needed."""
    first = endpoint.path("tags/list")
    url = f"{first}?n={page}"
    seen: set[str] = set()
    for _ in range(MAX_PAGES):
        response = endpoint.send("GET", url, expect=(200, 404))
        if response.status == 404:
            raise endpoint.missing(response, "tags/list")
        following = endpoint.session.next_page(endpoint.host, response)
        names = _tags_of(endpoint, response)
        fresh = [name for name in names if name not in seen]
        seen.update(fresh)
        yield from fresh
        if following is None and len(names) == page and fresh:
            # Before version 1.1 of the specification a full page without a link could have a successor.
            following = f"{first}?n={page}&last={names[-1]}"
        if following is None:
            return
        url = following
    raise RegistryError(
        f"{endpoint.place}: the list of tags has more than {MAX_PAGES} pages",
        hint="the registry's links to the next page probably lead in a circle",
    )


def _tags_of(endpoint: Endpoint, response: Response) -> list[str]:
    fields = _json_of(endpoint, response, "a list of tags")
    names = fields.get("tags")
    if names is None:
        return []
    if not isinstance(names, list):
        raise InvalidDocument(f"{endpoint.place}: 'tags' must be a list, got {type(names).__name__}")
    for name in names:
        if not isinstance(name, str) or not name or not set(name) <= _TAG_CHARACTERS:
            raise InvalidDocument(
                f"{endpoint.place}: expected a tag, the registry lists {printable(repr(name), 80)}"
            )
    return names


def _json_of(endpoint: Endpoint, response: Response, expected: str) -> dict[str, object]:
    kind = (response.headers.get("Content-Type") or "").lower()
    raw = endpoint.session.read(response, MAX_BYTES)
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        got = "an HTML page" if "html" in kind or raw.lstrip()[:1] == b"<" else "something that is not JSON"
        raise InvalidDocument(
            f"{endpoint.place}: expected {expected}, got {got}",
            hint=f"{endpoint.host} does not look like a registry, or a proxy or a log-in page is in between",
        ) from error
    if not isinstance(fields, dict):
        raise InvalidDocument(f"{endpoint.place}: expected {expected}, got a JSON {type(fields).__name__}")
    return fields


def referrers_tag(digest: Digest) -> str:
    """The tag that stands in for the referrers API: ``sha256-<hexadecimal>``, cut to 64 characters."""
    return f"{digest.algorithm[:32]}-{digest.hex[:64]}"


def list_referrers(endpoint: Endpoint, digest: Digest, artifact_type: str) -> tuple[Descriptor, ...] | None:
    """What the referrers API answers, all pages; ``None`` when the registry has no such API."""
    from urllib.parse import quote

    wanted = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    url = endpoint.path(f"referrers/{digest}{wanted}")
    found: dict[Digest, Descriptor] = {}
    for number in range(MAX_PAGES):
        response = endpoint.send("GET", url, expect=(200, 404, 405, 406, 501) if not number else (200,))
        kind = (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if not number and (response.status != 200 or kind != OCI_INDEX):
            # Some registries answer paths they do not know with their web page and 200.
            response.close()
            return None
        following = endpoint.session.next_page(endpoint.host, response)
        document = Document.parse(endpoint.session.read(response, MAX_BYTES), OCI_INDEX)
        filtered = "artifacttype" in (response.headers.get("OCI-Filters-Applied") or "").lower()
        for entry in document.index.manifests:
            if filtered or artifact_type in ("", entry.artifact_type):
                found.setdefault(entry.digest, entry)
        if following is None:
            return tuple(found.values())
        url = following
    raise RegistryError(
        f"{endpoint.place}: the referrers of {digest} have more than {MAX_PAGES} pages",
        hint="the registry's links to the next page probably lead in a circle",
    )


def tagged_referrers(source: Source, digest: Digest) -> Document | None:
    """The index under the stand-in tag, or ``None``."""
    try:
        document = source.resolve(referrers_tag(digest))
    except NotFound:
        return None
    if not document.is_index:
        raise InvalidDocument(
            f"{source.place}: the tag {referrers_tag(digest)} must be an index of referrers, "
            f"it is {document.media_type}"
        )
    return document


def read_tagged(source: Source, digest: Digest) -> tuple[Descriptor, ...]:
    """What the stand-in tag lists; nothing when it is missing or is not an index, as the specification says."""
    try:
        document = tagged_referrers(source, digest)
    except (ContentError, Unsupported):
        return ()
    return () if document is None else document.index.manifests


def add_referrer(source: Source, write: Write, subject: Digest, document: Document) -> None:
    """Enter a document under its subject's stand-in tag.

    Raises :class:`~manyfest.errors.InvalidDocument` when that tag is something else, and
    :class:`~manyfest.errors.RegistryError` when other writers keep overwriting it.
    """
    entry = as_referrer(document, subject)
    if entry is None:
        return

    def change(entries: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
        there = any(known.digest == entry.digest for known in entries)
        return entries if there else (*entries, entry)

    _edit(source, write, subject, change)


def drop_referrer(source: Source, write: Write, subject: Digest, gone: Digest) -> None:
    """Take a deleted document out of its subject's stand-in tag."""
    _edit(source, write, subject, lambda entries: tuple(known for known in entries if known.digest != gone))


def _edit(source: Source, write: Write, subject: Digest, change: Change) -> None:
    for attempt in range(_ATTEMPTS + 1):
        current = tagged_referrers(source, subject)
        entries = () if current is None else current.index.manifests
        wanted = change(entries)
        if wanted == entries:
            return
        if attempt < _ATTEMPTS:
            write(_index(current, wanted), referrers_tag(subject))
    raise RegistryError(
        f"{source.place}: the tag {referrers_tag(subject)} was overwritten by others {_ATTEMPTS} times",
        hint="this registry has no referrers API, so writers get in each other's way; push again",
    )


def _index(current: Document | None, entries: tuple[Descriptor, ...]) -> Document:
    fields = {"schemaVersion": 2, "mediaType": OCI_INDEX} if current is None else current.to_json()
    fields["manifests"] = [entry.to_json() for entry in entries]
    media_type = OCI_INDEX if current is None else current.media_type
    return Document(media_type, json.dumps(fields, separators=(",", ":")).encode())
