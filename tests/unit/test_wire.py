# SPDX-License-Identifier: Apache-2.0
"""Reading challenges, error bodies, links, ranges and dates, well and badly written."""

from __future__ import annotations

import time
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyfest.content.digest import Digest
from manyfest.errors import RegistryError
from manyfest.stores.registry import wire
from manyfest.stores.registry.transport import Headers

BEARER = 'Bearer realm="https://auth.example/token",service="reg.example",scope="repository:a/b:pull,push"'


def _parsed(*values: str) -> list[tuple[str, dict[str, str]]]:
    return [(challenge.scheme, challenge.parameters) for challenge in wire.challenges(values)]


FULL = {"realm": "https://auth.example/token", "service": "reg.example", "scope": "repository:a/b:pull,push"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (BEARER, [("bearer", FULL)]),
        (BEARER.replace("=", " = ").replace(",service", " ,\t service"), [("bearer", FULL)]),
        ("BEARER Realm=\"x\", SERVICE='y'", [("bearer", {"realm": "x", "service": "'y'"})]),
        ("Basic realm=plain", [("basic", {"realm": "plain"})]),
        ("Basic", [("basic", {})]),
        ('Basic realm="a \\"b\\" c"', [("basic", {"realm": 'a "b" c'})]),
        (
            'Negotiate, Basic realm="r", Bearer realm="t",service="s"',
            [("negotiate", {}), ("basic", {"realm": "r"}), ("bearer", {"realm": "t", "service": "s"})],
        ),
        ('NTLM dGVzdA==, Basic realm="r"', [("ntlm", {}), ("basic", {"realm": "r"})]),
        (',, Basic realm="r",,', [("basic", {"realm": "r"})]),
        ('Bearer realm="cut', [("bearer", {"realm": "cut"})]),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        ("", []),
        ("= nonsense", []),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert _parsed(header) == expected


def test_challenges_in_several_headers() -> None:
    assert [scheme for scheme, _ in _parsed('Basic realm="a"', 'Bearer realm="b"')] == ["basic", "bearer"]


@pytest.mark.property
@given(st.text(alphabet='Bb ,="\\x;:/\t\r\n<>é', max_size=80))
def test_challenges_end_whatever_comes(text: str) -> None:
    """Never an endless loop, never an exception."""
    wire.challenges([text])
    wire.next_link(text)
    wire.warning_text(text)
    wire.retry_after(text, 0.0)


@pytest.mark.parametrize(
    ("body", "media_type", "codes", "words"),
    [
        (
            b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"1"}}]}',
            "application/json",
            ("MANIFEST_UNKNOWN",),
            "manifest unknown",
        ),
        (
            b'{"errors":[{"code":"DENIED","message":"no","detail":"quota"},{"code":"UNKNOWN"}]}',
            "",
            ("DENIED", "UNKNOWN"),
            "no: quota",
        ),
        (b'{"details":"incorrect username or password"}', "", (), "incorrect username or password"),
        (b'{"error":"invalid_grant","error_description":"bad"}', "", ("invalid_grant",), "bad"),
        (b'{"errors":null}', "", (), ""),
        (b'{"errors":["x", 1, null]}', "", (), ""),
        (b"[1]", "", (), ""),
        (b"", "", (), ""),
        (b"upstream connect error\r\n\x1b[31mred\x00", "text/plain", (), "upstream connect error ?[31mred?"),
        (b"\xff\xfe", "", (), "\ufffd\ufffd"),
        (b"[" * 5000, "", (), "[" * 299 + "…"),
    ],
)
def test_problem(body: bytes, media_type: str, codes: tuple[str, ...], words: str) -> None:
    assert wire.problem(body, media_type) == wire.Problem(codes, words)


@pytest.mark.parametrize(
    ("body", "media_type", "words"),
    [
        (b"<!DOCTYPE html><html><head><title> Sign\n in </title>", "", "Sign in"),
        (b"<HTML><body>502", "", ""),
        (b"proxy", "text/html; charset=utf-8", ""),
    ],
)
def test_problem_recognises_html(body: bytes, media_type: str, words: str) -> None:
    assert wire.problem(body, media_type) == wire.Problem((), words, is_html=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('</v2/a/tags/list?last=x&n=2>; rel="next"', "/v2/a/tags/list?last=x&n=2"),
        ("<https://h/v2>;rel=next", "https://h/v2"),
        ('<a>; rel="prev", <b>; title="t"; REL="last next"', "b"),
        ('<a>; rel="prev"', None),
        ("nonsense", None),
        (None, None),
    ],
)
def test_next_link(value: str | None, expected: str | None) -> None:
    assert wire.next_link(value) == expected


