# SPDX-License-Identifier: Apache-2.0
"""Refusals of a registry, in the distribution specification's form.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes

>>> Problem(404, "NAME_UNKNOWN", "no such repository").response().content()
b'{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}'
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from manyfest.errors import Error, ReadOnly
from manyfest.serve.exchange import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FULL", "Problem"]

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a disk without room."""
_CLOSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class Problem(Exception):
    """Ends a request with an error answer; ``details`` has one entry for each error of the list."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[object] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = tuple(details)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer that says so."""
        message = str(self)
        errors: list[dict[str, object]] = [
            {"code": self.code, "message": message, "detail": detail} for detail in self.details
        ]
        return Response.json(
            self.status, {"errors": errors or [{"code": self.code, "message": message}]}, self.headers
        )

    @classmethod
    def of(cls, error: Error | OSError) -> Problem:
        """What a registry answers when its storage fails."""
        cause = error if isinstance(error, OSError) else error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        if number in FULL:
            return cls(507, "INSUFFICIENT_STORAGE", "the registry's disk is full; nothing was stored")
        if isinstance(error, ReadOnly) or number in _CLOSED:
            return cls(405, "UNSUPPORTED", "the registry's storage cannot be written")
        # Not the message: it may name paths of the server.
        return cls(500, "UNKNOWN", f"the registry's storage failed: {type(error).__name__}")
