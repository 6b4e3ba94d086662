# SPDX-License-Identifier: Apache-2.0
"""Reading an image's platforms for comparison: configs side by side, each layer once, whoever shares it."""

from __future__ import annotations

from datetime import datetime

from manyfest.content.document import Document, ImageConfig
from manyfest.errors import InvalidDocument
from manyfest.indexes.select import images
from manyfest.stores.base import load, read
from manyfest.verify.packages import is_database, packages
from manyfest.verify.parity import Side, neutral_path
from manyfest.verify.tree import Tree
from manyfest.verify.walk import read_layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.digest import Digest
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source
    from manyfest.stores.pool import Pool
    from manyfest.verify.cache import Cache
    from manyfest.verify.layers import Layer

__all__ = ["base_prefix", "packages_of", "read_layers", "read_sides", "variants_of"]


def variants_of(
    source: Source, root: Document, wanted: Callable[[Platform], bool], pool: Pool
) -> list[tuple[str, Document]]:
    """(platform, manifest) of every image that ``root`` leads to and ``wanted`` accepts; a single image is one."""
    if not root.is_index:
        stated = ImageConfig(read(source, root.manifest.config)).platform
        return [(str(stated or "no platform"), root)]
    entries = [e for e in images(root.index.manifests) if e.platform is not None and wanted(e.platform)]
    documents = pool.map(lambda entry: load(source, entry), entries)
    return [
        (str(entry.platform), document)
        for entry, document in zip(entries, documents, strict=True)
        if not document.is_index and document.manifest.is_image
    ]


def read_sides(
    source: Source, variants: Sequence[tuple[str, Document]], pool: Pool, cache: Cache, *, prefix: str = ""
) -> list[Side]:
    """A :class:`Side` for each (name, manifest). Names get ``prefix`` in front.

    Raises what reading layers raises: an image whose layers cannot be read cannot be compared.
    """
    configs = pool.map(lambda variant: ImageConfig(read(source, variant[1].manifest.config)), list(variants))
    known = read_layers(source, [document for _, document in variants], pool, cache)
    return [
        _side(prefix + name, document, config, known)
        for (name, document), config in zip(variants, configs, strict=True)
    ]


def read_layers(
    source: Source,
    documents: Sequence[Document],
    pool: Pool,
    cache: Cache,
    on_bytes: Callable[[int], None] | None = None,
) -> dict[Digest, Layer]:
    """What is in the layers of these images, each read once; ``on_bytes`` hears of every read.

    Raises what reading layers raises.
    """
    wanted = {layer.digest: layer for document in documents for layer in document.manifest.layers}

    def one(layer: Descriptor) -> tuple[Digest, Layer]:
        return layer.digest, _layer(source, layer, pool, cache, on_bytes)

    return dict(pool.map(one, wanted.values()))


def packages_of(tree: Tree) -> dict[str, dict[str, str]]:
    """Manager → name → version of the packages whose files are there; see :mod:`manyfest.verify.packages`."""
    files = [(path, node.entry) for path, node in tree.files()]
    databases = ((path, entry.text) for path, entry in files if is_database(path))
    return packages(databases, (path for path, _ in files))


def base_prefix(diff_ids: Sequence[str], base: Sequence[str]) -> bool:
    """Does an image with these layers stand on that base? (Its first layers are the base's.)"""
    return 0 < len(base) <= len(diff_ids) and tuple(diff_ids[: len(base)]) == tuple(base)


def _layer(
    source: Source,
    descriptor: Descriptor,
    pool: Pool,
    cache: Cache,
    on_bytes: Callable[[int], None] | None,
) -> Layer:
    layer = cache.layer(str(descriptor.digest))
    if layer is None:
        layer = read_layer(pool.watched(source.open(descriptor), on_bytes), descriptor, source.place)
        cache.keep_layer(layer)
    return layer


def _side(name: str, document: Document, config: ImageConfig, known: Mapping[Digest, Layer]) -> Side:
    manifest = document.manifest
    tree = Tree(known[descriptor.digest] for descriptor in manifest.layers)
    files = [(path, node.entry) for path, node in tree.files()]
    return Side(
        name,
        str(document.digest),
        size=manifest.config.size + sum(descriptor.size for descriptor in manifest.layers),
        unpacked=sum(entry.size for _, entry in files),
        created=config.created,
        created_s=_seconds(config.created),
        diff_ids=tuple(str(digest) for digest in config.diff_ids),
        settings=_settings(config, document),
        packages=packages_of(tree),
        files=frozenset(neutral_path(path) for path, _ in files),
    )


def _settings(config: ImageConfig, document: Document) -> dict[str, str]:
    """What the config says to an engine, one text for each thing that can differ."""
    stated = config.settings
    found = {
        "entrypoint": _words(stated.get("Entrypoint")),
        "cmd": _words(stated.get("Cmd")),
        "user": _words(stated.get("User")),
        "working directory": _words(stated.get("WorkingDir")),
        "stop signal": _words(stated.get("StopSignal")),
        "exposed ports": _words(stated.get("ExposedPorts")),
        "volumes": _words(stated.get("Volumes")),
        "base": document.manifest.annotations.get("org.opencontainers.image.base.name", ""),
    }
    for pair in stated.get("Env") or ():
        name, _, value = str(pair).partition("=")
        found[f"env {name}"] = value
    labels = stated.get("Labels")
    if isinstance(labels, dict):
        found.update((f"label {name}", str(value)) for name, value in labels.items())
    return {name: value for name, value in found.items() if value}


def _words(value: object) -> str:
    """Text, a list of words, or the keys of an object, as one text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(str(word) for word in value)
    if isinstance(value, dict):
        return " ".join(sorted(map(str, value)))
    return ""


def _seconds(created: str) -> float | None:
    """Seconds since 1970; ``None`` when not told, or told as the zero that reproducible builds write."""
    try:
        seconds = datetime.fromisoformat(created).timestamp() if created else 0.0
    except (ValueError, OverflowError) as error:
        raise InvalidDocument(f"image config: created is {created[:40]!r}, expected RFC 3339") from error
    return seconds if seconds > 0 else None
