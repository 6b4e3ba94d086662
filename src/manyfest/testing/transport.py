# SPDX-License-Identifier: Apache-2.0
"""A transport without a network and a clock without waiting, for tests of what sits on the transport seam.

>>> transport = ScriptedTransport(reply(200, {"tags": ["1"]}))
>>> transport.send(Request("GET", "https://reg.example/v2/app/tags/list")).read()
b'{"tags": ["1"]}'
>>> transport.lines
['GET https://reg.example/v2/app/tags/list']
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from io import BytesIO

from manyfest.stores.registry.retry import Clock
from manyfest.stores.registry.transport import Headers, Request, Response, Transport

__all__ = ["ScriptedTransport", "StoppedClock", "reply"]

Answer = Response | BaseException
Script = Callable[[Request], Answer]


def reply(status: int = 200, body: bytes | object = b"", **headers: str | list[str]) -> Response:
    """An answer; ``www_authenticate="…"`` becomes a header, a body that is not bytes becomes JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = [
        (name.replace("_", "-"), value)
        for name, values in headers.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return Response(status, Headers(fields), BytesIO(raw), "")


class ScriptedTransport(Transport):
    """Answers from a queue, or from one function of the request; keeps what was sent, bodies read to bytes.

    An exception in the place of an answer is raised.
    """

    def __init__(self, *script: Script | Answer) -> None:
        self._function = script[0] if len(script) == 1 and callable(script[0]) else None
        self._queue = [step for step in script if not callable(step)]
        self._lock = threading.Lock()
        self.sent: list[Request] = []
        self.responses: list[Response] = []
        self.closed = 0

    def send(self, request: Request) -> Response:
        """See :meth:`Transport.send`."""
        body = request.body
        whole = body if body is None or isinstance(body, bytes) else body.read()
        with self._lock:
            self.sent.append(request.replace(body=whole))
            function = self._function or _always(self._queue.pop(0))
        answer = function(request)
        if isinstance(answer, BaseException):
            raise answer
        answer.url = answer.url or request.url
        self.responses.append(answer)
        return answer

    def close(self) -> None:
        """Counts."""
        self.closed += 1

    @property
    def lines(self) -> list[str]:
        """What was sent, one line each: method, URL, and the scheme of its credentials."""
        return [
            f"{r.method} {r.url} {r.headers.get('Authorization', '').partition(' ')[0]}".rstrip()
            for r in self.sent
        ]


def _always(answer: Answer) -> Script:
    return lambda _: answer


class StoppedClock(Clock):
    """Time that passes only by sleeping, which takes none."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return self.now

    def wall(self) -> float:
        """Unix time."""
        return 1_700_000_000.0 + self.now

    def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.slept.append(seconds)
        self.now += seconds

    def jitter(self) -> float:
        """Always the longest."""
        return 1.0
