# SPDX-License-Identifier: Apache-2.0
"""Redirects, retries, statuses, warnings and mirrors, with a scripted transport."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path

import pytest

from manyfest.errors import (
    AuthRequired,
    Error,
    Forbidden,
    NotFound,
    RateLimited,
    RegistryError,
    TooLarge,
    Unreachable,
    Unsupported,
)
from manyfest.stores.registry.session import MAX_REDIRECTS, Session
from manyfest.stores.registry.settings import Settings
from manyfest.stores.registry.transport import Cut
from manyfest.testing.transport import ScriptedTransport, StoppedClock, reply

HOST = "reg.example"
V2 = "https://reg.example/v2/"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that read no file of this machine."""
    for name in ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return Settings(
        config=str(tmp_path / "config.toml"),
        docker_config=str(tmp_path),
        certs_d=(),
        registries_conf=(),
        deadline_s=60.0,
    )


def _session(settings: Settings, transport: ScriptedTransport) -> tuple[Session, StoppedClock]:
    clock = StoppedClock()
    return Session(settings, transport, clock=clock), clock


def test_one_request_when_nobody_asks(settings: Settings) -> None:
    """No ping, no token, headers and body as given."""
    transport = ScriptedTransport(reply(201, b"done", Location="x"))
    session, _ = _session(settings, transport)
    response = session.send(HOST, "PUT", "/v2/a/manifests/1", body=b"{}", headers={"A": "b"}, expect=(201,))
    assert session.read(response, 10) == b"done"
    (sent,) = transport.sent
    assert (sent.method, sent.url, sent.headers, sent.body) == (
        "PUT",
        V2 + "a/manifests/1",
        {"A": "b"},
        b"{}",
    )


def test_docker_hub_is_asked_where_it_answers(settings: Settings) -> None:
    transport = ScriptedTransport(reply())
    _session(settings, transport)[0].send("docker.io", "GET", "/v2/")
    assert transport.lines == ["GET https://registry-1.docker.io/v2/"]


def test_read_is_bounded(settings: Settings) -> None:
    session, _ = _session(settings, ScriptedTransport(reply(200, b"12345"), reply(200, b"123456")))
    assert session.read(session.send(HOST, "GET", "/v2/"), 5) == b"12345"
    with pytest.raises(TooLarge, match="more than 5 bytes"):
        session.read(session.send(HOST, "GET", "/v2/"), 5)


# Statuses.


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"errors": [{"code": "NAME_INVALID", "message": "bad"}]}, RegistryError, "NAME_INVALID: 'bad'"),
        (401, b"", AuthRequired, "authentication is required (HTTP 401)"),
        (
            403,
            {"errors": [{"code": "DENIED", "message": "no"}]},
            Forbidden,
            "not allowed (HTTP 403); it says DENIED",
        ),
        (404, {"errors": [{"code": "NAME_UNKNOWN"}]}, NotFound, "not found (HTTP 404); it says NAME_UNKNOWN"),
        (404, b"<!doctype html><title>Gone</title>", RegistryError, "an HTML page titled 'Gone'"),
        (405, b"", Unsupported, "does not support this"),
        (501, {"errors": [{"code": "UNSUPPORTED"}]}, Unsupported, "UNSUPPORTED"),
        (400, {"errors": [{"code": "UNSUPPORTED"}]}, Unsupported, "UNSUPPORTED"),
        (413, b"", RegistryError, "too large"),
        (500, b"boom\x1b[2J", RegistryError, "it says 'boom?[2J'"),
        (202, b"", RegistryError, "not the expected answer (HTTP 202)"),
    ],
)
def test_statuses(
    settings: Settings, status: int, body: bytes | object, kind: type[Error], words: str
) -> None:
    session, clock = _session(settings, ScriptedTransport(reply(status, body)))
    with pytest.raises(kind) as caught:
        session.send(HOST, "GET", "/v2/a/manifests/1?secret=1")
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert "GET https://reg.example/v2/a/manifests/1: " in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not clock.slept
    if isinstance(caught.value, RegistryError):
        assert caught.value.status == status


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "manyfest login reg.example"),
        (403, "it was asked with no credentials for reg.example in"),
        (500, "later"),
    ],
)
def test_hints(settings: Settings, status: int, hint: str) -> None:
    session, _ = _session(settings, ScriptedTransport(reply(status)))
    with pytest.raises(RegistryError) as caught:
        session.send(HOST, "GET", "/v2/")
    assert hint in caught.value.hint


