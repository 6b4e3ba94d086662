# SPDX-License-Identifier: Apache-2.0
"""Which nodes are well, by what they answer."""

from __future__ import annotations

import socket

import pytest

from manyfest.deploy.balance import Upstream
from manyfest.deploy.health import Health, ask
from manyfest.errors import InputError
from manyfest.serve.exchange import Request, Response
from manyfest.serve.http import Server

A, B = Upstream("a", "x86_64", "10.0.0.1", 80), Upstream("b", "s390x", "10.0.0.2", 80)


class Script:
    """Who is ill now."""

    def __init__(self) -> None:
        self.ill: set[Upstream] = set()
        self.asked = 0

    def __call__(self, each: Upstream, path: str) -> str:
        assert path == "/healthz"
        self.asked += 1
        return "ill" if each in self.ill else ""


def test_two_bad_answers_and_a_good_one() -> None:
    """One slip is forgiven to those that were well."""
    script = Script()
    health = Health("/healthz", script)
    assert health.well([A, B]) == [A, B]
    script.ill = {B}
    assert (health.well([A, B]), health.told()) == ([A, B], [])
    assert (health.well([A, B]), health.told()) == ([A], ["b at 10.0.0.2:80: ill"])
    script.ill = set()
    assert (health.well([A, B]), health.told()) == ([A, B], [])
    assert script.asked == 8


def test_a_new_node_has_to_be_well() -> None:
    """It is not sent anything on trust; a task that was replaced is new."""
    script = Script()
    script.ill = {B}
    health = Health("/healthz", script)
    assert health.well([A, B]) == [A]
    assert health.well([A]) == [A]
    assert health.well([A, B]) == [A]


def test_a_question_that_all_fail_takes_nobody_away() -> None:
    script = Script()
    script.ill = {A, B}
    health = Health("/healthz", script)
    assert health.well([A, B]) == [A, B]
    assert len(health.told()) == 2
    assert health.well([]) == []


@pytest.mark.parametrize("path", ["", "healthz", "/a b", "/a\r\nX: y", "/ä", "http://x/"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(InputError, match="expected a path"):
        Health(path)


class Answers:
    def __init__(self, status: int) -> None:
        self.status = status

    def handle(self, request: Request, /) -> Response:
        return Response(self.status if request.target == "/healthz" else 404, {}, b"x")


@pytest.mark.parametrize(("status", "said"), [(200, ""), (302, ""), (500, "/healthz is answered with 500")])
def test_asking(status: int, said: str) -> None:
    with Server(Answers(status)) as server:
        host, _, port = server.host.partition(":")
        assert ask(Upstream("a", "", host, int(port)), "/healthz") == said


def test_nobody_answers() -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        where = Upstream("a", "", "127.0.0.1", door.getsockname()[1])
        assert ask(where, "/x") == "no answer to /x: Connection refused"
