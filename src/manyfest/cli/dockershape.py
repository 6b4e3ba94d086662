# SPDX-License-Identifier: Apache-2.0
"""What ``docker manifest inspect --verbose`` prints, for the scripts that read it.

An object for an image, an array for a list; ``Ref``, ``Descriptor`` with the platform, ``Raw`` in base64, and the
document again as ``SchemaV2Manifest`` or ``OCIManifest``; indented by tabs (docker/cli
``cli/command/manifest/inspect.go`` and ``cli/manifest/types/types.go``).
"""

from __future__ import annotations

import json
from base64 import b64encode

from manyfest.content.mediatypes import is_docker
from manyfest.indexes.select import platform_of
from manyfest.stores.base import CanWarm, load
from manyfest.stores.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document
    from manyfest.indexes.spec import Override
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source

__all__ = ["verbose"]


def verbose(source: Source, root: Document, name: str, override: Override | None = None) -> str:
    """The text of ``docker manifest inspect -v NAME``; ``name`` in full, with its tag."""
    if not root.is_index:
        stated = platform_of(source, root)
        return _indented(_image(name, root, override.over(stated) if override else stated))
    entries = root.index.manifests
    if isinstance(source, CanWarm):
        source.warm(len(entries))

    def image(entry: Descriptor) -> dict[str, Any]:
        child = load(source, entry)
        platform = entry.platform or (None if child.is_index else platform_of(source, child))
        return _image(f"{name}@{entry.digest}", child, platform)

    return _indented(Pool().map(image, entries))


def _image(name: str, document: Document, platform: Platform | None) -> dict[str, Any]:
    descriptor: dict[str, Any] = {
        "mediaType": document.media_type,
        "digest": str(document.digest),
        "size": document.size,
    }
    if platform is not None:
        known = platform.to_json()
        order = ("architecture", "os", "os.version", "os.features", "variant")
        descriptor["platform"] = {key: known[key] for key in order if known.get(key)}
    kind = "SchemaV2Manifest" if is_docker(document.media_type) else "OCIManifest"
    return {
        "Ref": name,
        "Descriptor": descriptor,
        "Raw": b64encode(document.raw).decode(),
        kind: document.to_json(),
    }


def _indented(value: object) -> str:
    """As Go's encoder writes it: tabs, and HTML's characters escaped."""
    shown = json.dumps(value, indent="\t", ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        shown = shown.replace(character, f"\\u{ord(character):04x}")
    return shown