def test_an_endless_error_body_is_cut_off(settings: Settings) -> None:
    transport = ScriptedTransport(reply(500, b"x" * 10_000_000))
    session, _ = _session(settings, transport)
    with pytest.raises(RegistryError) as caught:
        session.send(HOST, "GET", "/v2/")
    assert len(str(caught.value)) < 600


def test_an_error_body_that_is_cut_does_not_hide_the_status(settings: Settings) -> None:
    answer = reply(403)

    class Broken(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise Cut("cut", answered=True)

    answer._body = Broken()
    session, _ = _session(settings, ScriptedTransport(answer))
    with pytest.raises(Forbidden):
        session.send(HOST, "GET", "/v2/")


# Trying again.


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_temporary_failures_pass(settings: Settings, status: int) -> None:
    session, clock = _session(settings, ScriptedTransport(reply(status), reply(status), reply(200)))
    assert session.send(HOST, "GET", "/v2/").status == 200
    assert clock.slept == [0.25, 0.5]


NOW = 1_700_001_000


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("7", 7.0),
        ("1500ms", 1.5),
        ("0", 0.25),
        ("soon", 0.25),
        (time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(NOW + 9)), 9.0),
    ],
)
def test_retry_after_is_kept(settings: Settings, said: str, wait: float) -> None:
    session, clock = _session(settings, ScriptedTransport(reply(429, Retry_After=said), reply(200)))
    session.send(HOST, "POST", "/v2/")
    assert clock.slept == [wait]


def test_nobody_waits_beyond_the_deadline(settings: Settings) -> None:
    session, clock = _session(settings, ScriptedTransport(reply(429, b"slow down", Retry_After="3600")))
    with pytest.raises(RateLimited, match="slow down") as caught:
        session.send(HOST, "GET", "/v2/")
    assert not clock.slept
    assert "3600 s" in caught.value.hint


def test_it_ends(settings: Settings) -> None:
    transport = ScriptedTransport(lambda request: reply(503))
    session, clock = _session(settings, transport)
    with pytest.raises(RegistryError, match="HTTP 503"):
        session.send(HOST, "GET", "/v2/")
    assert len(transport.sent) == 6
    assert sum(clock.slept) < 60


@pytest.mark.parametrize("failure", [reply(503), Cut("cut"), Unreachable("refused")])
def test_what_may_have_happened_is_not_repeated(settings: Settings, failure: Error) -> None:
    transport = ScriptedTransport(failure)
    session, _ = _session(settings, transport)
    with pytest.raises((RegistryError, Unreachable)):
        session.send(HOST, "POST", "/v2/a/blobs/uploads/")
    assert len(transport.sent) == 1


def test_a_cut_read_is_repeated_and_its_body_opened_again(settings: Settings) -> None:
    opened: list[BytesIO] = []

    def content(offset: int) -> BytesIO:
        opened.append(BytesIO(b"abc"[offset:]))
        return opened[-1]

    transport = ScriptedTransport(Cut("cut"), reply(201))
    session, _ = _session(settings, transport)
    session.send(HOST, "PUT", "/v2/x", body=content, length=3, expect=(201,))
    assert [request.body for request in transport.sent] == [b"abc", b"abc"]
    assert [request.length for request in transport.sent] == [3, 3]
    assert all(stream.closed for stream in opened)


def test_idempotent_may_be_told(settings: Settings) -> None:
    session, _ = _session(settings, ScriptedTransport(Cut("cut"), reply(202)))
    assert session.send(HOST, "POST", "/v2/x", expect=(202,), idempotent=True).status == 202


def test_unreachable_is_not_repeated(settings: Settings) -> None:
    transport = ScriptedTransport(Unreachable("no such host"))
    with pytest.raises(Unreachable, match="no such host"):
        _session(settings, transport)[0].send(HOST, "GET", "/v2/")
    assert len(transport.sent) == 1


