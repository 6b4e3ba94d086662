# SPDX-License-Identifier: Apache-2.0
"""Proxies by the environment: the rules of Go's net/http, case by case."""

from __future__ import annotations

import pytest

from manyfest.stores.registry.proxies import Proxies, is_loopback, split_authority


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("", "ghcr.io", 443, False),
        ("*", "ghcr.io", 443, True),
        ("ghcr.io", "ghcr.io", 443, True),
        ("GHCR.IO", "ghcr.io", 443, True),
        ("ghcr.io", "GHCR.io", 443, True),
        ("ghcr.io", "pkg.ghcr.io", 443, True),
        ("ghcr.io", "notghcr.io", 443, False),
        (".ghcr.io", "ghcr.io", 443, False),
        (".ghcr.io", "pkg.ghcr.io", 443, True),
        ("*.ghcr.io", "pkg.ghcr.io", 443, True),
        ("*.ghcr.io", "ghcr.io", 443, False),
        ("ghcr.io:443", "ghcr.io", 443, True),
        ("ghcr.io:443", "ghcr.io", 5000, False),
        ("a.example, ghcr.io ,b.example", "ghcr.io", 443, True),
        ("10.0.0.1", "10.0.0.1", 5000, True),
        ("10.0.0.1:5000", "10.0.0.1", 5000, True),
        ("10.0.0.1:5000", "10.0.0.1", 5001, False),
        ("10.0.0.1", "10.0.0.10", 5000, False),
        ("0.0.1", "10.0.0.1", 5000, False),
        ("10.0.0.0/8", "10.1.2.3", 5000, True),
        ("10.0.0.0/8", "11.1.2.3", 5000, False),
        ("10.0.0.0/8", "ten.example", 5000, False),
        ("10.0.0.0/99", "10.1.2.3", 5000, False),
        ("fd00::/8", "fd00::1", 5000, True),
        ("fd00::1", "fd00::1", 5000, True),
        ("[fd00::1]:5000", "fd00::1", 5000, True),
        ("[fd00::1]:5001", "fd00::1", 5000, False),
        ("nonsense:port,,", "ghcr.io", 443, False),
        ("", "localhost", 5000, True),
        ("", "a.localhost", 5000, True),
        ("", "127.1.2.3", 5000, True),
        ("", "::1", 5000, True),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, direct: bool) -> None:
    """Domains, suffixes, addresses, ranges, ports; loopback never goes through a proxy."""
    proxies = Proxies({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy})
    assert (proxies.find("https", host, port) is None) is direct


@pytest.mark.parametrize(
    ("environment", "scheme", "expected"),
    [
        ({}, "https", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https", "Proxy(p:1)"),
        ({"HTTPS_PROXY": "http://p:1"}, "http", None),
        ({"https_proxy": "http://p:1"}, "https", "Proxy(p:1)"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}, "https", "Proxy(upper:1)"),
        ({"HTTPS_PROXY": "", "https_proxy": "http://lower:1"}, "https", "Proxy(lower:1)"),
        ({"http_proxy": "p"}, "http", "Proxy(p:80)"),
        ({"HTTP_PROXY": "http://[fd00::1]:3128/"}, "http", "Proxy([fd00::1]:3128)"),
        ({"HTTP_PROXY": "http://me:secret@p:1"}, "http", "Proxy(p:1)"),
    ],
)
def test_which_proxy(environment: dict[str, str], scheme: str, expected: str | None) -> None:
    """By scheme and spelling; a repr without credentials."""
    proxy = Proxies(environment).find(scheme, "ghcr.io", 443)
    assert (repr(proxy) if proxy else None) == expected


def test_credentials_are_decoded_once() -> None:
    """Percent signs in a password are written %25."""
    proxy = Proxies({"HTTP_PROXY": "http://a%40b:p%25:w@proxy:1"}).find("http", "x", 80)
    assert proxy is not None
    from base64 import b64decode

    assert b64decode(proxy.authorization.removeprefix("Basic ")) == b"a@b:p%:w"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("x.localhost", True),
        ("127.0.0.1", True),
        ("127.255.1.1", True),
        ("127.0.0.256", False),
        ("127.0.0.²", False),
        ("127.0.0." + "1" * 5000, False),
        ("127.0.0", False),
        ("128.0.0.1", False),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::2", False),
        ("localhost.example", False),
        ("mylocalhost", False),
    ],
)
def test_what_loopback_is(host: str, expected: bool) -> None:
    """By spelling, without a look-up."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a", 7)),
        ("a:1", ("a", 1)),
        ("[::1]", ("::1", 7)),
        ("[::1]:65535", ("::1", 65535)),
        ("::1", ("::1", 7)),
        ("a:", ("a", 7)),
    ],
)
def test_authorities(text: str, expected: tuple[str, int]) -> None:
    """Host and port."""
    assert split_authority(text, 7) == expected
