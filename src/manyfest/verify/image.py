# SPDX-License-Identifier: Apache-2.0
"""Verify an image: every platform behind a name, in any place, without running it.

::

    report = verify_image(source, source.resolve("1.2"), expect=[Platform.parse("linux/arm64")])
    if report.failed: ...

1. The index is checked by itself, its images' manifests and configurations are read, side by side.
2. Every layer that is not known already is read once, whatever the number of platforms it is part of, side by side.
3. For each platform the layers are laid over each other, the command is followed, every file is looked at.

What one image of an index was found to be is kept too, so that a second look only asks whether all blobs are there.
"""

from __future__ import annotations

import threading

from manyfest.content import mediatypes
from manyfest.content.digest import Digest
from manyfest.content.document import ImageConfig
from manyfest.errors import (
    AuthRequired,
    ContentError,
    Forbidden,
    InputError,
    InvalidDocument,
    NotFound,
    TooLarge,
    Unsupported,
)
from manyfest.platforms import AnyOf, normalise
from manyfest.stores.base import load, read
from manyfest.stores.pool import Pool
from manyfest.verify.cache import VERSION, Cache
from manyfest.verify.checks import Finding, Findings
from manyfest.verify.checks_index import check_config, check_entries, check_expected
from manyfest.verify.reading import LayerReader
from manyfest.verify.report import ImageReport, Report, Work
from manyfest.verify.streams import MAX_UNPACKED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document, Manifest
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source
    from manyfest.verify.allow import Allowed
    from manyfest.verify.layers import Layer

__all__ = ["verify_image"]

MAX_DEPTH = 4
"""How deep indexes may lie in indexes."""

MAX_IMAGES = 500


class _Image:
    """An image of the index on its way: what the entry claims, and what is found out step by step."""

    def __init__(self, claimed: Platform | None, document: Document) -> None:
        self.claimed = claimed
        self.document = document
        self.manifest: Manifest = document.manifest
        self.config: ImageConfig | None = None
        self.findings = Findings()
        self.platform: Platform | None = claimed
        self.kept: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """What its findings are kept by: what was looked at, and as what."""
        text = f"{VERSION} {self.document.digest} {self.platform}"
        return str(Digest.of(text.encode()))


