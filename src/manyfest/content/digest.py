# SPDX-License-Identifier: Apache-2.0
"""Digests: the name that content gives itself.

Grammar (https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests)::

    digest    ::= algorithm ":" encoded
    algorithm ::= "sha256" | "sha512"            the two registered ones; lower-case hex of full length

Example::

    >>> Digest.of(b"").short
    'e3b0c44298fc'
    >>> Digest.parse("sha256:abc")
    Traceback (most recent call last):
    manyfest.errors.InvalidDigest: "sha256:abc": sha256 takes 64 hexadecimal characters, got 3
"""

from __future__ import annotations

from manyfest.errors import InvalidDigest
from manyfest.values import Value, brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Digest"]

# hashlib is imported where it is used, since it loads OpenSSL: a command that asks a registry does that while its
# connection is being made.
_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class Digest(Value):
    """An algorithm and its hexadecimal result. ``str()`` gives ``sha256:…`` back."""

    __slots__ = ("algorithm", "hex")
    algorithm: str
    hex: str

    def __init__(self, algorithm: str, hex: str) -> None:
        self._set(algorithm=algorithm, hex=hex)
        text = f'"{algorithm[:16]}:{hex[:140]}"'
        if algorithm not in _LENGTHS:
            raise InvalidDigest(f"{text}: algorithm must be sha256 or sha512, got {brief(algorithm)}")
        if len(hex) != _LENGTHS[algorithm]:
            raise InvalidDigest(
                f"{text}: {algorithm} takes {_LENGTHS[algorithm]} hexadecimal characters, got {len(hex)}"
            )
        wrong = next((i for i, c in enumerate(hex) if c not in _HEX), None)
        if wrong is not None:
            at = len(algorithm) + 1 + wrong
            raise InvalidDigest(f"{text}: character {at + 1} is {hex[wrong]!r}, expected one of 0-9 a-f")

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``algorithm:hex``. Raises :class:`InvalidDigest`."""
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise InvalidDigest(f"{brief(text)}: expected ALGORITHM:HEX, for example sha256:e3b0c442…")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of bytes in memory."""
        import hashlib

        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve hexadecimal characters, as people and engines print them."""
        return self.hex[:12]

    def hasher(self) -> _Hash:
        """A fresh hash object of this digest's algorithm."""
        import hashlib

        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
