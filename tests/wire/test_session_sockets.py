# SPDX-License-Identifier: Apache-2.0
"""The session over real sockets: what a scripted transport cannot show."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manyfest.errors import AuthRequired, RegistryError
from manyfest.stores.registry.login import login
from manyfest.stores.registry.scopes import Scope
from manyfest.stores.registry.session import Session
from manyfest.stores.registry.settings import Settings
from manyfest.testing.script import Answer, Certificate, ScriptedRegistry
from manyfest.testing.transport import StoppedClock

PULL = (Scope.repository("acme/app", "pull"),)
PATH = "/v2/acme/app/manifests/1"
BASIC = "Basic " + base64.b64encode(b"me:word").decode()


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the test's own files are read."""
    for name in ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def other() -> Iterator[ScriptedRegistry]:
    """A second host."""
    with ScriptedRegistry() as scripted:
        yield scripted


def _token(registry: ScriptedRegistry, realm: str) -> None:
    """``registry`` wants a token from ``realm``."""
    challenge = f'Bearer realm="{realm}/token",service="s",scope="repository:acme/app:pull"'
    registry.on("GET", PATH, Answer(200, b"{}"), headers={"Authorization": "Bearer good"})
    registry.on("GET", PATH, Answer(401, b"{}", {"WWW-Authenticate": challenge}))


def test_challenge_token_answer(
    isolated: Callable[..., Settings], registry: ScriptedRegistry, other: ScriptedRegistry
) -> None:
    _token(registry, other.url)
    query = {"service": "s", "scope": "repository:acme/app:pull"}
    other.on("GET", "/token", Answer(200, b'{"token": "good"}'), query=query, headers={"Authorization": None})
    with Session(isolated()) as session:
        for _ in range(3):
            response = session.send(registry.host, "GET", PATH, scopes=PULL)
            assert session.read(response, 10) == b"{}"
    assert (registry.count(), other.count(), registry.connections) == (4, 1, 1)


def test_login_then_read(
    isolated: Callable[..., Settings], registry: ScriptedRegistry, other: ScriptedRegistry
) -> None:
    """What log-in keeps, the next session uses; a wrong password is told and not kept."""
    _token(registry, other.url)
    challenge = {"WWW-Authenticate": f'Bearer realm="{other.url}/token",service="s"'}
    registry.on("GET", "/v2/", Answer(200), headers={"Authorization": "Bearer good"})
    registry.on("GET", "/v2/", Answer(401, b"", challenge))
    other.on("GET", "/token", Answer(200, b'{"access_token": "good"}'), headers={"Authorization": BASIC})
    other.on("GET", "/token", Answer(401))
    settings = isolated()
    with pytest.raises(AuthRequired):
        login(settings, registry.host, "me", "wrong")
    where = login(settings, registry.host, "me", "word")
    assert list(json.loads(Path(where).read_text())["auths"]) == [registry.host]
    with Session(settings) as session:
        assert session.read(session.send(registry.host, "GET", PATH, scopes=PULL), 10) == b"{}"


def test_a_redirect_carries_no_authorization(
    isolated: Callable[..., Settings], registry: ScriptedRegistry, other: ScriptedRegistry
) -> None:
    registry.on(
        "GET", PATH, Answer(307, b"", {"Location": f"{other.url}/x?sig=1"}), headers={"Authorization": BASIC}
    )
    registry.on("GET", PATH, Answer(401, b"", {"WWW-Authenticate": 'Basic realm="r"'}))
    other.on("GET", "/x", Answer(200, b"blob"), headers={"Authorization": None}, query={"sig": "1"})
    with Session(isolated(username="me", password="word")) as session:
        assert session.read(session.send(registry.host, "GET", PATH, scopes=PULL), 10) == b"blob"
    registry.check()
    other.check()


@pytest.mark.parametrize(
    "fault",
    [Answer(cut_before=True), Answer(cut_before=True, reset=True), Answer(503), Answer(429)],
    ids=["cut", "reset", "503", "429"],
)
def test_a_passing_fault_is_got_over(
    isolated: Callable[..., Settings], registry: ScriptedRegistry, fault: Answer
) -> None:
    settings = isolated()
    # A cut first answer would make the transport try TLS, which a scripted registry leaves unanswered.
    Path(settings.config).write_text(f'[registry."{registry.host}"]\nplain_http = true\n')
    registry.on("GET", PATH, fault, times=2)
    registry.on("GET", PATH, Answer(200, b"{}"))
    with Session(settings, clock=StoppedClock()) as session:
        assert session.read(session.send(registry.host, "GET", PATH), 10) == b"{}"


def test_an_endless_error_body_is_dropped(
    isolated: Callable[..., Settings], registry: ScriptedRegistry
) -> None:
    registry.on("GET", PATH, Answer(500, b"x" * 65536, endless=True, length=-1))
    with Session(isolated()) as session, pytest.raises(RegistryError, match="HTTP 500"):
        session.send(registry.host, "GET", PATH)


def test_tls_registry_refuses_a_plain_realm(
    isolated: Callable[..., Settings],
    certificate: Certificate,
    authority: Certificate,
    other: ScriptedRegistry,
) -> None:
    """The password is asked for over plain http: nothing goes there."""
    with ScriptedRegistry(tls=certificate) as registry:
        _token(registry, other.url)
        folder = Path(isolated().certs_d[0], registry.host)
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(Path(authority.cert).read_bytes())
        with (
            Session(isolated(username="me", password="word")) as session,
            pytest.raises(RegistryError, match="plain http; no credentials were sent"),
        ):
            session.send(registry.host, "GET", PATH, scopes=PULL)
    assert other.count() == 0
