# SPDX-License-Identifier: Apache-2.0
"""The token protocol in front of the registry application."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from manyfest.serve.access import Need
from manyfest.serve.exchange import Request, Response
from manyfest.serve.registry import RegistryApp
from manyfest.serve.tokens import TokenGuard


class Clock:
    """A time that tests move."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> TokenGuard:
    return TokenGuard({"ann": "secret"}, anonymous=("pull",), lifetime_s=60, clock=clock)


@pytest.fixture
def app(tmp_path: Path, guard: TokenGuard) -> RegistryApp:
    return RegistryApp(str(tmp_path), guard=guard)


def send(
    app: RegistryApp, method: str, target: str, token: str = "", body: bytes = b"", user: str = ""
) -> Response:
    headers = {"Host": "reg.test:5000"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    return app.handle(Request(method, target, headers=headers, body=body))


def token_of(response: Response) -> Any:
    assert response.status == 200
    return json.loads(response.content())["token"]


def test_challenge_names_realm_service_and_scope(app: RegistryApp) -> None:
    answer = send(app, "GET", "/v2/team/app/tags/list")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="http://reg.test:5000/token",service="manyfest",scope="repository:team/app:pull"'
    )


def test_challenge_of_a_mount_names_both_repositories(app: RegistryApp) -> None:
    answer = send(app, "POST", f"/v2/b/blobs/uploads/?mount=sha256:{'0' * 64}&from=a")
    assert 'scope="repository:b:pull,push repository:a:pull"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("method", "target", "scope"),
    [
        ("GET", "/v2/a/manifests/1", "repository:a:pull"),
        ("HEAD", "/v2/a/manifests/1", "repository:a:pull"),
        ("PUT", "/v2/a/manifests/1", "repository:a:pull,push"),
        ("DELETE", "/v2/a/manifests/1", "repository:a:delete"),
        ("DELETE", "/v2/a/blobs/uploads/1", "repository:a:pull,push"),
        ("GET", "/v2/a/blobs/uploads/1", "repository:a:pull,push"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
    ],
)
def test_scopes(app: RegistryApp, method: str, target: str, scope: str) -> None:
    assert f'scope="{scope}"' in send(app, method, target).headers["WWW-Authenticate"]


def test_anonymous_may_pull_and_not_push(app: RegistryApp) -> None:
    token = token_of(send(app, "GET", "/token?service=manyfest&scope=repository:a:pull,push"))
    assert send(app, "GET", "/v2/a/tags/list", token).status == 404
    refused = send(app, "POST", "/v2/a/blobs/uploads/", token)
    assert refused.status == 401
    assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]


def test_user_may_push(app: RegistryApp) -> None:
    token = token_of(send(app, "GET", "/token?scope=repository:a:pull,push", user="ann:secret"))
    assert send(app, "POST", "/v2/a/blobs/uploads/", token).status == 202
    assert send(app, "POST", "/v2/b/blobs/uploads/", token).status == 401


@pytest.mark.parametrize("user", ["ann:wrong", "bob:secret", "ann:"])
def test_wrong_password(app: RegistryApp, user: str) -> None:
    answer = send(app, "GET", "/token?scope=repository:a:pull", user=user)
    assert answer.status == 401
    assert b"secret" not in answer.content()


def test_tokens_expire(app: RegistryApp, clock: Clock) -> None:
    token = token_of(send(app, "GET", "/token?scope=repository:a:pull"))
    clock.now += 59
    assert send(app, "GET", "/v2/a/tags/list", token).status == 404
    clock.now += 2
    answer = send(app, "GET", "/v2/a/tags/list", token)
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_several_scopes(app: RegistryApp) -> None:
    """Repeated, as the specification has it, and joined by spaces, as the form has it."""
    for query in (
        "scope=repository:a:pull&scope=repository:b:pull",
        "scope=repository:a:pull%20repository:b:pull",
    ):
        token = token_of(send(app, "GET", f"/token?{query}"))
        assert [send(app, "GET", f"/v2/{name}/tags/list", token).status for name in "abc"] == [404, 404, 401]


def test_password_form_and_refresh(app: RegistryApp, guard: TokenGuard) -> None:
    form = {
        "grant_type": "password",
        "service": "manyfest",
        "client_id": "test",
        "scope": "repository:a:pull,push",
        "access_type": "offline",
        "username": "ann",
        "password": "secret",
    }
    first = json.loads(send(app, "POST", "/token", body=urlencode(form).encode()).content())
    assert send(app, "POST", "/v2/a/blobs/uploads/", first["access_token"]).status == 202
    again = {**form, "grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = json.loads(send(app, "POST", "/token", body=urlencode(again).encode()).content())
    assert second["access_token"] != first["access_token"]
    assert send(app, "POST", "/v2/a/blobs/uploads/", second["access_token"]).status == 202
    # A refresh token is no access token, and the other way round.
    assert send(app, "GET", "/v2/", first["refresh_token"]).status == 401
    swapped = {**again, "refresh_token": first["access_token"]}
    assert send(app, "POST", "/token", body=urlencode(swapped).encode()).status == 401
    guard.revoke()
    assert send(app, "GET", "/v2/", first["access_token"]).status == 401
    assert send(app, "POST", "/token", body=urlencode(again).encode()).status == 401


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (b"grant_type=password&username=ann&password=wrong", 401),
        (b"grant_type=magic", 400),
        (b"grant_type=password&service=other&username=ann&password=secret", 400),
        (b"\xff", 400),
        (b"x" * 70_000, 413),
    ],
)
def test_bad_forms(app: RegistryApp, form: bytes, status: int) -> None:
    assert send(app, "POST", "/token", body=form).status == status


@pytest.mark.parametrize("token", ["x", "x.y", "é.é", "e30.", ".", "e30.AAAA"])
def test_forged_tokens(app: RegistryApp, token: str) -> None:
    assert send(app, "GET", "/v2/", token).status == 401


def test_base_needs_any_token(app: RegistryApp) -> None:
    assert send(app, "GET", "/v2/").status == 401
    assert send(app, "GET", "/v2/", token_of(send(app, "GET", "/token"))).status == 200


def test_other_methods_on_the_token_path(app: RegistryApp) -> None:
    assert send(app, "PUT", "/token").status == 405


def test_need_prints_as_a_scope() -> None:
    assert str(Need("repository", "a", frozenset({"push", "pull"}))) == "repository:a:pull,push"