# Redirects.

GIVEN = {"Authorization": "Basic c2VjcmV0", "Cookie": "secret", "Range": "bytes=5-"}


def test_a_redirect_to_another_host_carries_no_secret(settings: Settings) -> None:
    transport = ScriptedTransport(reply(307, Location="https://cdn.example/blob?sig=1"), reply(200, b"x"))
    session, _ = _session(settings, transport)
    session.send(HOST, "GET", "/v2/a/blobs/x", headers=GIVEN)
    assert transport.sent[0].headers == GIVEN
    assert (transport.sent[1].url, transport.sent[1].headers) == (
        "https://cdn.example/blob?sig=1",
        {"Range": "bytes=5-"},
    )


def test_a_redirect_on_the_same_host_keeps_them(settings: Settings) -> None:
    transport = ScriptedTransport(reply(302, Location="/elsewhere"), reply(200))
    _session(settings, transport)[0].send(HOST, "HEAD", "/v2/x", headers=GIVEN)
    assert transport.sent[1].url == "https://reg.example/elsewhere"
    assert transport.sent[1].headers == GIVEN


@pytest.mark.parametrize("target", ["https://reg.example:8443/x", "https://sub.reg.example/x"])
def test_another_port_or_name_is_another_host(settings: Settings, target: str) -> None:
    transport = ScriptedTransport(reply(302, Location=target), reply(200))
    _session(settings, transport)[0].send(HOST, "GET", "/v2/x", headers=GIVEN)
    assert transport.sent[1].headers == {"Range": "bytes=5-"}


def test_secrets_do_not_come_back_after_a_detour(settings: Settings) -> None:
    transport = ScriptedTransport(
        reply(302, Location="https://other.example/"),
        reply(302, Location="https://reg.example/back"),
        reply(200),
    )
    _session(settings, transport)[0].send(HOST, "GET", "/v2/x", headers=GIVEN)
    assert "Authorization" not in transport.sent[2].headers


def test_redirects_are_bounded(settings: Settings) -> None:
    transport = ScriptedTransport(lambda request: reply(302, Location="/again?secret=1"))
    with pytest.raises(RegistryError, match=f"more than {MAX_REDIRECTS} times") as caught:
        _session(settings, transport)[0].send(HOST, "GET", "/v2/x")
    assert len(transport.sent) == MAX_REDIRECTS + 1
    assert "secret" not in str(caught.value)


def test_no_redirect_from_https_to_http(settings: Settings) -> None:
    transport = ScriptedTransport(reply(302, Location="http://reg.example/x?secret=1"))
    with pytest.raises(RegistryError, match="from https to plain http") as caught:
        _session(settings, transport)[0].send(HOST, "GET", "/v2/x")
    assert len(transport.sent) == 1
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_writes_follow_no_redirect(settings: Settings, method: str) -> None:
    transport = ScriptedTransport(reply(307, Location="https://other.example/"))
    with pytest.raises(RegistryError, match="followed for reading only"):
        _session(settings, transport)[0].send(HOST, method, "/v2/x", body=b"x")
    assert len(transport.sent) == 1


def test_a_redirect_without_location(settings: Settings) -> None:
    with pytest.raises(RegistryError, match="no Location header"):
        _session(settings, ScriptedTransport(reply(302)))[0].send(HOST, "GET", "/v2/x")


# Locations and pages.


def test_location_and_next_page(settings: Settings) -> None:
    answers = (
        reply(202, Location="/v2/a/uploads/1?state=x"),
        reply(Link='</v2/tags?last=b>; rel="next"'),
        reply(),
    )
    session, _ = _session(settings, ScriptedTransport(*answers))
    assert (
        session.location(HOST, session.send(HOST, "POST", "/v2/a", expect=(202,)))
        == V2 + "a/uploads/1?state=x"
    )
    assert session.next_page(HOST, session.send(HOST, "GET", "/v2/tags")) == V2 + "tags?last=b"
    assert session.next_page(HOST, session.send(HOST, "GET", "/v2/tags")) is None


# Warnings.


