# SPDX-License-Identifier: Apache-2.0
"""``manyfest deploy --render kubernetes``: the objects on standard output. No cluster and no engine is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from manyfest.cli.console import Console
    from manyfest.cli.places import Places
    from manyfest.deploy.swarm import Wish
    from manyfest.indexes.listing import Listing
    from manyfest.stores.places import Place

__all__ = ["refuse_options", "render"]


def refuse_options(args: argparse.Namespace) -> None:
    """Raises :class:`InputError` for options that only make sense of a swarm that is there."""
    hints = {
        "remove": "kubectl delete -f FILE",
        "force": "kubectl rollout restart",
        "with_registry_auth": "kubectl create secret docker-registry, and name it in the pod's imagePullSecrets",
        "partial": "the node affinity always keeps it away from nodes that cannot have it",
    }
    for name, hint in hints.items():
        if getattr(args, name):
            raise InputError(f"--{name.replace('_', '-')}: not with --render kubernetes", hint=hint)


def render(args: argparse.Namespace, console: Console, places: Places, place: Place, wish: Wish) -> int:
    """0."""
    from manyfest.deploy.kubernetes import affinity, objects, to_yaml
    from manyfest.indexes.listing import list_images

    source, name = places.source(str(place))
    document = source.resolve(name)
    listing = list_images(source, document)
    where = affinity(listing)
    image = str(place.reference.with_digest(document.digest))
    found = objects(wish, image, where)
    for note in where.notes:
        console.warn(note)
    shown = {
        "service": wish.name,
        "action": "render",
        "image": image,
        "mode": wish.mode or "global",
        "platforms": _platforms(listing),
        "ports": [
            {"published": p.published, "target": p.target, "protocol": p.protocol, "mode": p.mode}
            for p in wish.ports or ()
        ],
        "notes": list(where.notes),
        "objects": found,
    }
    head = [
        f"{wish.name}: {args.place} for {', '.join(_platforms(listing)) or 'nobody knows what'}",
        "Written by manyfest deploy --render kubernetes; look at it with: manyfest check FILE --kube nodes.json",
        *where.notes,
    ]
    console.result(shown, to_yaml(found, head).rstrip("\n"))
    return 0


def _platforms(listing: Listing) -> Sequence[str]:
    return list(dict.fromkeys(str(platform) for platform in listing.platforms))
