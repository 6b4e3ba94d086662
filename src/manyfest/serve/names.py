# SPDX-License-Identifier: Apache-2.0
"""The names in a registry's paths, checked before anything touches a disk.

Grammar (https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests)::

    name      ::= component ("/" component)*             at most 255 characters
    component ::= [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
    tag       ::= [a-zA-Z0-9_] [a-zA-Z0-9._-]{0,127}

So no component is empty, starts with a dot, or holds a slash, a backslash or NUL: a checked name cannot leave the
folder it is joined to.

>>> check_name("library/alpine")
'library/alpine'
>>> folder_of("team/blobs")                 # a layout in team/ has a folder blobs of its own
'team/_blobs'
"""

from __future__ import annotations

import re

from manyfest.content.digest import Digest
from manyfest.errors import InvalidDigest
from manyfest.serve.problems import Problem

__all__ = ["RESERVED", "TAG", "check_digest", "check_name", "check_tag", "folder_of", "is_name", "name_of"]

RESERVED = frozenset({"blobs", "index.json", "oci-layout"})
"""Components that would collide with the parts of a layout one level up."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


def is_name(text: str) -> bool:
    """Is it the name of a repository?"""
    return len(text) <= 255 and _NAME.fullmatch(text) is not None


def check_name(text: str) -> str:
    """The name itself. Raises :class:`Problem` (400 ``NAME_INVALID``)."""
    if not is_name(text):
        raise Problem(400, "NAME_INVALID", f"not the name of a repository: {text[:80]!r}")
    return text


def check_tag(text: str) -> str:
    """The tag itself. Raises :class:`Problem` (400 ``TAG_INVALID``)."""
    if not TAG.fullmatch(text):
        raise Problem(400, "TAG_INVALID", f"not a tag: {text[:140]!r}")
    return text


def check_digest(text: str) -> Digest:
    """The parsed digest. Raises :class:`Problem` (400 ``DIGEST_INVALID``)."""
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise Problem(400, "DIGEST_INVALID", str(error)[:300]) from error


def folder_of(name: str) -> str:
    """Where a checked name's layout is, below the root. No component starts with ``_``, so this is one to one."""
    return "/".join(f"_{part}" if part in RESERVED else part for part in name.split("/"))


def name_of(folder: str) -> str:
    """The other way round."""
    parts = folder.split("/")
    return "/".join(part[1:] if part[1:] in RESERVED and part[0] == "_" else part for part in parts)
