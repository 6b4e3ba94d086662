# SPDX-License-Identifier: Apache-2.0
"""What ``inspect`` finds out about an image, and how it is shown. One round for the children, one for configs."""

from __future__ import annotations

from manyfest.cli.render import fields, mapping, media_name, size, table
from manyfest.content.document import Document, ImageConfig
from manyfest.content.mediatypes import is_index, is_manifest
from manyfest.errors import NotFound
from manyfest.indexes.select import platform_of
from manyfest.stores.base import CanWarm, load, read
from manyfest.stores.pool import Pool
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from manyfest.content.descriptor import Descriptor
    from manyfest.indexes.spec import Override, Spec
    from manyfest.stores.base import Source

__all__ = ["Child", "Inspected", "draft_text", "inspect", "text", "to_json"]

_PREDICATE = "in-toto.io/predicate-type"
_SHORT_PREDICATES = (
    ("https://slsa.dev/provenance/", "provenance"),
    ("https://spdx.dev/", "sbom"),
    ("https://cyclonedx.org/", "sbom"),
)


class Child(Value):
    """One entry of an index, or the only image. ``document`` is ``None`` when the registry lacks it."""

    __slots__ = ("attestations", "config", "descriptor", "document")
    descriptor: Descriptor
    document: Document | None
    config: ImageConfig | None
    attestations: tuple[tuple[Descriptor, tuple[str, ...]], ...]

    def __init__(
        self,
        descriptor: Descriptor,
        document: Document | None,
        config: ImageConfig | None = None,
        attestations: tuple[tuple[Descriptor, tuple[str, ...]], ...] = (),
    ) -> None:
        self._set(descriptor=descriptor, document=document, config=config, attestations=attestations)

    @property
    def kind(self) -> str:
        """``image``, ``artifact``, ``index``, or ``missing``."""
        if self.document is None:
            return "missing"
        if self.document.is_index:
            return "index"
        return "image" if self.document.manifest.is_image else "artifact"

    @property
    def content_size(self) -> int | None:
        """Bytes of config and layers as they are stored; ``None`` when nobody can tell."""
        if self.document is None or self.document.is_index:
            return None
        manifest = self.document.manifest
        return manifest.config.size + sum(layer.size for layer in manifest.layers)


class Inspected(Value):
    """A name and what it leads to."""

    __slots__ = ("children", "name", "root")
    name: str
    root: Document
    children: tuple[Child, ...]

    def __init__(self, name: str, root: Document, children: tuple[Child, ...]) -> None:
        self._set(name=name, root=root, children=children)


def inspect(
    source: Source, root: Document, name: str, *, configs: bool = False, override: Override | None = None
) -> Inspected:
    """Read the children, and with ``configs`` their configurations, side by side."""
    pool = Pool()
    if not root.is_index:
        stated = platform_of(source, root)
        platform = override.over(stated) if override else stated
        child = Child(root.descriptor.with_platform(platform), root)
        return Inspected(name, root, (_configured(source, child) if configs else child,))
    entries = root.index.manifests
    if isinstance(source, CanWarm):
        source.warm(len(entries))
    pointers = [entry.bare() for entry in entries]
    # One that is listed twice is read once, and a list may hold thousands: no step here looks at all for each.
    once = list(dict.fromkeys(pointers))
    loaded = dict(zip(once, pool.map(lambda pointer: _load(source, pointer), once), strict=True))
    documents = [loaded[pointer] for pointer in pointers]
    known = {str(entry.digest) for entry in entries}
    attesting = _attestations(entries, documents)
    children = [
        Child(entry, document, attestations=tuple(attesting.get(str(entry.digest), ())))
        for entry, document in zip(entries, documents, strict=True)
        if entry.attests not in known
    ]
    if configs:
        children = pool.map(lambda child: _configured(source, child), children)
    return Inspected(name, root, tuple(children))


def to_json(found: Inspected) -> dict[str, Any]:
    """The shape that ``docs/reference/json.md`` describes."""
    root = found.root
    view = root.index if root.is_index else root.manifest
    return {
        "name": found.name,
        "kind": "index" if root.is_index else found.children[0].kind,
        "digest": str(root.digest),
        "media_type": root.media_type,
        "size": root.size,
        "annotations": view.annotations,
        "platforms": [_child_to_json(child) for child in found.children],
    }


def text(found: Inspected, *, layers: bool = False) -> str:
    """Head, table of platforms, and a block for each configuration that was read."""
    root = found.root
    view = root.index if root.is_index else root.manifest
    head = fields(
        (
            ("name", found.name),
            ("digest", str(root.digest)),
            ("type", f"{media_name(root.media_type)}, {size(root.size)}"),
            ("annotations", mapping(view.annotations)),
        )
    )
    rows = [_row(child) for child in found.children]
    parts = [head, table(("PLATFORM", "DIGEST", "SIZE", "LAYERS", "ATTESTATIONS"), rows, right=(2, 3))]
    parts += [block for child in found.children if (block := _block(child, layers=layers))]
    return "\n\n".join(parts)


