# SPDX-License-Identifier: Apache-2.0
"""A blob as a stream that goes on where a cut connection left it.

The bytes are not verified here (:mod:`manyfest.stores.base`, "Trust"); but an answer of another size than the
descriptor's is refused at once, and a source that cuts again and again is given up.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-blobs
"""

from __future__ import annotations

import re

from manyfest.errors import RegistryError, SizeMismatch
from manyfest.stores.registry.transport import Cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from manyfest.content.descriptor import Descriptor
    from manyfest.stores.registry.transport import Response

    Ask = Callable[[int], Response]
    """Sends the GET of a blob from a byte offset; the answer's status is 200, 206 or 416."""

__all__ = ["MAX_CUTS", "MAX_IDLE_CUTS", "Download", "range_header"]

MAX_IDLE_CUTS = 3
"""Cuts in a row without one new byte before the download is given up."""

MAX_CUTS = 30
"""Cuts of one download in all: a source that hands out a few bytes a connection is not worth more."""

_SKIP = 1024 * 1024


def range_header(offset: int) -> dict[str, str]:
    """The header that asks for everything from ``offset`` bytes on; none for the whole."""
    return {"Range": f"bytes={offset}-"} if offset else {}


class Download:
    """``read`` and ``close`` over as many answers as it takes.

    ``first`` is the answer to the request from ``offset``, so that what is wrong with it is said at once.
    Raises :class:`~manyfest.errors.SizeMismatch` when an answer announces another size than the descriptor's.
    """

    def __init__(self, place: str, descriptor: Descriptor, ask: Ask, offset: int = 0) -> None:
        self._place = place
        self._descriptor = descriptor
        self._ask = ask
        self._at = offset
        self._cuts = 0
        self._idle = 0
        self._response: Response | None = None
        self._connect()

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; ``b""`` only at the end. Raises :class:`Cut` when cut too often."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_SKIP), b""))
        while size and self._response is not None:
            try:
                data = self._response.read(size)
            except Cut as cut:
                self._resume(cut)
                continue
            if data:
                self._at += len(data)
                self._idle = 0
                return data
            if self._at >= self._descriptor.size:
                self.close()
                return b""
            self._resume(Cut(f"{self._place}: {self._descriptor.digest} ended after {self._at} bytes"))
        return b""

    def close(self) -> None:
        """Close the connection. May be called twice."""
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _resume(self, cut: Cut) -> None:
        """Ask for the rest, or raise when that has been tried often enough."""
        self.close()
        if self._at >= self._descriptor.size:
            return
        self._count(cut)
        while True:
            try:
                self._connect()
            except Cut as again:
                self._count(again)
            else:
                return

    def _count(self, cut: Cut) -> None:
        self._cuts += 1
        self._idle += 1
        if self._idle <= MAX_IDLE_CUTS and self._cuts <= MAX_CUTS:
            return
        size = self._descriptor.size
        raise Cut(
            f"{self._place}: {self._descriptor.digest} was cut {self._cuts} times, "
            f"{self._at} of {size} bytes came: {cut}",
            hint="the registry or a proxy before it keeps closing the connection; try again later, "
            "or from another network",
            received=self._at,
            answered=True,
        ) from cut

    def _connect(self) -> None:
        response = self._ask(self._at)
        try:
            self._skip(response, self._surplus(response))
        except BaseException:
            response.close()
            raise
        self._response = response

    def _skip(self, response: Response, count: int) -> None:
        while count:
            data = response.read(min(count, _SKIP))
            if not data:
                raise Cut(f"{self._place}: {self._descriptor.digest} ended early")
            count -= len(data)

    def _surplus(self, response: Response) -> int:
        """How many bytes of the answer we have already. Checks what it says about ranges and sizes."""
        size = self._descriptor.size
        if response.status == 416:
            self._wrong_size(f"the registry has no byte {self._at}")
        if response.status == 200:
            announced = response.headers.get("Content-Length") or ""
            if announced.isascii() and announced.isdigit() and int(announced[:20]) != size:
                self._wrong_size(f"the registry announces {announced[:20]}{_looks(response)}")
            return self._at
        value = response.headers.get("Content-Range") or ""
        match = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", value.strip())
        if match is None or not int(match[1]) <= self._at:
            raise RegistryError(
                f"{self._place}: asked for {self._descriptor.digest} from byte {self._at}, "
                f"got the range {value[:80]!r}",
                status=response.status,
            )
        if match[3] != "*" and int(match[3]) != size:
            self._wrong_size(f"the registry announces {match[3]}")
        return self._at - int(match[1])

    def _wrong_size(self, got: str) -> None:
        raise SizeMismatch(
            f"{self._place}: {self._descriptor.digest} should have {self._descriptor.size} bytes, {got}",
            hint="the registry's copy is damaged, or a proxy answers in its place; try another place",
        )


def _looks(response: Response) -> str:
    kind = (response.headers.get("Content-Type") or "").lower()
    return " in a web page" if "html" in kind else ""
