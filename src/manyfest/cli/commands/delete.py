# SPDX-License-Identifier: Apache-2.0
"""``manyfest delete``."""

from __future__ import annotations

from manyfest.errors import InputError, NotFound, Refused, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.content.descriptor import Descriptor
    from manyfest.content.digest import Digest
    from manyfest.stores.base import Source

SUMMARY = "delete a tag or a digest, never what a kept list needs"
EXAMPLES = (
    "manyfest delete ghcr.io/acme/app:1-rc1",
    "manyfest delete ghcr.io/acme/app@sha256:... --dry-run",
)


def configure(parser: CommandParser) -> None:
    """One tag or digest."""
    parser.description = (
        "Delete a tag, or content by its digest. Nothing is asked. A digest that a tag points at, or that a tagged "
        "list needs, is refused: untagged is not unused."
    )
    parser.add_argument("place", metavar="REF", help="NAME:TAG or NAME@DIGEST; a tag is never guessed")
    parser.add_argument("--dry-run", action="store_true", help="show what would go, but delete nothing")
    parser.add_argument(
        "--force", action="store_true", help="delete even what tags use, and the tags with it"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """A tag alone where the place can do that, content otherwise."""
    from manyfest.cli.places import Places
    from manyfest.stores.base import CanDelete

    if not _says_which(args.place):
        raise InputError(f"{args.place}: no tag and no digest", hint="say which: NAME:TAG or NAME@DIGEST")
    with Places(args, console) as places:
        store, name = places.store(args.place)
        if not isinstance(store, CanDelete):
            raise Unsupported(f"{store.place} cannot delete")
        descriptor = store.peek(name)
        is_tag = name != str(descriptor.digest)
        lost: tuple[str, ...] = (name,) if is_tag else ()
        content = not is_tag
        if is_tag and not args.dry_run:
            content = not _untagged(store, name)
        if content:
            lost = _refuse_used(store, descriptor, name, force=args.force)
            if not args.dry_run:
                store.delete(descriptor)
    _tell(console, str(descriptor.digest), store.place, lost, content=content, dry_run=args.dry_run)
    return 0


def _says_which(text: str) -> bool:
    from manyfest.reference import Reference
    from manyfest.stores.places import Place

    place = Place.parse(text)
    if place.transport != "docker":
        return bool(place.name)
    reference = Reference.parse(text.removeprefix("docker://"))
    return bool(reference.tag or reference.digest)


def _untagged(store: object, name: str) -> bool:
    """``False`` where a tag goes only with its content."""
    from manyfest.stores.base import CanDelete

    assert isinstance(store, CanDelete)
    try:
        store.untag(name)
    except Unsupported:
        return False
    return True


def _refuse_used(store: Source, descriptor: Descriptor, name: str, *, force: bool) -> tuple[str, ...]:
    """The tags that go with the content; raises :class:`Refused` if they are others than the one that was named."""
    pointing, needing = _users(store, descriptor.digest)
    others = tuple(tag for tag in pointing if tag != name)
    if force:
        return pointing
    if others:
        raise Refused(
            f"{descriptor.digest} is also tagged {', '.join(others)}",
            hint="delete those tags first, or add --force to delete the content and all of its tags",
        )
    if needing:
        raise Refused(
            f"{descriptor.digest} is part of the list {', '.join(needing)}",
            hint="take it out with: manyfest drop LIST PLATFORM, or add --force to break the list",
        )
    return pointing


def _users(store: Source, digest: Digest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tags that point at a digest, and those whose index needs it, itself or in an index that it lists."""
    from manyfest.content.document import Document
    from manyfest.content.mediatypes import is_index
    from manyfest.stores.base import HasTags
    from manyfest.stores.pool import Pool

    if not isinstance(store, HasTags):
        return (), ()

    def resolved(tag: str) -> Document | None:
        try:
            return store.resolve(tag)
        except NotFound:
            return None  # deleted by somebody else meanwhile

    def leads_there(document: Document) -> bool:
        todo, seen = [document], {document.digest}
        while todo:
            entries = todo.pop().index.manifests
            if any(entry.digest == digest for entry in entries):
                return True
            nested = {entry.digest for entry in entries if is_index(entry.media_type)} - seen
            seen |= nested
            todo += [child for each in nested if (child := resolved(str(each))) is not None]
        return False

    tags = list(store.tags())
    documents = dict(zip(tags, Pool().map(resolved, tags), strict=True))
    pointing = tuple(tag for tag, document in documents.items() if document and document.digest == digest)
    needing = tuple(
        tag for tag, document in documents.items() if document and document.is_index and leads_there(document)
    )
    return pointing, needing


def _tell(
    console: Console, digest: str, place: str, tags: tuple[str, ...], *, content: bool, dry_run: bool
) -> None:
    verb = "would delete" if dry_run else "deleted"
    lines = [f"{verb} tag {place}:{tag}" for tag in tags]
    if content:
        lines.append(f"{verb} {place}@{digest}")
    shown = {"place": place, "digest": digest, "tags": list(tags), "content": content, "dry_run": dry_run}
    console.result(shown, "\n".join(lines))
