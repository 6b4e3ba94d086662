# SPDX-License-Identifier: Apache-2.0
"""The scripted registry keeps its own promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from manyfest.stores.registry.transport import HTTPTransport, Request
from manyfest.testing.script import Answer, ScriptedRegistry

Connect = Callable[..., HTTPTransport]


def status(transport: HTTPTransport, registry: ScriptedRegistry, target: str, **options: object) -> int:
    """Ask, and forget the body."""
    method = str(options.pop("method", "GET"))
    with transport.send(Request(method, registry.url + target, **options)) as response:  # type: ignore[arg-type]
        return response.status


def test_entries_match_by_method_path_query_header_and_body(
    connect: Connect, registry: ScriptedRegistry
) -> None:
    """The first that fits answers."""
    registry.on("GET", "/a", Answer(201), query={"x": "1 2"})
    registry.on("GET", "/a", Answer(202), headers={"Accept": "text/plain"})
    registry.on("GET", "/a", Answer(203), headers={"Accept": None})
    registry.on("PUT", "/a", Answer(204), body=b"yes")
    registry.on("*", "/a*", Answer(205))
    transport = connect()
    assert status(transport, registry, "/a?x=1%202") == 201
    assert status(transport, registry, "/a", headers={"Accept": "text/plain"}) == 202
    assert status(transport, registry, "/a") == 203
    assert status(transport, registry, "/a", method="PUT", body=b"yes") == 204
    assert status(transport, registry, "/abc", method="PUT", body=b"no") == 205
    assert (registry.count(), registry.count("PUT"), registry.count("GET", "/a")) == (5, 2, 3)
    registry.check()


def test_check_tells_what_was_unexpected_and_what_unused(
    connect: Connect, registry: ScriptedRegistry
) -> None:
    """Both in one message."""
    registry.on("GET", "/used", Answer(200), times=1)
    registry.on("GET", "/unused", Answer(200), times=2)
    transport = connect()
    assert [status(transport, registry, "/used"), status(transport, registry, "/used?n=1")] == [200, 599]
    with pytest.raises(AssertionError, match=r"'GET /used\?n=1'.*'GET /unused'"):
        registry.check()


def test_an_ordered_script_takes_only_the_next_entry(connect: Connect) -> None:
    """A step that comes too early is unexpected."""
    with ScriptedRegistry(ordered=True) as registry:
        registry.on("GET", "/1", Answer(200), times=1).on("GET", "/2", Answer(200), times=1)
        transport = connect()
        assert [status(transport, registry, path) for path in ("/2", "/1", "/2")] == [599, 200, 200]


def test_an_answer_may_be_computed(connect: Connect, registry: ScriptedRegistry) -> None:
    """From the request."""
    registry.on("PUT", "/up", lambda request: Answer(200 + len(request.body)))
    assert status(connect(), registry, "/up", method="PUT", body=b"abc") == 203


def test_hanging_up_is_a_server_that_restarts(connect: Connect, registry: ScriptedRegistry) -> None:
    """Kept connections die, new ones are taken."""
    registry.on("GET", "/", Answer(200))
    transport = connect()
    assert status(transport, registry, "/") == 200
    registry.hang_up()
    assert status(transport, registry, "/") == 200
    assert registry.connections == 2
