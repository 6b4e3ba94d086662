# SPDX-License-Identifier: Apache-2.0
"""A configuration around a balancer's blocks, and what makes it count."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from manyfest.deploy import nginx
from manyfest.deploy.balance import Front, Upstream, render
from manyfest.deploy.nginx import Nginx, settle, whole
from manyfest.errors import DeployError

NODES = (Upstream("big", "x86_64", "10.0.0.1", 8082),)


def test_whole() -> None:
    """All that is written is below the folder, and old workers end."""
    text = whole("server {\n    listen 80;\n}\n", "/x")
    assert text.startswith(
        "daemon off;\npid /x/nginx.pid;\nerror_log stderr warn;\nworker_shutdown_timeout 60s;\n"
    )
    assert "\n    server {\n        listen 80;\n    }\n}\n" in text
    assert "keepalive_min_timeout" not in text
    assert "    keepalive_min_timeout 5s;\n" in whole("", "/x", patient=True)


def test_connections_are_closed_once_a_file_is_there() -> None:
    """By a second location with the same behaviour."""
    text = render(Front("web"), NODES, "/x/closing-1")
    assert "    if (-f /x/closing-1) {\n        return 418;\n    }\n" in text
    assert (
        "    location @closing {\n        keepalive_timeout 0;\n        proxy_pass http://manyfest_web;\n"
        in text
    )
    assert text.count("proxy_next_upstream error timeout http_502 http_503 http_504;") == 2
    assert "418" not in render(Front("web"), NODES)
    assert "418" not in render(Front("web"), [], "/x/closing-1")


def test_what_an_older_nginx_does_not_know_is_left_out() -> None:
    """And nothing else is."""
    tried: list[str] = []

    def old(text: str) -> str:
        tried.append(text)
        return '[emerg] unknown directive "keepalive_min_timeout" in x' if "keepalive_min" in text else ""

    text, closing = settle(lambda closing: f"# {closing}\n", "/x", old)
    assert [text] == tried[1:]
    assert f"# /x/{closing}\n" in text
    assert settle(lambda closing: "", "/x", lambda text: "")[0].count("keepalive_min_timeout") == 1
    assert settle(lambda closing: "", "/x", old)[1] != closing


def test_what_nginx_refuses() -> None:
    with pytest.raises(DeployError, match=r"nginx -t: \[emerg\] no"):
        settle(lambda closing: "", "/x", lambda text: "[emerg] no")


def test_an_nginx_that_ends_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Is not said to listen."""
    program = tmp_path / "nginx"
    program.write_text('#!/bin/sh\ncase "$*" in *-t*) exit 0;; esac\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(nginx, "_refuse_taken", lambda listen: None)
    with pytest.raises(DeployError, match="nginx ended with exit code 3"):
        Nginx(Front("web"), NODES).__enter__()
    assert [each.name for each in tmp_path.iterdir()] == ["nginx"]


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Is said before nginx is started, and its folder goes."""
    program = tmp_path / "nginx"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        where = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(DeployError, match=f"cannot listen at {where}: Address already in use") as caught:
            Nginx(Front("web", where), NODES).__enter__()
    assert "--listen" in caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["nginx"]
