# SPDX-License-Identifier: Apache-2.0
"""Who answers: ask a URL again and again, each time over a new connection, and look for an architecture in the answer.

>>> named("Hello from linux/arm64, 3 processors"), named("served by an i686 machine"), named("It works!")
('arm64', '386', '')
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from manyfest.errors import InputError, InvalidPlatform
from manyfest.platforms import Platform, from_name

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Probe", "named"]

TIMEOUT_S = 3.0
MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are looked at."""

KEPT = 60
"""Requests that are shown."""

_WORD = re.compile(r"[A-Za-z0-9_]+")
_PLATFORM = re.compile(r"\b(?:linux|windows|freebsd|darwin)/([a-z0-9]+)")
_SHORTEST = 3
_MAX_TEXT = 80


def named(text: str) -> str:
    """The first architecture that a text names, in the words of images; empty when it names none."""
    for found in _PLATFORM.finditer(text):
        if Platform("linux", found[1]).is_known:
            return found[1]
    for word in _WORD.findall(text[:4096]):
        if len(word) < _SHORTEST:
            continue
        try:
            return from_name(word.lower()).architecture
        except InvalidPlatform:
            continue
    return ""


class Probe:
    """The last answers of one URL. ``ask`` takes at most :data:`TIMEOUT_S`; for one thread."""

    def __init__(self, url: str) -> None:
        """Raises :class:`~manyfest.errors.InputError` for anything but a plain http or https URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError(f"a URL to probe that cannot be read: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
            raise InputError(f"{url!r}: expected a URL such as http://HOST:PORT/")
        if "@" in parts.netloc:
            raise InputError("a URL to probe with a password in it: everybody who looks would see it")
        self.url = url
        self._connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port = parts.hostname, port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._recent: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._total = self._failures = 0

    def ask(self) -> dict[str, Any]:
        """One request; what is known after it, as JSON: ``answers`` counts those of ``recent``."""
        began = time.monotonic()
        name, text, error = "", "", ""
        try:
            name, text, error = self._get()
        except (OSError, HTTPException, ValueError) as problem:
            error = f"no answer: {getattr(problem, 'strerror', None) or problem or type(problem).__name__}"
        self._total += 1
        self._failures += bool(error)
        self._recent.append(
            {
                "number": self._total,
                "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                "name": name,
                "text": text,
                "error": error,
                "milliseconds": round((time.monotonic() - began) * 1000),
            }
        )
        return self.shown()

    def shown(self) -> dict[str, Any]:
        """What is known now."""
        counts = Counter(each["name"] for each in self._recent if not each["error"])
        return {
            "url": self.url,
            "total": self._total,
            "failures": self._failures,
            "recent_failures": sum(bool(each["error"]) for each in self._recent),
            "answers": [{"name": name, "count": count} for name, count in sorted(counts.items())],
            "recent": list(self._recent),
        }

    def _get(self) -> tuple[str, str, str]:
        """The architecture (else the first line, so that other answers can be told apart), the text, the error."""
        connection = self._connection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request(
                "GET", self._target, headers={"Connection": "close", "Accept": "text/*, */*;q=0.5"}
            )
            answer = connection.getresponse()
            raw = answer.read(MAX_ANSWER)
            status = answer.status
        finally:
            connection.close()
        text = raw.decode("utf-8", "replace")
        line = next((line.strip() for line in text.splitlines() if line.strip()), "")
        line = "".join(c if c.isprintable() else "?" for c in line)[:_MAX_TEXT]
        if status >= 300:
            return "", line, f"it answers with status {status}"
        return named(text) or line[:24] or "an empty answer", line, ""
