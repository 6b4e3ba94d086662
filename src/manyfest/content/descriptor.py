# SPDX-License-Identifier: Apache-2.0
"""Descriptors: what points at content, kept field for field.

A descriptor holds the JSON object it was read from, so fields that nobody here knows (``artifactType``, ``urls``,
``data``, whatever comes next) survive every edit; see ``docs/decisions/0002-raw-bytes.md``.

https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md

    >>> d = Descriptor.of(b"{}", "application/vnd.oci.empty.v1+json")
    >>> d.size, d.digest.short
    (2, '44136fa355b3')
    >>> d.with_annotations({"a": "b"}).annotations
    {'a': 'b'}
"""

from __future__ import annotations

from manyfest.content.digest import Digest
from manyfest.errors import InvalidDigest, InvalidDocument, InvalidPlatform
from manyfest.platforms import Platform
from manyfest.values import brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Descriptor"]

MAX_SIZE = 2**63 - 1
"""Sizes are int64 in every implementation."""

MAX_DEPTH = 64
"""How deep a descriptor's unknown fields may nest; whoever needs more is up to no good."""

# The order in which Go writes them; digests of what we write depend on it.
_ORDER = ("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType")


class Descriptor:
    """A media type, a digest and a size in bytes, with whatever else the JSON object says. Immutable, hashable."""

    __slots__ = ("_json", "digest", "media_type", "platform", "size")
    media_type: str
    digest: Digest
    size: int
    platform: Platform | None
    _json: dict[str, Any]

    def __init__(
        self, media_type: str, digest: Digest, size: int, *, platform: Platform | None = None
    ) -> None:
        fields: dict[str, Any] = {"mediaType": media_type, "digest": str(digest), "size": size}
        if platform is not None:
            fields["platform"] = platform.to_json()
        self._adopt(fields)

    def _adopt(self, fields: dict[str, Any]) -> None:
        put = object.__setattr__
        put(self, "_json", fields)
        put(self, "media_type", _text(fields, "mediaType"))
        put(self, "digest", _digest(fields))
        put(self, "size", _size(fields))
        annotations = fields.get("annotations")
        if annotations is not None and not _is_text_map(annotations):
            raise InvalidDocument(
                f"a descriptor's annotations must map text to text, got {brief(annotations)}"
            )
        platform = fields.get("platform")
        put(self, "platform", None if platform is None else _platform(platform))

    @classmethod
    def from_json(cls, fields: object) -> Descriptor:
        """Read a parsed JSON object. Raises :class:`InvalidDocument`."""
        if not isinstance(fields, dict):
            raise InvalidDocument(f"a descriptor must be a JSON object, got {type(fields).__name__}")
        descriptor = cls.__new__(cls)
        descriptor._adopt(_copied(fields))
        return descriptor

    @classmethod
    def of(cls, data: bytes, media_type: str, *, platform: Platform | None = None) -> Descriptor:
        """The descriptor of bytes in memory."""
        return cls(media_type, Digest.of(data), len(data), platform=platform)

    def to_json(self) -> dict[str, Any]:
        """A fresh JSON object: the fields as they came, in the order they came."""
        fields: dict[str, Any] = _copied(self._json)
        return fields

    @property
    def annotations(self) -> dict[str, str]:
        """A copy; empty when there are none."""
        return dict(self._json.get("annotations") or {})

    @property
    def artifact_type(self) -> str:
        """``artifactType``, or the empty string."""
        value = self._json.get("artifactType", "")
        return value if isinstance(value, str) else ""

    @property
    def urls(self) -> tuple[str, ...]:
        """Where else the content may be had."""
        value = self._json.get("urls")
        return tuple(url for url in value if isinstance(url, str)) if isinstance(value, list) else ()

    @property
    def is_attestation(self) -> bool:
        """Is it BuildKit's attestation manifest (https://docs.docker.com/build/metadata/attestations/)?"""
        return self.annotations.get("vnd.docker.reference.type") == "attestation-manifest"

    @property
    def attests(self) -> str:
        """The digest (as text) of the manifest that this attestation speaks of, or the empty string."""
        return self.annotations.get("vnd.docker.reference.digest", "") if self.is_attestation else ""

    def with_platform(self, platform: Platform | None) -> Descriptor:
        """The same, for another platform (or none)."""
        return self._with("platform", None if platform is None else platform.to_json())

    def with_annotations(self, annotations: Mapping[str, str]) -> Descriptor:
        """The same, with exactly these annotations."""
        return self._with("annotations", dict(annotations) or None)

    def bare(self) -> Descriptor:
        """Only media type, digest and size: what a store needs to know."""
        return Descriptor(self.media_type, self.digest, self.size)

    def _with(self, key: str, value: object) -> Descriptor:
        fields = self.to_json()
        if value is None:
            fields.pop(key, None)
            return Descriptor.from_json(fields)
        if key in fields:
            fields[key] = value
            return Descriptor.from_json(fields)
        # A new key goes where Go would write it among the keys that are there, whose order stays.
        before = _ORDER[: _ORDER.index(key)]
        names = list(fields)
        at = max((i + 1 for i, name in enumerate(names) if name in before), default=0)
        items = list(fields.items())
        return Descriptor.from_json(dict([*items[:at], (key, value), *items[at:]]))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Descriptor is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return Descriptor.from_json, (self._json,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descriptor) and self._json == other._json

    def __hash__(self) -> int:
        return hash((self.media_type, self.digest, self.size))

    def __repr__(self) -> str:
        platform = f", platform={self.platform}" if self.platform is not None else ""
        return f"Descriptor({self.media_type!r}, {self.digest}, size={self.size}{platform})"


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidDocument(f"a descriptor needs {key} as text, got {brief(value)}")
    return value


def _digest(fields: dict[str, Any]) -> Digest:
    try:
        return Digest.parse(_text(fields, "digest"))
    except InvalidDigest as error:
        raise InvalidDocument(f"a descriptor's digest: {error}") from error


def _size(fields: dict[str, Any]) -> int:
    value = fields.get("size")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SIZE:
        raise InvalidDocument(f"a descriptor needs size as a whole number of bytes, got {brief(value)}")
    return value


def _platform(fields: object) -> Platform:
    try:
        return Platform.from_json(fields)
    except InvalidPlatform as error:
        raise InvalidDocument(f"a descriptor's platform: {error}") from error


def _copied(value: Any, depth: int = 0) -> Any:
    """A deep copy of JSON; ``copy.deepcopy`` is slower and ends in a RecursionError on hostile depth."""
    if depth > MAX_DEPTH:
        raise InvalidDocument(f"a descriptor nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        return {key: _copied(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item, depth + 1) for item in value]
    return value


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    )
