# SPDX-License-Identifier: Apache-2.0
"""The dashboard's pages: who may see them, and what they may do."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection
from importlib import resources

import pytest

from manyfest.serve.dashboard.app import STREAMS, DashboardApp, is_loopback, new_token
from manyfest.serve.dashboard.state import Board
from manyfest.serve.exchange import Request, Response, Stream
from manyfest.serve.http import Server

TOKEN = "a-token-of-tests"
PAGE = resources.files("manyfest.serve.dashboard") / "page"


def ask(
    app: DashboardApp, target: str = "/", *, method: str = "GET", host: str = "localhost:1", cookie: str = ""
) -> Response:
    """One request."""
    headers = {"Host": host, **({"Cookie": cookie} if cookie else {})}
    return app.handle(Request(method, target, headers=headers))


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/script.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/state.json", "application/json"),
        ("/events", "text/event-stream"),
    ],
)
def test_pages(target: str, kind: str) -> None:
    """All with the headers that keep others out."""
    answer = ask(DashboardApp(Board()), target)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert not any(name.lower().startswith("access-control") for name in answer.headers)
    answer.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_there_is_nothing_to_change(method: str) -> None:
    """Not even to ask what may be changed."""
    assert ask(DashboardApp(Board()), method=method).status == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("192.168.1.5", 200),
        ("box.lan:80", 200),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("", 421),
    ],
)
def test_names_that_strangers_point_here(host: str, status: int) -> None:
    """DNS rebinding: only addresses and known names."""
    assert ask(DashboardApp(Board(), names=("box.lan",)), host=host).status == status


def test_the_token_opens_once_and_the_cookie_from_then_on() -> None:
    """The token leaves the address; without cookie nothing is shown, not even the style."""
    app = DashboardApp(Board(), token=TOKEN)
    for target in (
        "/",
        "/state.json",
        "/events",
        "/style.css",
        "/?token=wrong",
        f"/state.json?token={TOKEN}",
    ):
        assert ask(app, target).status == 401, target
    opened = ask(app, f"/?token={TOKEN}")
    assert (opened.status, opened.headers["Location"]) == (303, "/")
    cookie, *attributes = opened.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert ask(app, cookie=f"other=1; {cookie}").status == 200
    assert ask(app, cookie=cookie.replace(TOKEN, "wrong")).status == 401
    assert ask(app, cookie=f"x{cookie}").status == 401


def test_two_dashboards_on_one_machine_have_two_cookies() -> None:
    """Cookies do not know ports."""
    names = {
        ask(DashboardApp(Board(), token=token), f"/?token={token}").headers["Set-Cookie"].partition("=")[0]
        for token in (new_token(), new_token())
    }
    assert len(names) == 2


def test_the_page_brings_the_state_along_and_nobody_breaks_out() -> None:
    """What a registry says stays text."""
    board = Board()
    evil = "</script><script>alert(1)</script><!--"
    board.put("lists", [{"name": evil}])
    page = ask(DashboardApp(board)).content().decode()
    found = re.search(r'<script type="application/json" id="state">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert "<" not in found[1]
    assert json.loads(found[1])["lists"][0]["name"] == evil


def test_only_so_many_streams() -> None:
    """A place is given back when a stream ends, begun or not."""
    app = DashboardApp(Board())
    taken = [ask(app, "/events") for _ in range(STREAMS)]
    assert ask(app, "/events").status == 503
    taken[0].close()
    taken[0].close()
    taken.append(ask(app, "/events"))
    assert taken[-1].status == 200
    assert ask(app, "/events").status == 503
    assert ask(app, "/events", method="HEAD").status == 200
    for each in taken:
        each.close()


def test_unknown_pages() -> None:
    """No files but ours."""
    for target in ("/x", "/../app.py", "/%2e%2e/app.py", "/index.html"):
        assert ask(DashboardApp(Board()), target).status == 404


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("box", False),
    ],
)
def test_loopback(host: str, only_here: bool) -> None:
    """Where no token is needed."""
    assert is_loopback(host) is only_here


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """No address in any file, but the name of the SVG language; nothing inline that the policy forbids."""
    for name in ("index.html", "style.css", "script.js", "icon.svg"):
        text = (PAGE / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text), name
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|\sstyle=|<style", html)
    script = (PAGE / "script.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b|document\.write", script)


@pytest.mark.slow
def test_a_stream_over_http_and_a_server_that_stops() -> None:
    """Events come as they happen; closing does not wait for them to end."""
    board = Board()
    server = Server(DashboardApp(board)).start()
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", "/events")
        answer = connection.getresponse()
        assert answer.headers["Connection"] == "close"
        assert "Content-Length" not in answer.headers
        head = b"".join(answer.readline() for _ in range(6))
        assert b"event: state" in head
        board.put("probe", {"url": "x"}, ["x answers"])
        assert b"x answers" in b"".join(answer.readline() for _ in range(4))
        server.close(0.1)
        assert answer.read() == b""
    finally:
        connection.close()
        server.close(0.1)


def test_a_stream_that_ends() -> None:
    """The connection closes behind it; HEAD sends no piece."""

    class Ends:
        def handle(self, request: Request, /) -> Response:
            return Response(200, {}, Stream(iter([b"a", b"", b"b"])))

    with Server(Ends()) as server:
        for method, expected in (("GET", b"ab"), ("HEAD", b"")):
            connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request(method, "/")
            assert connection.getresponse().read() == expected
            connection.close()
    assert Response(200, {}, Stream(iter([b"a", b"b"]))).content() == b"ab"
