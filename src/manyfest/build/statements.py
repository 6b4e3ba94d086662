# SPDX-License-Identifier: Apache-2.0
"""From a finished build to its attestations: reads what was made, once for all platforms, and attaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.build import provenance, sbom
from manyfest.build.attest import attach, statement
from manyfest.build.sums import sums_of
from manyfest.verify.cache import Cache as LayerCache
from manyfest.verify.sides import read_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from manyfest.build.attest import Statement
    from manyfest.build.built import Built
    from manyfest.build.cache import Cache
    from manyfest.build.provenance import Run
    from manyfest.build.sbom import Contents
    from manyfest.content.descriptor import Descriptor
    from manyfest.platforms import Platform
    from manyfest.stores.pool import Pool

__all__ = ["attest"]


def attest(
    built: Built,
    runs: Mapping[Platform, Run],
    cache: Cache,
    pool: Pool,
    warn: Callable[[str], None],
) -> list[Descriptor]:
    """Attest every image of ``built`` as its run asks; returns the entries for the index, in the images' order.

    Raises what reading layers raises.
    """
    entries = []
    wanted = next(iter(runs.values())).options
    contents = _contents(built, cache, pool) if wanted.attest.sbom else {}
    for platform, image in built.platforms:
        statements: list[Statement] = []
        if wanted.attest.sbom:
            found = contents[platform]
            if found.comment:
                warn(f"the SBOM of {platform} is not whole: {found.comment}")
            told = sbom.document(image, str(platform), found, wanted.epoch)
            statements.append(statement(image, sbom.PREDICATE, told))
        if wanted.attest.provenance:
            told = provenance.predicate(runs[platform])
            statements.append(statement(image, provenance.PREDICATE, told))
        document, entry, config = attach(image, statements)
        built.note_attestation(document, entry, config, statements)
        entries.append(entry)
    return entries


def _contents(built: Built, cache: Cache, pool: Pool) -> dict[Platform, Contents]:
    documents = [document for _, document in built.platforms]
    kept = LayerCache("" if cache.fresh else None)
    layers = read_layers(built, documents, pool, kept, lambda count: cache.tell("listed", count))
    own = {
        layer.digest: layer
        for document in documents
        for layer in document.manifest.layers
        if built.source_of(layer) is built
    }
    sums = dict(pool.map(lambda layer: (layer.digest, sums_of(built, layer, cache)), own.values()))
    return {
        platform: sbom.contents_of(
            (layers[layer.digest] for layer in document.manifest.layers),
            [sums[layer.digest] for layer in document.manifest.layers if layer.digest in sums],
        )
        for platform, document in built.platforms
    }