def test_warnings_are_shown_once(settings: Settings) -> None:
    shown: list[str] = []
    warning = ['299 - "old tag"', '199 - "no"', '299 - "more"']
    transport = ScriptedTransport(reply(Warning=warning), reply(404, Warning=warning))
    session, _ = _session(settings.replace(on_warning=shown.append), transport)
    session.send(HOST, "GET", "/v2/")
    with pytest.raises(NotFound):
        session.send(HOST, "GET", "/v2/")
    assert shown == ["reg.example: old tag", "reg.example: more"]


def test_close_closes_the_transport(settings: Settings) -> None:
    transport = ScriptedTransport()
    with _session(settings, transport)[0]:
        pass
    assert transport.closed == 1


# Mirrors.


def _mirrored(settings: Settings, text: str, *answers: object) -> tuple[Session, ScriptedTransport]:
    Path(settings.config).write_text(text)
    transport = ScriptedTransport(*answers)  # type: ignore[arg-type]
    return _session(settings, transport)[0], transport


TWO = '[registry."reg.example"]\nmirrors = ["m1.example", "m2.example/cache"]\n'


def test_a_mirror_answers_first(settings: Settings) -> None:
    session, transport = _mirrored(settings, TWO, reply(200))
    session.send(HOST, "GET", "/v2/a/b/manifests/1", reading=True)
    assert transport.lines == ["GET https://m1.example/v2/a/b/manifests/1"]


@pytest.mark.parametrize(
    "failure", [reply(404), reply(503), reply(401), reply(429), Cut("x"), Unreachable("x")]
)
def test_a_mirror_that_fails_is_passed_over(settings: Settings, failure: Error) -> None:
    """Once, without waiting; a 404 that the caller expects is the registry's to say."""
    session, transport = _mirrored(settings, TWO, failure, reply(404), reply(404))
    assert session.send(HOST, "GET", "/v2/a/blobs/x", reading=True, expect=(200, 404)).status == 404
    assert transport.lines == [
        "GET https://m1.example/v2/a/blobs/x",
        "GET https://m2.example/v2/cache/a/blobs/x",
        "GET https://reg.example/v2/a/blobs/x",
    ]


def test_an_unreachable_mirror_is_asked_once_and_told(settings: Settings) -> None:
    shown: list[str] = []
    answers = [Unreachable("no route"), reply(404), reply(), reply(404), reply()]
    session, transport = _mirrored(settings.replace(on_warning=shown.append), TWO, *answers)
    for _ in range(2):
        session.send(HOST, "GET", "/v2/a/blobs/x", reading=True)
    assert len(transport.sent) == 5
    assert shown == ["mirror m1.example of reg.example: no route; asking the next place"]


@pytest.mark.parametrize(
    ("method", "path", "reading"),
    [
        ("GET", "/v2/a/manifests/1", False),
        ("PUT", "/v2/a/manifests/1", False),
        ("GET", "/v2/a/tags/list?n=1", True),
        ("GET", "/v2/a/referrers/sha256:x", True),
        ("GET", "/v2/", True),
    ],
)
def test_what_mirrors_are_not_asked(settings: Settings, method: str, path: str, reading: bool) -> None:
    session, transport = _mirrored(settings, TWO, reply())
    session.send(HOST, method, path, reading=reading)
    assert transport.lines == [f"{method} https://reg.example{path}"]


def test_registries_conf_may_move_a_registry(settings: Settings, tmp_path: Path) -> None:
    """Writes go to the new place too, and the addresses it gives are its own."""
    conf = tmp_path / "registries.conf"
    conf.write_text('[[registry]]\nprefix = "reg.example/a"\nlocation = "moved.example/z"\n')
    transport = ScriptedTransport(reply(202, Location="/v2/z/b/uploads/1"), reply(201))
    session, _ = _session(settings.replace(registries_conf=(str(conf),)), transport)
    started = session.send(HOST, "POST", "/v2/a/b/blobs/uploads/", expect=(202,))
    session.send(HOST, "PUT", session.location(HOST, started), expect=(201,))
    assert transport.lines == [
        "POST https://moved.example/v2/z/b/blobs/uploads/",
        "PUT https://moved.example/v2/z/b/uploads/1",
    ]
