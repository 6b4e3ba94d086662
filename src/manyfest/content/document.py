# SPDX-License-Identifier: Apache-2.0
"""Documents: manifests, indexes and configs exactly as received or sent, with read-only views over them.

Digest and size always come from ``raw``; nothing is ever encoded again. A :class:`Document` is parsed once, when a
view is first asked for, and hostile input ends in :class:`~manyfest.errors.InvalidDocument`:

    >>> doc = Document.parse(b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",'
    ...                      b' "manifests": []}')
    >>> doc.is_index, doc.index.manifests, doc.digest.short
    (True, (), '0de3ff5142db')
    >>> Document.parse(b"<html>")
    Traceback (most recent call last):
    manyfest.errors.InvalidDocument: expected a JSON manifest, got an HTML page

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md, image-index.md and config.md; the rule that a
document is a manifest or an index but never both is
https://github.com/opencontainers/image-spec/security/advisories/GHSA-77vh-xpmg-72qh.
"""

from __future__ import annotations

import json

from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.errors import InvalidDigest, InvalidDocument, InvalidPlatform, TooLarge, Unsupported
from manyfest.platforms import Platform
from manyfest.values import brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAX_BYTES", "Document", "ImageConfig", "Index", "Manifest", "successors"]

MAX_BYTES = 4 * 1024 * 1024
"""The largest manifest or index we read, and the least that a registry must accept (distribution-spec, "Push")."""


