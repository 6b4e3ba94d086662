# SPDX-License-Identifier: Apache-2.0
"""``index.json`` of an image layout: which names it gives, and edits that keep what they do not touch.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md#indexjson-file

Names are read as other tools write them. The annotation ``org.opencontainers.image.ref.name`` holds a tag (``1.2``,
skopeo, umoci, crane) or a full reference (``ghcr.io/acme/app:1.2``, podman); ``io.containerd.image.name`` (containerd,
BuildKit, Docker) holds a full reference. A tag finds any of them, and so does the full reference.

>>> entries = Entries.parse(b'{"schemaVersion":2,"manifests":[]}', "oci:x")
>>> d = Descriptor.of(b"{}", "application/vnd.oci.image.manifest.v1+json")
>>> entries.with_name(d, "v1").find("v1").digest == d.digest
True
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from manyfest.content.descriptor import Descriptor
from manyfest.content.mediatypes import OCI_INDEX, is_index
from manyfest.errors import InvalidDigest, InvalidDocument, InvalidReference, NotFound, TooLarge, Unsupported
from manyfest.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from manyfest.content.digest import Digest

__all__ = ["CONTAINERD_NAME", "MAX_INDEX_BYTES", "REF_NAME", "Entries", "check_name"]

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"

MAX_INDEX_BYTES = 64 * 1024 * 1024
"""The largest ``index.json`` that is read: more than a hundred thousand tags."""

MAX_NAME = 1024
_SHOWN = 20


class Entries:
    """The entries of one ``index.json``, in order. Immutable: edits give new ones."""

    def __init__(self, fields: dict[str, Any], place: str, known: tuple[Descriptor, ...] = ()) -> None:
        """``known`` are the descriptors of the entries where an edit has them already."""
        self._fields = fields
        self._place = place
        self._shown: tuple[str, ...] | None = None
        if known:
            self.descriptors = known
            return
        manifests = fields.get("manifests")
        if not isinstance(manifests, list):
            raise InvalidDocument(f"{place}: index.json must have a list of manifests, got {manifests!r:.80}")
        try:
            self.descriptors = tuple(Descriptor.from_json(entry) for entry in manifests)
        except (InvalidDocument, InvalidDigest) as error:
            raise InvalidDocument(f"{place}: index.json: {error}") from error

    @property
    def _names(self) -> tuple[str, ...]:
        if self._shown is None:
            self._shown = _names(self.descriptors)
        return self._shown

    @classmethod
    def parse(cls, raw: bytes, place: str) -> Entries:
        """Raises :class:`InvalidDocument`, :class:`TooLarge` or :class:`Unsupported`."""
        if len(raw) > MAX_INDEX_BYTES:
            raise TooLarge(f"{place}: index.json has over {MAX_INDEX_BYTES} bytes")
        try:
            fields = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise InvalidDocument(f"{place}: index.json is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise InvalidDocument(f"{place}: index.json must be an object, got {type(fields).__name__}")
        if fields.get("schemaVersion", 2) != 2:
            raise Unsupported(
                f"{place}: index.json has schemaVersion {fields['schemaVersion']!r}, expected 2"
            )
        return cls(fields, place)

    @classmethod
    def empty(cls, place: str) -> Entries:
        """Of a fresh layout."""
        return cls({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, place)

    def to_bytes(self) -> bytes:
        """The JSON text, with every field that came in."""
        return json.dumps(self._fields, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )

    def names(self) -> tuple[str, ...]:
        """Every name once, in order: the reference name where it means one image, else containerd's."""
        return tuple(dict.fromkeys(name for name in self._names if name))

    def having(self, digest: Digest) -> tuple[Descriptor, ...]:
        """The entries of this digest."""
        return tuple(d for d in self.descriptors if d.digest == digest)

    def find(self, name: str) -> Descriptor:
        """The entry that a name or digest means; for ``""`` see :meth:`nameless`. Raises :class:`NotFound`."""
        for matches in (_is_ref_name, _is_digest, _is_containerd_name, _is_tag_of, _is_same_reference):
            found = self._by_digest(lambda d, matches=matches: matches(d, name))  # type: ignore[misc]
            if len(found) > 1:
                raise NotFound(
                    f"{self._place}: {name!r} means {len(found)} different images",
                    hint=f"name one by digest: {self.described()}",
                )
            if found:
                return found[0]
        raise NotFound(f"{self._place}: no {name!r}", hint=f"it holds {self.described()}")

    def nameless(self, is_referrer: Callable[[Descriptor], bool]) -> Descriptor:
        """The only image. What merely refers to another one (a signature) does not count. Raises :class:`NotFound`."""
        found = self._by_digest(lambda _: True)
        if len(found) > 1:
            found = [d for d in found if _has_name(d) or not is_referrer(d)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound(f"{self._place}: holds no image")
        raise NotFound(
            f"{self._place}: holds {len(found)} images, expected one or a name",
            hint=f"name one of: {self.described()}",
        )

    def _by_digest(self, wanted: Callable[[Descriptor], bool]) -> list[Descriptor]:
        return list({d.digest: d for d in reversed(self.descriptors) if wanted(d)}.values())[::-1]

    def described(self) -> str:
        """What is there, in a line, for hints."""
        lines = [_described(d, name) for d, name in zip(self.descriptors, self._names, strict=True)]
        more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        return (", ".join(lines[:_SHOWN]) or "nothing") + more

    def with_name(self, descriptor: Descriptor, name: str) -> Entries:
        """``name`` moved to this descriptor; other names, and entries without one, stay.

        ``""`` stands for an entry without a name, which takes the place of the only one there, if so.
        """
        if name:
            new = {**descriptor.to_json()}
            new["annotations"] = {**(new.get("annotations") or {}), REF_NAME: name}
            return self._replace(
                lambda d: (
                    d.annotations.get(REF_NAME) == name
                    or (d.digest == descriptor.digest and not _has_name(d))
                ),
                new,
            )
        nameless = [d for d in self.descriptors if not _has_name(d)]
        if descriptor.digest in [d.digest for d in nameless]:
            return self
        only = nameless[0] if len(nameless) == 1 and not nameless[0].artifact_type else None
        return self._replace(lambda d: d is only, descriptor.to_json())

    def with_entry(self, descriptor: Descriptor) -> Entries:
        """The same, with an entry that has no name, unless this digest is there already."""
        if self.having(descriptor.digest):
            return self
        return self._replace(lambda _: False, descriptor.to_json())

    def without(self, unwanted: Callable[[Descriptor], bool]) -> Entries:
        """The same, less some entries."""
        return self._replace(unwanted, None)

    def without_name(self, name: str, *, keep: bool) -> Entries:
        """The name gone; ``keep`` leaves its entry there without a name."""
        entry = self.find(name)
        rest = self.without(lambda d: d == entry)
        if not keep:
            return rest
        other = {k: v for k, v in entry.annotations.items() if k not in (REF_NAME, CONTAINERD_NAME)}
        return rest.with_entry(entry.with_annotations(other))

    def _replace(self, unwanted: Callable[[Descriptor], bool], new: dict[str, Any] | None) -> Entries:
        """Entries in their order; ``new`` stands where the first unwanted one stood, else at the end."""
        entries: list[dict[str, Any]] = []
        kept: list[Descriptor] = []

        def add(descriptor: Descriptor, entry: dict[str, Any]) -> None:
            kept.append(descriptor)
            entries.append(entry)

        for descriptor, entry in zip(self.descriptors, self._fields["manifests"], strict=True):
            if not unwanted(descriptor):
                add(descriptor, entry)
            elif new is not None:
                add(Descriptor.from_json(new), new)
                new = None
        if new is not None:
            add(Descriptor.from_json(new), new)
        return Entries({**self._fields, "manifests": entries}, self._place, tuple(kept))

    def __iter__(self) -> Iterator[Descriptor]:
        return iter(self.descriptors)

    def __repr__(self) -> str:
        return f"Entries({self.described()})"


def check_name(name: str) -> None:
    """Raises :class:`InvalidReference` for what cannot be a reference name in a layout."""
    if len(name) > MAX_NAME:
        raise InvalidReference(
            f"{name[:80]!r}…: a name of {len(name)} characters, expected at most {MAX_NAME}"
        )
    wrong = next((c for c in name if not c.isascii() or not (c.isalnum() or c in "-._:@+/")), None)
    if wrong is not None:
        raise InvalidReference(
            f"{name!r}: character {name.index(wrong) + 1} is {wrong!r}, expected a letter, digit or one of -._:@+/"
        )


def _has_name(d: Descriptor) -> bool:
    return bool(d.annotations.get(REF_NAME) or d.annotations.get(CONTAINERD_NAME))


def _names(descriptors: tuple[Descriptor, ...]) -> tuple[str, ...]:
    """For each entry the name to show and to ask by.

    Several images of one archive can share a reference name: Docker writes "latest" there and tells them apart by
    containerd's annotation.
    """
    meant: dict[str, set[Digest]] = {}
    for d in descriptors:
        meant.setdefault(d.annotations.get(REF_NAME, ""), set()).add(d.digest)
    names = []
    for d in descriptors:
        ref = d.annotations.get(REF_NAME, "")
        other = d.annotations.get(CONTAINERD_NAME, "")
        names.append(ref if ref and (len(meant[ref]) == 1 or not other) else other)
    return tuple(names)


def _described(d: Descriptor, name: str) -> str:
    shown = name or str(d.digest)
    if d.platform is not None:
        return f"{shown} ({d.platform})"
    return f"{shown} (index)" if is_index(d.media_type) else shown


def _is_ref_name(d: Descriptor, name: str) -> bool:
    return d.annotations.get(REF_NAME) == name


def _is_digest(d: Descriptor, name: str) -> bool:
    return str(d.digest) == name


def _is_containerd_name(d: Descriptor, name: str) -> bool:
    return d.annotations.get(CONTAINERD_NAME) == name


def _is_tag_of(d: Descriptor, name: str) -> bool:
    return any(r.tag == name for r in _references(d))


def _is_same_reference(d: Descriptor, name: str) -> bool:
    """Is it the same repository and tag, however both are written?"""
    wanted = _reference(name)
    if wanted is None:
        return False
    tag = wanted.tag or "latest"
    return any(r.name == wanted.name and (r.tag or "latest") == tag for r in _references(d))


def _references(d: Descriptor) -> Iterator[Reference]:
    annotations = d.annotations
    for key in (REF_NAME, CONTAINERD_NAME):
        text = annotations.get(key, "")
        # A bare tag ("1.2") would read as a repository.
        if (":" in text or "/" in text) and (reference := _reference(text)) is not None:
            yield reference


def _reference(text: str) -> Reference | None:
    try:
        return Reference.parse(text)
    except InvalidReference:
        return None