def verify_image(
    source: Source,
    root: Document,
    *,
    name: str = "",
    platforms: Sequence[Platform] = (),
    expect: Iterable[Platform] = (),
    strict: bool = False,
    allowed: Allowed | None = None,
    max_bytes: int = MAX_UNPACKED,
    cache: Cache | None = None,
    pool: Pool | None = None,
    on_plan: Callable[[int], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Report:
    """Look at every image behind ``root``, or at those for ``platforms``.

    ``expect`` names platforms that must be there; ``max_bytes`` bounds what one layer may unpack to. ``on_plan`` hears
    how many packed bytes will be read, ``on_bytes`` of each read; both are called from several threads. Without a
    ``cache`` the user's is used. What is wrong with the image is a finding; errors of the place are raised, as are
    :class:`~manyfest.errors.InputError` for a platform that is not there.
    """
    verifier = _Verifier(source, max_bytes, cache or Cache(), pool or Pool(), on_bytes)
    images, findings = verifier.images(root, platforms, expect)
    verifier.read_configs(images)
    verifier.recall(images)
    new = [image for image in images if image.kept is None]
    layers = verifier.layers.read([d for image in new for d in image.manifest.layers], on_plan)
    verifier.check_blobs(images)
    reports = [verifier.judge(image, layers) for image in images]
    for image in images:
        findings += image.findings.all()
    if allowed is not None:
        findings = [allowed.apply(finding) for finding in findings]
    return Report(
        name or source.place, str(root.digest), reports, findings, strict=strict, work=verifier.work
    )


class _Verifier:
    def __init__(
        self,
        source: Source,
        max_bytes: int,
        cache: Cache,
        pool: Pool,
        on_bytes: Callable[[int], None] | None,
    ) -> None:
        self.source = source
        self.cache = cache
        self.pool = pool
        self.work = Work()
        self.layers = LayerReader(source, max_bytes, cache, pool, self.work, on_bytes)
        self._lock = threading.Lock()

    def images(
        self, root: Document, platforms: Sequence[Platform], expect: Iterable[Platform]
    ) -> tuple[list[_Image], list[Finding]]:
        """The images to look at, and what is wrong with the index itself."""
        findings = Findings()
        if not root.is_index:
            image = _Image(None, root)
            self.read_configs([image])
            found = [image]
            there = [image.config.platform] if image.config is not None else []
            if platforms and not any(_is_one_of(each, platforms) for each in there):
                raise _not_there(platforms, there)
        else:
            entries = self._entries(root, 0, findings)
            check_entries(entries, findings)
            there = [e.platform for e in entries if e.platform is not None and not e.platform.is_unknown]
            chosen = [e for e in entries if not e.is_attestation and _is_image(e)]
            if platforms:
                chosen = [e for e in chosen if e.platform is not None and _is_one_of(e.platform, platforms)]
                if not chosen:
                    raise _not_there(platforms, there)
            found = self._load_all(chosen, findings)
        check_expected(there, expect, findings)
        return found, findings.all()

    def _entries(self, index: Document, depth: int, findings: Findings) -> list[Descriptor]:
        """The entries, those of nested indexes in their place."""
        entries: list[Descriptor] = []
        for entry in index.index.manifests:
            if not mediatypes.is_index(entry.media_type):
                entries.append(entry)
            elif depth >= MAX_DEPTH:
                findings.add("MF106", f"indexes lie in indexes more than {MAX_DEPTH} deep")
            else:
                inner = self._load(entry, findings)
                entries += self._entries(inner, depth + 1, findings) if inner is not None else []
            if len(entries) > MAX_IMAGES:
                raise TooLarge(f"{self.source.place}: an index of more than {MAX_IMAGES} entries")
        return entries

    def _load_all(self, entries: Sequence[Descriptor], findings: Findings) -> list[_Image]:
        unique = list({(str(entry.digest), entry.platform): entry for entry in entries}.values())
        documents = self.pool.map(lambda entry: self._load(entry, findings), unique)
        images = []
        for entry, document in zip(unique, documents, strict=True):
            if document is None:
                continue
            try:
                image = _Image(entry.platform, document)
            except InvalidDocument as error:
                findings.add("MF106", f"{entry.digest.short}: {error}", platform=str(entry.platform or ""))
                continue
            if image.manifest.is_image:
                images.append(image)
            else:
                kind = image.manifest.config.media_type
                findings.add(
                    "MF111", f"{entry.digest.short} is an artifact with a configuration of type {kind}"
                )
        return images

    def _load(self, entry: Descriptor, findings: Findings) -> Document | None:
        try:
            return load(self.source, entry)
        except (AuthRequired, Forbidden):
            raise
        except (NotFound, ContentError, Unsupported) as error:
            message = f"the index names {entry.digest.short}, which is not there"
            if not isinstance(error, NotFound):
                message = f"the index names {entry.digest.short}: {error}"
            hint = "push the image again, or drop it from the index; a clean-up may have deleted it"
            with self._lock:
                findings.add("MF106", message, platform=str(entry.platform or ""), hint=hint)
            return None

    def read_configs(self, images: Sequence[_Image]) -> None:
        """The configurations, checked against the entries."""
        todo = [image for image in images if image.config is None and image.manifest.is_image]
        for image, config in zip(todo, self.pool.map(self._config, todo), strict=True):
            if config is None:
                continue
            image.config = config
            image.platform = image.claimed or config.platform
            check_config(image.claimed, config, image.manifest, image.findings)

    def _config(self, image: _Image) -> ImageConfig | None:
        descriptor = image.manifest.config
        try:
            return ImageConfig(read(self.source, descriptor))
        except NotFound:
            message = f"the configuration {descriptor.digest.short} is not there"
            image.findings.add("MF107", message, platform=str(image.claimed or ""))
        except ContentError as error:
            message = f"the configuration {descriptor.digest.short}: {error}"
            image.findings.add("MF106", message, platform=str(image.claimed or ""))
        return None

    def recall(self, images: Sequence[_Image]) -> None:
        """What was found out about these very images before."""
        for image in images:
            if image.config is None:
                continue
            kept = self.cache.result(image.key)
            if isinstance(kept, dict) and kept.get("image") == str(image.document.digest):
                image.kept = kept
                self.work.layers_cached += len(image.manifest.layers)

    def check_blobs(self, images: Sequence[_Image]) -> None:
        """Are the layers still there that were known, or of no known type, and so were not opened?"""
        todo = {
            str(descriptor.digest): descriptor
            for image in images
            for descriptor in image.manifest.layers
            if str(descriptor.digest) not in self.layers.opened
            and not mediatypes.is_foreign(descriptor.media_type)
        }
        descriptors = list(todo.values())
        answers = self.pool.map(self.source.exists, descriptors)
        gone = {str(d.digest) for d, there in zip(descriptors, answers, strict=True) if not there}
        for image in images:
            for descriptor in image.manifest.layers:
                if str(descriptor.digest) in gone:
                    message = f"the layer {descriptor.digest.short} is not there"
                    platform, layer = str(image.platform), str(descriptor.digest)
                    image.findings.add("MF107", message, platform=platform, layer=layer)

    def judge(self, image: _Image, layers: dict[str, Layer | Finding]) -> ImageReport:
        """One platform: from what is kept, or by looking."""
        shown = str(image.platform or "")
        if image.config is None:
            return ImageReport(shown, str(image.document.digest), complete=False)
        if image.kept is not None:
            return _recalled(image, image.kept)
        from manyfest.verify.platform import judge_image

        own = Findings()
        digests = [str(descriptor.digest) for descriptor in image.manifest.layers]
        try:
            report = judge_image(
                image.platform or image.config.platform,
                image.config,
                str(image.document.digest),
                [layers[digest] for digest in digests],
                digests,
                own,
            )
        except TooLarge as error:
            image.findings.add("MF504", str(error), platform=shown)
            return ImageReport(shown, str(image.document.digest), complete=False)
        if report.complete:
            kept = {
                "image": report.digest,
                "report": report.to_json(),
                "findings": [f.to_json() for f in own.all()],
            }
            self.cache.keep_result(image.key, kept)
        image.findings.found += own.all()
        return report


def _recalled(image: _Image, kept: dict[str, Any]) -> ImageReport:
    image.findings.found += [Finding.from_json(shown) for shown in kept["findings"]]
    return ImageReport.from_json(kept["report"])


def _is_image(entry: Descriptor) -> bool:
    return entry.platform is None or not entry.platform.is_unknown


def _is_one_of(platform: Platform, wanted: Sequence[Platform]) -> bool:
    return AnyOf(*wanted).matches(platform) or any(
        not each.variant and normalise(each.replace(variant=platform.variant)) == normalise(platform)
        for each in wanted
    )


def _not_there(wanted: Sequence[Platform], there: Sequence[Platform]) -> InputError:
    listed = ", ".join(map(str, there)) or "no platform"
    return InputError(f"no image for {', '.join(map(str, wanted))}", hint=f"it has {listed}")