class Document:
    """``raw`` bytes and the media type they go by. Frozen, hashable; equal when both are equal."""

    __slots__ = ("_json", "_view", "digest", "media_type", "raw")
    media_type: str
    raw: bytes
    digest: Digest
    _json: dict[str, Any]
    _view: Manifest | Index | None

    def __init__(self, media_type: str, raw: bytes) -> None:
        if len(raw) > MAX_BYTES:
            raise TooLarge(f"a document of {len(raw)} bytes is over the limit of {MAX_BYTES}")
        fields = _object(raw)
        put = object.__setattr__
        put(self, "media_type", media_type)
        put(self, "raw", raw)
        put(self, "digest", Digest.of(raw))
        put(self, "_json", fields)
        put(self, "_view", None)
        _check_kind(media_type, fields)

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "") -> Document:
        """Read bytes whose media type is known (a ``Content-Type``), in the document itself, or told by its shape.

        Raises :class:`InvalidDocument`, :class:`TooLarge`, or :class:`Unsupported` for schema 1.
        """
        media_type = media_type.partition(";")[0].strip().lower()
        if media_type in mediatypes.DOCUMENTS or media_type in mediatypes.SCHEMA1:
            return cls(media_type, raw)
        if len(raw) > MAX_BYTES:
            raise TooLarge(f"a document of {len(raw)} bytes is over the limit of {MAX_BYTES}")
        return cls(_guess(_object(raw), media_type), raw)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.raw)

    @property
    def is_index(self) -> bool:
        """Several platforms under one name?"""
        return mediatypes.is_index(self.media_type)

    @property
    def descriptor(self) -> Descriptor:
        """What points at this document: media type, digest, size."""
        return Descriptor(self.media_type, self.digest, self.size)

    @property
    def manifest(self) -> Manifest:
        """The view of one platform. Raises :class:`InvalidDocument` if this is an index."""
        if self.is_index:
            raise InvalidDocument(f"{self.digest} is an index, expected the manifest of one platform")
        if isinstance(self._view, Manifest):
            return self._view
        try:
            view = Manifest(self._json)
        except InvalidDocument as error:
            raise self._named(error) from error
        object.__setattr__(self, "_view", view)
        return view

    @property
    def index(self) -> Index:
        """The view of several. Raises :class:`InvalidDocument` if this is a manifest."""
        if not self.is_index:
            raise InvalidDocument(f"{self.digest} is the manifest of one image, expected an index")
        if isinstance(self._view, Index):
            return self._view
        try:
            view = Index(self._json)
        except InvalidDocument as error:
            raise self._named(error) from error
        object.__setattr__(self, "_view", view)
        return view

    def _named(self, error: InvalidDocument) -> InvalidDocument:
        return InvalidDocument(f"{self.digest}: {error}", hint=error.hint)

    def to_json(self) -> dict[str, Any]:
        """The parsed JSON, fresh: changing it changes nothing here."""
        return _object(self.raw)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Document is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return Document, (self.media_type, self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and (self.media_type, self.raw) == (other.media_type, other.raw)

    def __hash__(self) -> int:
        return hash((self.media_type, self.digest))

    def __repr__(self) -> str:
        return f"Document({self.media_type!r}, {self.digest}, size={self.size})"


class Manifest:
    """One platform's image, or an artifact: a config and layers."""

    __slots__ = ("annotations", "artifact_type", "config", "layers", "subject")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.config = _descriptor("config", _required(fields, "config"))
        self.layers = _descriptors(fields, "layers")
        self.annotations = _text_map(fields, "annotations")
        self.artifact_type = _optional_text(fields, "artifactType")
        self.subject = _subject(fields)

    @property
    def is_image(self) -> bool:
        """Does its config describe something an engine can run?"""
        return mediatypes.is_config(self.config.media_type)

    def __repr__(self) -> str:
        return f"Manifest(config={self.config.digest.short}, layers={len(self.layers)})"


class Index:
    """Several manifests under one name, in the order that matters: the first match wins."""

    __slots__ = ("annotations", "artifact_type", "manifests", "subject")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.manifests = _descriptors(fields, "manifests")
        self.annotations = _text_map(fields, "annotations")
        self.artifact_type = _optional_text(fields, "artifactType")
        self.subject = _subject(fields)

    def __repr__(self) -> str:
        return f"Index({', '.join(str(entry.platform or '-') for entry in self.manifests)})"


class ImageConfig:
    """What an engine runs, and for which platform. Unknown fields stay in ``json``."""

    __slots__ = ("diff_ids", "json", "platform")

    def __init__(self, raw: bytes) -> None:
        """Raises :class:`InvalidDocument` for anything but a JSON object with sane fields."""
        self.json = _object(raw)
        try:
            self.platform = Platform.from_config(self.json)
        except InvalidPlatform as error:
            raise InvalidDocument(f"image config: {error}") from error
        rootfs = self.json.get("rootfs")
        self.diff_ids = _diff_ids(rootfs.get("diff_ids") if isinstance(rootfs, dict) else None)

    @property
    def created(self) -> str:
        """RFC 3339 text as stored, or empty."""
        return _optional_text(self.json, "created")

    @property
    def settings(self) -> dict[str, Any]:
        """The ``config`` object: Env, Entrypoint, Cmd, User, …; empty when absent."""
        value = self.json.get("config")
        return value if isinstance(value, dict) else {}

    def __repr__(self) -> str:
        return f"ImageConfig({self.platform}, layers={len(self.diff_ids)})"


def successors(document: Document) -> tuple[Descriptor, ...]:
    """Everything the document needs to be whole, in document order. A subject is not needed (it points backwards)."""
    if document.is_index:
        return document.index.manifests
    manifest = document.manifest
    return (manifest.config, *manifest.layers)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(raw.decode())
        if b"\\ud" in raw.lower():
            _refuse_lone_surrogates(fields)
    except (ValueError, RecursionError) as error:
        head = raw[:512].lstrip().lower()
        if head.startswith((b"<!doctype", b"<html", b"<?xml")):
            raise InvalidDocument(
                "expected a JSON manifest, got an HTML page",
                hint="a proxy or login page answered instead of a registry; check the name and the address",
            ) from None
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InvalidDocument(
            f"expected a JSON document, got {len(raw)} bytes that are not: {reason}"
        ) from None
    if not isinstance(fields, dict):
        raise InvalidDocument(f"expected a JSON object, got {type(fields).__name__}")
    return fields


def _refuse_lone_surrogates(fields: object) -> None:
    """Half a character, as in ``"\\ud800"``, is valid JSON that no UTF-8 document can carry on.

    Raises :class:`UnicodeEncodeError`, which is a ValueError.
    """
    json.dumps(fields, ensure_ascii=False).encode()


def _diff_ids(value: object) -> tuple[Digest, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidDocument(f"image config: diff_ids must be a list of digests, got {brief(value)}")
    try:
        return tuple(Digest.parse(text) for text in value)
    except InvalidDigest as error:
        raise InvalidDocument(f"image config: diff_ids: {error}") from error


def _guess(fields: dict[str, Any], media_type: str) -> str:
    """The media type that a document claims for itself, else the one its shape tells."""
    claimed = fields.get("mediaType")
    if isinstance(claimed, str) and claimed:
        return claimed
    if fields.get("schemaVersion") == 1:
        return mediatypes.DOCKER_SCHEMA1
    if "manifests" in fields:
        return mediatypes.OCI_INDEX
    if "config" in fields and "layers" in fields:
        return mediatypes.OCI_MANIFEST
    named = f" of type {brief(media_type)}" if media_type else ""
    raise InvalidDocument(f"a JSON object{named} that is neither an image manifest nor an index")


def _check_kind(media_type: str, fields: dict[str, Any]) -> None:
    if media_type in mediatypes.SCHEMA1 or fields.get("schemaVersion") == 1:
        raise Unsupported(
            "a schema 1 image, which no current engine pulls",
            hint="push it again with a tool from after 2017, or convert it with: skopeo copy --format v2s2",
        )
    if media_type not in mediatypes.DOCUMENTS:
        raise Unsupported(f"a document of type {brief(media_type)}, expected an image manifest or an index")
    claimed = fields.get("mediaType")
    if claimed not in (None, "", media_type):
        raise InvalidDocument(f"a document served as {media_type} says that it is {brief(claimed)}")
    wrong = ("layers", "config") if mediatypes.is_index(media_type) else ("manifests",)
    for key in wrong:
        if key in fields:
            raise InvalidDocument(f"a document of type {media_type} must not have {key!r}")


def _required(fields: dict[str, Any], key: str) -> object:
    if key not in fields:
        raise InvalidDocument(f"the manifest lacks {key!r}")
    return fields[key]


def _descriptors(fields: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    value = fields.get(key)
    if value is None:
        value = []
    if not isinstance(value, list):
        raise InvalidDocument(f"{key!r} must be a list, got {type(value).__name__}")
    return tuple(_descriptor(f"{key}[{i}]", entry) for i, entry in enumerate(value))


def _descriptor(where: str, value: object) -> Descriptor:
    try:
        return Descriptor.from_json(value)
    except InvalidDocument as error:
        raise InvalidDocument(f"{where}: {error}", hint=error.hint) from error


def _subject(fields: dict[str, Any]) -> Descriptor | None:
    value = fields.get("subject")
    return None if value is None else _descriptor("subject", value)


def _optional_text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""


def _text_map(fields: dict[str, Any], key: str) -> dict[str, str]:
    value = fields.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise InvalidDocument(f"{key!r} must map text to text, got {brief(value)}")
    return dict(value)
