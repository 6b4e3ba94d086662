# SPDX-License-Identifier: Apache-2.0
"""Platforms: what an image is for, what a machine is, and whether they fit.

Text form (https://pkg.go.dev/github.com/containerd/platforms, with crane's and regctl's ways to say a version)::

    platform ::= ( system | architecture | system "/" architecture [ "/" variant ] ) [ version-suffix ]
    system   ::= os [ "(" version ( "+" feature )* ")" ]
    version-suffix ::= ":" version | ",osver=" version

Platforms are kept and printed as they were written, and compared by :func:`normalise`. The list is open: any
well-formed pair is accepted, ``is_known`` says whether somebody runs it, ``suggestion`` what was meant.

    >>> from manyfest.platforms import Only, Platform, normalise
    >>> p = Platform.parse("linux/arm64/v8")
    >>> str(p), str(normalise(p)), Only(Platform.parse("linux/arm64")).matches(p)
    ('linux/arm64/v8', 'linux/arm64', True)
    >>> typo = Platform.parse("linux/armv7")
    >>> typo.is_known, typo.suggestion
    (False, 'linux/arm/v7')
"""

from __future__ import annotations

from manyfest.platforms._platform import Platform, normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.platforms._match import AnyOf, Matcher, Only, OnlyStrict, Ordered, best, ranked, vector
    from manyfest.platforms._names import (
        Names,
        from_alpine,
        from_debian,
        from_name,
        from_uname,
        go_environment,
        names,
        require_known,
    )

__all__ = [
    "AnyOf",
    "Matcher",
    "Names",
    "Only",
    "OnlyStrict",
    "Ordered",
    "Platform",
    "best",
    "from_alpine",
    "from_debian",
    "from_name",
    "from_uname",
    "go_environment",
    "names",
    "normalise",
    "ranked",
    "require_known",
    "vector",
]

_MATCHING = frozenset({"AnyOf", "Matcher", "Only", "OnlyStrict", "Ordered", "best", "ranked", "vector"})


def __getattr__(name: str) -> object:
    """Matching and names are loaded when first used: reading an index needs neither, and starts sooner."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MATCHING:
        from manyfest.platforms import _match as room
    else:
        from manyfest.platforms import _names as room  # type: ignore[no-redef]
    value: object = getattr(room, name)
    globals()[name] = value
    return value
