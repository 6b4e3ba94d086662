# SPDX-License-Identifier: Apache-2.0
"""Pushing a list and telling what happened: for ``push`` and ``create --push``."""

from __future__ import annotations

from manyfest.cli.progress import Transfer
from manyfest.cli.render import media_name, size, table
from manyfest.indexes.publish import Options, Published, publish
from manyfest.indexes.select import images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.places import Places
    from manyfest.content.document import Document
    from manyfest.indexes.spec import Spec
    from manyfest.stores.base import Source

__all__ = ["gate_of", "publish_and_tell", "tell_warnings"]


def publish_and_tell(
    spec: Spec, places: Places, console: Console, options: Options, *, length: bool = False
) -> int:
    """Publish; the last line of the result is the digest (``length``: in manifest-tool's form, with the size)."""
    target, name = places.list_store(spec.image)
    with Transfer(console) as transfer:
        published = publish(
            spec,
            target,
            name,
            places.source,
            options,
            on_event=transfer.on_event,
            gate=gate_of(spec, console),
        )
    tell_warnings(published, console)
    if console.json:
        console.document(_to_json(spec, published, options, transfer))
        return 0
    document = published.document
    if options.dry_run:
        console.print(_table(published))
        console.say(
            f"would push {media_name(document.media_type)} to {spec.image} ({', '.join(published.names)})"
        )
    repository = target.place
    for item in () if options.dry_run else published.copied:
        for descriptor in item.descriptors:
            console.print(f"Pushed ref {repository}@{descriptor.digest} with digest: {descriptor.digest}")
    console.print(f"Digest: {document.digest} {document.size}" if length else str(document.digest))
    return 0


def gate_of(spec: Spec, console: Console) -> Callable[[Source, Document], None] | None:
    """What ``verify`` says of an image before its tag is written; ``None`` when nobody asked."""
    if not spec.verify:
        return None

    def gate(source: Source, document: Document) -> None:
        from manyfest.cli.commands.verify import text
        from manyfest.errors import VerificationFailed
        from manyfest.verify.image import verify_image

        report = verify_image(source, document, name=spec.image, strict=spec.verify == "strict")
        if not report.failed:
            console.detail(f"{spec.image}: verified")
            return
        console.tell(text(report))
        raise VerificationFailed(
            f"{spec.image} was not pushed: verify found what is told above",
            hint="mend the image; manyfest verify IMAGE shows the same of each source, and how to allow a file",
        )

    return gate


def tell_warnings(published: Published, console: Console) -> None:
    """Names that moved since create, and entries that were replaced or left out."""
    for item in published.moved:
        console.warn(
            f"{item.entry.image} has moved: it was {item.entry.digest}, now it is {item.document.digest}"
        )
    for platform, older, newer in published.replaced:
        console.warn(f"{newer.image} replaces {older.image} for {platform}")
    for entry in published.missing:
        console.warn(f"{entry.image} is not there and was left out")


def _table(published: Published) -> str:
    rows = [
        (str(descriptor.platform or "-"), str(descriptor.digest), size(descriptor.size), item.entry.image)
        for item in published.found
        for descriptor in images(item.descriptors)
    ]
    return table(("PLATFORM", "DIGEST", "SIZE", "FROM"), rows, right=(2,))


def _to_json(spec: Spec, published: Published, options: Options, transfer: Transfer) -> dict[str, Any]:
    document = published.document
    return {
        "list": spec.image,
        "names": list(published.names),
        "digest": str(document.digest),
        "media_type": document.media_type,
        "size": document.size,
        "dry_run": options.dry_run,
        "platforms": [
            {
                "platform": None if descriptor.platform is None else str(descriptor.platform),
                "digest": str(descriptor.digest),
                "image": item.entry.image,
            }
            for item in published.found
            for descriptor in images(item.descriptors)
        ],
        "copied": [item.entry.image for item in published.copied],
        "missing": [entry.image for entry in published.missing],
        "moved": [
            {"image": item.entry.image, "was": item.entry.digest, "now": str(item.document.digest)}
            for item in published.moved
        ],
        "replaced": [
            {"platform": str(platform), "image": older.image, "by": newer.image}
            for platform, older, newer in published.replaced
        ],
        "transfer": transfer.to_json(),
    }
