# SPDX-License-Identifier: Apache-2.0
"""Making and changing indexes: pure functions from documents to new documents.

Entries that are not changed keep every field they had, known here or not; so do the other fields of an index that is
edited (``docs/decisions/0002-raw-bytes.md``). A rebuilt platform takes the place of the old entry, whose attestations
go with it; two entries for one platform are refused, since engines would silently take the first.
"""

from __future__ import annotations

import json

from manyfest.content import mediatypes
from manyfest.content.document import Document
from manyfest.errors import InvalidSpec, NotFound, Refused
from manyfest.platforms import normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from manyfest.content.descriptor import Descriptor
    from manyfest.platforms import Platform

__all__ = ["added", "build", "changed", "docker_bytes", "dropped", "encode", "rebuilt", "refuse_duplicates"]


def build(
    entries: Sequence[Descriptor], *, type: str = "", annotations: Mapping[str, str] | None = None
) -> Document:
    """A new index of these entries, in this order.

    ``type`` is ``"oci"``, ``"docker"``, or ``""``: Docker's list if every entry is Docker's and nothing carries
    annotations, else the OCI index. Raises :class:`InvalidSpec` for annotations in a Docker list, which strict
    registries refuse and others lose (https://github.com/ko-build/ko/issues/385).
    """
    annotated = bool(annotations) or any(entry.annotations for entry in entries)
    docker = bool(entries) and not annotated and all(mediatypes.is_docker(e.media_type) for e in entries)
    media_type = {"oci": mediatypes.OCI_INDEX, "docker": mediatypes.DOCKER_LIST}.get(
        type, mediatypes.DOCKER_LIST if docker else mediatypes.OCI_INDEX
    )
    if media_type == mediatypes.DOCKER_LIST and annotated:
        raise InvalidSpec(
            "annotations cannot be kept in a Docker manifest list",
            hint="publish an OCI index (--type oci), or leave the annotations and attestations out",
        )
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [entry.to_json() for entry in entries],
    }
    if annotations:
        fields["annotations"] = dict(annotations)
    return Document(media_type, encode(fields))


def rebuilt(
    root: Document, entries: Iterable[Descriptor], annotations: Mapping[str, str] | None = None
) -> Document:
    """The index with other entries (and annotations, if given); every other field stays, in its place.

    Raises :class:`InvalidSpec` for annotations in a Docker list; see :func:`build`.
    """
    if annotations and root.media_type == mediatypes.DOCKER_LIST:
        raise _cannot_annotate()
    fields = root.to_json()
    fields["manifests"] = [entry.to_json() for entry in entries]
    if annotations is not None:
        fields["annotations"] = dict(annotations)
        if not annotations:
            del fields["annotations"]
    return Document(root.media_type, encode(fields))


def added(root: Document, entries: Sequence[Descriptor]) -> Document:
    """The index with the entries added; one for a platform that is there takes its place, attestations included.

    The very same document if all of them stand there already.
    """
    known = root.index.manifests
    if all(entry in known for entry in entries):
        return root
    merged = list(known)
    for entry in entries:
        old = next((k for k in merged if _same_platform(k, entry)), None)
        if old is None:
            if entry not in merged:
                merged.append(entry)
            continue
        merged[merged.index(old)] = entry
        if old.digest != entry.digest:
            merged = [k for k in merged if k.attests != str(old.digest)]
    if root.media_type == mediatypes.DOCKER_LIST and not _fits_docker(entries, known):
        # The OCI index can hold everything that a Docker list can, and what is joining it as well.
        fields = {**root.to_json(), "mediaType": mediatypes.OCI_INDEX}
        root = Document(mediatypes.OCI_INDEX, encode(fields))
    return rebuilt(root, merged)


def dropped(root: Document, platforms: Sequence[Platform]) -> Document:
    """The index without these platforms and what attests them.

    A platform without an ``os.version`` or ``os.features`` stands for all that differ in nothing else, when none is
    exactly it. Raises :class:`NotFound` for a platform that is not there, :class:`Refused` when nothing would be left.
    """
    known = root.index.manifests
    gone: list[Descriptor] = []
    for platform in platforms:
        hit = _entries_for(known, platform)
        if not hit:
            there = ", ".join(
                str(e.platform) for e in known if e.platform is not None and not e.is_attestation
            )
            raise NotFound(f"no {platform} in the index", hint=f"it has {there or 'no platform'}")
        gone += hit
    rest = [e for e in known if e not in gone]
    # One image may stand for several platforms; what attests it stays with the last of them.
    held = {str(e.digest) for e in rest}
    lost = {str(e.digest) for e in gone} - held
    rest = [e for e in rest if e.attests not in lost]
    if not any(not e.is_attestation for e in rest):
        raise Refused("the index would be empty", hint="remove the tag itself with: manyfest delete REF")
    return rebuilt(root, rest)