def test_follow_link_stays_on_the_host() -> None:
    """A page of a listing elsewhere is refused, and its query is not shown."""
    base = "https://reg.example:443/v2/a/tags/list?n=2"
    assert wire.follow_link(base, "/v2/a/tags/list?last=x") == "https://reg.example:443/v2/a/tags/list?last=x"
    assert wire.follow_link(base, "https://reg.example/v2/x") == "https://reg.example/v2/x"
    for elsewhere in ("https://evil.example/v2?sig=hidden", "http://reg.example/v2", "//evil.example/"):
        with pytest.raises(RegistryError, match="another host") as caught:
            wire.follow_link(base, elsewhere)
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "target",
    ["http://[bad/x?sig=hidden", "//reg.example:99999999/x", "http://h:x/", "//[::1", "/v2/é", "/v2/a b"],
)
def test_a_next_page_that_is_no_address(target: str) -> None:
    """What a registry writes there is its error, not ours."""
    with pytest.raises(RegistryError, match="which is no address") as caught:
        wire.follow_link("https://reg.example/v2/a/tags/list", target)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", True), ("5242880", True), ("", False), ("-1", False), ("²", False), ("9" * 13, False)],
)
def test_a_count_is_digits(text: str, expected: bool) -> None:
    """Header fields are Latin-1: "²" is a digit to Python, and no number."""
    assert wire.is_count(text) is expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v2/a/blobs/uploads/1?state=x", "https://reg.example/v2/a/blobs/uploads/1?state=x"),
        ("https://store.example/x", "https://store.example/x"),
        ("uploads/2", "https://reg.example/v2/a/blobs/uploads/2"),
        ("?state=y", "https://reg.example/v2/a/blobs/uploads?state=y"),
    ],
)
def test_resolve_location(target: str, expected: str) -> None:
    base = "https://reg.example/v2/a/blobs/" + ("uploads" if target.startswith("?") else "")
    assert wire.resolve_location(base, target) == expected


TARGETS = """
/v2/a/blobs/uploads/1?_state=a.b-c_d%3D /v2/a /v2/./a /v2/../a /v2/a/.. //other.example/x ///x /x? /x?q#f /x#
http://h.example http://h.example/ https://h.example:444/x?y=/z https://h.example/a/../b http://[::1]:5000/x https:/x
HTTPS://h.example/x http://me@h.example/x ../x x ?q # ftp://h.example/x mailto:x /x;y=1
"""


@pytest.mark.parametrize("target", TARGETS.split())
def test_an_address_is_joined_as_urllib_does(target: str) -> None:
    """The short way is taken only where there is nothing to work out."""
    for base in ("https://reg.example:5000/v2/a/blobs/uploads/", "http://127.0.0.1/v2/a?q=/b"):
        assert wire._joined(base, target) == urljoin(base, target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (None, "has no Location"),
        ("", "has no Location"),
        ("http://reg.example/x?sig=hidden", "from https to plain http"),
        ("ftp://reg.example/x?sig=hidden", "expected an http or https address"),
        ("https://reg.example:99999/x?sig=hidden", "expected an http or https address"),
        ("https://reg.example/a b?sig=hidden", "expected an http or https address"),
        ("https:///x?sig=hidden", "expected an http or https address"),
        ("https://[bad/x?sig=hidden", "expected an http or https address"),
        ("https://127.0.0.²/x?sig=hidden", "expected an http or https address"),
        ("/é?sig=hidden", "expected an http or https address"),
    ],
)
def test_resolve_location_refuses(target: str | None, message: str) -> None:
    with pytest.raises(RegistryError, match=message) as caught:
        wire.resolve_location("https://reg.example/v2/?q=hidden", target)
    assert "hidden" not in str(caught.value)


def test_plain_http_may_lead_to_https_and_stay_http() -> None:
    assert wire.resolve_location("http://localhost:5000/v2/", "/x") == "http://localhost:5000/x"
    assert wire.resolve_location("http://localhost:5000/v2/", "https://a.example/x") == "https://a.example/x"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0-99", 100),
        ("bytes=0-99", 100),
        ("bytes 0-4", 5),
        ("0-0", 0),
        ("5-9", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_range(value: str | None, expected: int | None) -> None:
    assert wire.parse_range(value) == expected


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", 3.0),
        ("0.25", 0.25),
        ("250ms", 0.25),
        ("2 s", 2.0),
        (time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(NOW + 30)), 30.0),
        (time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(NOW - 30)), 0.0),
        ("-3", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert wire.retry_after(value, NOW) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('299 - "old \\"tag\\""', 'old "tag"'),
        ('299 reg.example "x\x1b[0m"', "x?[0m"),
        ('199 - "x"', None),
        ("299 - x", None),
    ],
)
def test_warning_text(value: str, expected: str | None) -> None:
    assert wire.warning_text(value) == expected


def test_content_digest() -> None:
    digest = Digest.of(b"x")
    assert wire.content_digest(Headers([("docker-content-digest", f" {digest}")])) == digest
    assert wire.content_digest(Headers()) is None
    with pytest.raises(RegistryError, match="is not a digest"):
        wire.content_digest(Headers([("Docker-Content-Digest", "sha256:abc")]))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:secret@h.example/v2/x?token=secret#secret", "https://h.example/v2/x"),
        ("http://[::1]:5000/v2/", "http://[::1]:5000/v2/"),
        ("/v2/x?secret", "/v2/x"),
        ("https://h:bad/secret", "(not a URL)"),
    ],
)
def test_shown_url(url: str, expected: str) -> None:
    assert wire.shown_url(url) == expected


def test_origins_compare_by_scheme_host_and_port() -> None:
    assert wire.origin("https://H.example") == wire.origin("https://h.example:443/x")
    assert wire.origin("http://h.example") != wire.origin("https://h.example")
    assert wire.origin("https://h.example:444") != wire.origin("https://h.example")
    assert wire.origin("https://me:secret@h.example/x?y=/z") == wire.origin("https://h.example")
    assert wire.origin("http://[::1]:5000/v2/") == ("http", "::1", 5000)