def draft_text(spec: Spec) -> str:
    """A list that is not pushed: what it is made of."""
    head = fields(
        (
            ("name", spec.image),
            ("type", f"draft{', ' + spec.type if spec.type else ''}"),
            ("more tags", ", ".join(spec.tags)),
            ("annotations", mapping(dict(spec.annotations))),
            ("expect", ", ".join(str(platform) for platform in spec.expect)),
        )
    )
    rows = [(entry.image, _overridden(entry.override), entry.digest or "-") for entry in spec.entries]
    return f"{head}\n\n{table(('IMAGE', 'PLATFORM', 'DIGEST'), rows)}"


def _overridden(override: Override) -> str:
    """The parts set by hand; the image says the others."""
    if not override:
        return "as the image says"
    parts = "/".join(
        part or "*" for part in (override.os, override.architecture, override.variant or "") if part != ""
    )
    more = [f"os.version={override.os_version}"] if override.os_version else []
    if override.os_features is not None:
        more.append(f"os.features={','.join(override.os_features) or 'none'}")
    return " ".join([parts, *more])


def _load(source: Source, entry: Descriptor) -> Document | None:
    if not (is_manifest(entry.media_type) or is_index(entry.media_type)):
        return None
    try:
        return load(source, entry)
    except NotFound:
        return None


def _configured(source: Source, child: Child) -> Child:
    if child.kind != "image" or child.document is None:
        return child
    return child.replace(config=ImageConfig(read(source, child.document.manifest.config)))


def _attestations(
    entries: Sequence[Descriptor], documents: Sequence[Document | None]
) -> dict[str, list[tuple[Descriptor, tuple[str, ...]]]]:
    """By the digest that they attest."""
    found: dict[str, list[tuple[Descriptor, tuple[str, ...]]]] = {}
    for entry, document in zip(entries, documents, strict=True):
        if attested := entry.attests:
            found.setdefault(attested, []).append((entry, _predicates(document)))
    return found


def _predicates(document: Document | None) -> tuple[str, ...]:
    if document is None or document.is_index:
        return ()
    return tuple(
        layer.annotations[_PREDICATE] for layer in document.manifest.layers if _PREDICATE in layer.annotations
    )


def _child_to_json(child: Child) -> dict[str, Any]:
    descriptor = child.descriptor
    shown: dict[str, Any] = {
        "platform": None if descriptor.platform is None else str(descriptor.platform),
        "kind": child.kind,
        "digest": str(descriptor.digest),
        "media_type": descriptor.media_type,
        "size": descriptor.size,
        "content_size": child.content_size,
        "layers": [],
        "annotations": descriptor.annotations,
        "attestations": [
            {"digest": str(attestation.digest), "predicates": list(predicates)}
            for attestation, predicates in child.attestations
        ],
    }
    if child.document is not None and not child.document.is_index:
        shown["layers"] = [
            {"digest": str(layer.digest), "media_type": layer.media_type, "size": layer.size}
            for layer in child.document.manifest.layers
        ]
    if child.config is not None:
        shown["config"] = child.config.json
    return shown


def _row(child: Child) -> tuple[str, ...]:
    layers = (
        ""
        if child.content_size is None or child.document is None
        else str(len(child.document.manifest.layers))
    )
    content = {"missing": "MISSING", "index": "index"}.get(child.kind) or size(child.content_size or 0)
    platform = str(child.descriptor.platform or "-")
    return platform, str(child.descriptor.digest), content, layers, ", ".join(_attested(child))


def _attested(child: Child) -> list[str]:
    found: list[str] = []
    for _, predicates in child.attestations:
        for predicate in predicates or ("attestation",):
            short = next(
                (name for start, name in _SHORT_PREDICATES if predicate.startswith(start)), predicate
            )
            found.append(short)
    return list(dict.fromkeys(found))


def _block(child: Child, *, layers: bool) -> str:
    if child.config is None or child.document is None:
        return ""
    settings = child.config.settings
    lines = [
        ("created", child.config.created),
        ("entrypoint", _words(settings.get("Entrypoint"))),
        ("command", _words(settings.get("Cmd"))),
        ("user", str(settings.get("User") or "")),
        ("workdir", str(settings.get("WorkingDir") or "")),
        *(("env", str(line)) for line in settings.get("Env") or () if isinstance(line, str)),
        *(("port", str(port)) for port in settings.get("ExposedPorts") or ()),
        *(("volume", str(volume)) for volume in settings.get("Volumes") or ()),
        *(("label", f"{key}={value}") for key, value in _items(settings.get("Labels"))),
        *(("annotation", f"{key}={value}") for key, value in child.descriptor.annotations.items()),
    ]
    if layers:
        lines += [("layer", f"{layer.digest} {size(layer.size)}") for layer in child.document.manifest.layers]
    return f"{child.descriptor.platform or child.descriptor.digest}\n{fields(lines, indent='  ')}".rstrip()


def _items(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, dict) else []


def _words(value: object) -> str:
    """A command as a shell would take it."""
    if not isinstance(value, list):
        return str(value or "")
    import shlex

    return " ".join(shlex.quote(str(word)) for word in value)