def _entries_for(known: Sequence[Descriptor], platform: Platform) -> list[Descriptor]:
    wanted = normalise(platform)
    having = [(normalise(e.platform), e) for e in known if e.platform is not None]
    return [e for there, e in having if there == wanted] or [
        e for there, e in having if there.replace(os_version="", os_features=(), features=()) == wanted
    ]


def changed(root: Document, old: Descriptor, new: Descriptor) -> Document:
    """The index with one entry replaced where it stands. The same document if they are equal."""
    if old == new:
        return root
    if root.media_type == mediatypes.DOCKER_LIST and new.annotations:
        raise _cannot_annotate()
    return rebuilt(root, [new if entry == old else entry for entry in root.index.manifests])


def refuse_duplicates(entries: Iterable[Descriptor]) -> None:
    """Raise :class:`Refused` if two images claim the same platform, naming both digests.

    Docker and containerd take the first, so the second would never run. ``unknown`` platforms may repeat.
    """
    seen: dict[Platform, Descriptor] = {}
    for entry in entries:
        if entry.platform is None or entry.is_attestation or entry.platform.os == "unknown":
            continue
        first = seen.setdefault(normalise(entry.platform), entry)
        if first is not entry and first.digest != entry.digest:
            raise Refused(
                f"two entries for {entry.platform}: {first.digest} and {entry.digest}",
                hint="engines take the first and never the second; leave one out, or annotate one of them",
            )


def encode(fields: Mapping[str, Any]) -> bytes:
    """How manyfest writes documents: UTF-8, two spaces of indentation, keys in the order given."""
    return json.dumps(fields, indent=2, ensure_ascii=False).encode()


def docker_bytes(entries: Sequence[tuple[str, Descriptor]]) -> Document:
    """The list that ``docker manifest push`` would write for the same images, byte for byte.

    Entries are (name as docker would store it, descriptor). Docker sends them in the order of its cache's file names,
    indents by three spaces, writes ``size`` before ``digest``, drops what is not in its structs, and takes the type
    of the list from the first entry (docker/cli ``cli/command/manifest/push.go``, ``cli/manifest/store``).
    """
    ordered = [descriptor for _, descriptor in sorted(entries, key=lambda pair: _docker_file_name(pair[0]))]
    first_is_oci = bool(ordered) and ordered[0].media_type == mediatypes.OCI_MANIFEST
    media_type = mediatypes.OCI_INDEX if first_is_oci else mediatypes.DOCKER_LIST
    fields = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [_docker_entry(descriptor) for descriptor in ordered],
    }
    text = json.dumps(fields, indent=3, ensure_ascii=False)
    # Go's encoder escapes these so that JSON can stand inside HTML.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Document(media_type, text.encode())


def _cannot_annotate() -> InvalidSpec:
    return InvalidSpec(
        "annotations cannot be kept in a Docker manifest list",
        hint="publish it as an OCI index: manyfest create LIST IMAGE… --type oci --push",
    )


def _docker_entry(descriptor: Descriptor) -> dict[str, Any]:
    platform = descriptor.platform.to_json() if descriptor.platform is not None else {}
    written = {"architecture": platform.get("architecture", ""), "os": platform.get("os", "")}
    written.update(
        (key, platform[key]) for key in ("os.version", "os.features", "variant") if platform.get(key)
    )
    return {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": str(descriptor.digest),
        "platform": written,
    }


def _docker_file_name(name: str) -> str:
    return name.replace(":", "-").replace("/", "_")


def _fits_docker(entries: Sequence[Descriptor], known: Sequence[Descriptor]) -> bool:
    """May these join a Docker list? Annotations are lost in one; OCI images only join where some are already."""
    if any(entry.annotations for entry in entries):
        return False
    mixed = not all(mediatypes.is_docker(entry.media_type) for entry in known)
    return mixed or all(mediatypes.is_docker(entry.media_type) for entry in entries)


def _same_platform(one: Descriptor, other: Descriptor) -> bool:
    if one.is_attestation or other.is_attestation or one.platform is None or other.platform is None:
        return one == other
    return normalise(one.platform) == normalise(other.platform)
