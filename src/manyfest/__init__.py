# SPDX-License-Identifier: Apache-2.0
"""One image name, every architecture: build it, ship it, prove it, run it.

The words of the library are those of the command::

    from manyfest import Only, Place, Platform, Session, Settings, image_for, open_source

    with Session(Settings()) as session:
        place = Place.parse("ghcr.io/acme/app:1.2")
        source = open_source(place, session)
        root = source.resolve("1.2")
        print(image_for(source, root, Platform.parse("linux/arm64")).digest)

Nothing is imported before it is used, so ``import manyfest`` costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.content.descriptor import Descriptor
    from manyfest.content.digest import Digest
    from manyfest.content.document import Document, ImageConfig, Index, Manifest
    from manyfest.errors import Error
    from manyfest.indexes.gather import gather
    from manyfest.indexes.join import join
    from manyfest.indexes.publish import publish
    from manyfest.indexes.select import image_for, keep
    from manyfest.indexes.spec import Entry, Override, Spec
    from manyfest.platforms import AnyOf, Only, OnlyStrict, Ordered, Platform, best, normalise
    from manyfest.reference import Reference
    from manyfest.stores.base import Source, Store, load, read
    from manyfest.stores.copy import Event, copy
    from manyfest.stores.memory import Memory
    from manyfest.stores.places import Place, open_source, open_store
    from manyfest.stores.registry.client import Registry
    from manyfest.stores.registry.session import Session
    from manyfest.stores.registry.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "AnyOf",
    "Descriptor",
    "Digest",
    "Document",
    "Entry",
    "Error",
    "Event",
    "ImageConfig",
    "Index",
    "Manifest",
    "Memory",
    "Only",
    "OnlyStrict",
    "Ordered",
    "Override",
    "Place",
    "Platform",
    "Reference",
    "Registry",
    "Session",
    "Settings",
    "Source",
    "Spec",
    "Store",
    "__version__",
    "best",
    "copy",
    "gather",
    "image_for",
    "join",
    "keep",
    "load",
    "normalise",
    "open_source",
    "open_store",
    "publish",
    "read",
]

_HOMES = {
    "content.descriptor": ("Descriptor",),
    "content.digest": ("Digest",),
    "content.document": ("Document", "ImageConfig", "Index", "Manifest"),
    "errors": ("Error",),
    "indexes.gather": ("gather",),
    "indexes.join": ("join",),
    "indexes.publish": ("publish",),
    "indexes.select": ("image_for", "keep"),
    "indexes.spec": ("Entry", "Override", "Spec"),
    "platforms": ("AnyOf", "Only", "OnlyStrict", "Ordered", "Platform", "best", "normalise"),
    "reference": ("Reference",),
    "stores.base": ("Source", "Store", "load", "read"),
    "stores.copy": ("Event", "copy"),
    "stores.memory": ("Memory",),
    "stores.places": ("Place", "open_source", "open_store"),
    "stores.registry.client": ("Registry",),
    "stores.registry.session": ("Session",),
    "stores.registry.settings": ("Settings",),
}


def __getattr__(name: str) -> object:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'manyfest' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"manyfest.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
