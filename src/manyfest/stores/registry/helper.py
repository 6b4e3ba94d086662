# SPDX-License-Identifier: Apache-2.0
"""Docker's credential helpers: programs ``docker-credential-NAME`` that keep secrets for others.

One process per question: the action is the argument, the question goes in on stdin, the answer comes out on stdout.
https://github.com/docker/docker-credential-helpers describes the protocol. Imported only when a config file names a
helper, because :mod:`subprocess` is dear on the path of a single request.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import time

from manyfest.errors import StoreError
from manyfest.stores.registry.wire import printable

__all__ = ["TIMEOUT_S", "known", "run"]

TIMEOUT_S = 60.0
"""How long a helper may take; long enough for a person to unlock a key store."""

MAX_BYTES = 1024 * 1024
"""How much a helper may say."""

_MISSING = (
    "credentials not found",
    "no credentials server url",
    "no credentials username",
    "not found in native",
)


def run(name: str, action: str, question: str, *, timeout_s: float | None = None) -> dict[str, str] | None:
    """Ask the helper ``name`` to ``get``, ``store`` or ``erase``.

    ``get`` gives its answer (``Username`` and ``Secret`` are text), ``None`` when the helper has nothing; the others
    give an empty one. Raises :class:`~manyfest.errors.StoreError` when the helper is missing, fails, says too much or
    takes more than ``timeout_s`` seconds. What it said is quoted only when it cannot hold a secret.
    """
    code, output = _converse(name, action, question, TIMEOUT_S if timeout_s is None else timeout_s)
    if code:
        _check_missing(name, action, output)
        return None
    return _read_answer(name, output) if action == "get" else {}


def known(name: str) -> dict[str, str]:
    """The servers a helper knows, each with its user name (the ``list`` action)."""
    code, output = _converse(name, "list", "", TIMEOUT_S)
    if code:
        _check_missing(name, "list", output)
        return {}
    fields = _object(name, "list", output)
    return {key: value for key, value in fields.items() if isinstance(value, str)}


def _check_missing(name: str, action: str, output: bytes) -> None:
    """Nothing to be found is no failure; everything else raises."""
    text = printable(output.decode("utf-8", "replace"))
    if any(words in text.lower() for words in _MISSING):
        return
    said = f": {text}" if text and "{" not in text and action != "store" else ""
    raise StoreError(
        f"docker-credential-{name} {action} failed{said}",
        hint=f"try it by hand: echo HOST | docker-credential-{name} get",
    )


def _read_answer(name: str, output: bytes) -> dict[str, str] | None:
    fields = _object(name, "get", output)
    username, secret = fields.get("Username", ""), fields.get("Secret", "")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise StoreError(f"docker-credential-{name} get: expected Username and Secret as text")
    return {"Username": username, "Secret": secret} if secret else None


def _object(name: str, action: str, output: bytes) -> dict[str, object]:
    try:
        fields = json.loads(output)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise StoreError(f"docker-credential-{name} {action}: expected a JSON object, got something else")
    return fields


def _converse(name: str, action: str, question: str, timeout_s: float) -> tuple[int, bytes]:
    """Exit code and output; the helper never outlives this call."""
    program = f"docker-credential-{name}"
    try:
        process = subprocess.Popen(
            [program, action], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise StoreError(
            f"{program} cannot be run: {error.strerror}",
            hint=f"install {program}, or remove its name from Docker's config.json",
        ) from error
    try:
        return _exchange(process, program, question.encode(), time.monotonic() + timeout_s)
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                _close(pipe)
        if process.poll() is None:
            process.kill()
        process.wait()


def _close(pipe: object) -> None:
    try:
        pipe.close()  # type: ignore[attr-defined]
    except BrokenPipeError:
        return  # the helper did not want the question; its exit code says what that means


def _exchange(
    process: subprocess.Popen[bytes], program: str, question: bytes, deadline: float
) -> tuple[int, bytes]:
    if process.stdin is None or process.stdout is None:
        raise StoreError(f"{program}: no pipes")
    try:
        process.stdin.write(question)
        process.stdin.close()
    except BrokenPipeError:
        question = b""  # it may answer all the same
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise StoreError(
                    f"{program} did not answer in time", hint="is it waiting for a key to be unlocked?"
                )
            data = process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not data:
                break
            output += data
            if len(output) > MAX_BYTES:
                raise StoreError(f"{program}: expected at most {MAX_BYTES} bytes, got more")
    try:
        return process.wait(max(0.0, deadline - time.monotonic())), bytes(output)
    except subprocess.TimeoutExpired:
        raise StoreError(f"{program} did not end in time") from None
