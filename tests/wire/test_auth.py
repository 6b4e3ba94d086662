# SPDX-License-Identifier: Apache-2.0
"""Challenges, tokens and whose credentials go where, with a scripted registry and token server."""

from __future__ import annotations

import base64
import json
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from manyfest.errors import AuthRequired, Error, InputError, RegistryError
from manyfest.stores.registry import auth
from manyfest.stores.registry.auth import Authenticator
from manyfest.stores.registry.login import login, logout
from manyfest.stores.registry.scopes import Party, Scope, join
from manyfest.stores.registry.session import Session
from manyfest.stores.registry.settings import Settings
from manyfest.stores.registry.transport import Cut, Request, Response
from manyfest.testing.transport import ScriptedTransport, StoppedClock, reply

SECRET = "s3cr3t-word"
HOST = "reg.example"
REALM = "https://auth.example/token"
PULL = (Scope.repository("acme/app", "pull"),)
PUSH = (Scope.repository("acme/app", "pull", "push"),)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that read no file of this machine."""
    for name in ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return Settings(
        config=str(tmp_path / "manyfest.toml"), docker_config=str(tmp_path), certs_d=(), registries_conf=()
    )


def _logged_in(settings: Settings, host: str = HOST, **entry: str) -> None:
    auth = base64.b64encode(f"me:{SECRET}".encode()).decode()
    path = Path(settings.docker_config, "config.json")
    fields = json.loads(path.read_text()) if path.exists() else {"auths": {}}
    fields["auths"][host] = entry or {"auth": auth}
    path.write_text(json.dumps(fields))


class World:
    """A registry that takes bearer tokens for the scopes they were made for, and the server that makes them."""

    def __init__(
        self, *, user: str | None = None, realm: str = REALM, host: str = HOST, **token: object
    ) -> None:
        self.user = user
        self.realm = realm
        self.host = host
        self.token = token
        self.made: dict[str, set[str]] = {}
        self.transport = ScriptedTransport(self)
        self.clock = StoppedClock()

    def __call__(self, request: Request) -> Response:
        if request.url.startswith(self.realm):
            return self.make(request)
        if urlsplit(request.url).netloc != self.host:
            return reply(200)
        return self.serve(request)

    def make(self, request: Request) -> Response:
        """The token server."""
        form = parse_qs((request.body or b"").decode() if isinstance(request.body, bytes) else "")
        query = form or parse_qs(urlsplit(request.url).query)
        given = request.headers.get("Authorization", "")
        if self.user is not None and given != "Basic " + base64.b64encode(self.user.encode()).decode():
            return reply(401, {"details": "incorrect username or password"})
        text = f"token-{len(self.made)}-{SECRET}"
        self.made[text] = set(query.get("scope", []))
        return reply(200, {"token": text, "expires_in": 300, **self.token})

    def serve(self, request: Request) -> Response:
        """The registry."""
        if request.headers.get("Authorization", "").removeprefix("Bearer ") in self.made:
            return reply(200)
        action = "pull" if request.method in ("GET", "HEAD") else "pull,push"
        challenge = f'Bearer realm="{self.realm}",service="svc",scope="repository:acme/app:{action}"'
        return reply(401, {"errors": [{"code": "UNAUTHORIZED"}]}, WWW_Authenticate=challenge)

    def session(self, settings: Settings) -> Session:
        return Session(settings, self.transport, clock=self.clock)


# Scopes.


def test_scopes_print_sorted() -> None:
    assert str(Scope.parse("repository:acme/app:push,pull")) == "repository:acme/app:pull,push"
    assert str(Scope.parse("repository:host:5000/app:pull")) == "repository:host:5000/app:pull"
    assert Scope.parse("registry:catalog:*") == Scope("registry", "catalog", ["*"])


@pytest.mark.parametrize(
    "text", ["", "repository", "repository:app", "repository:app:", ":a:b", "repository::pull"]
)
def test_bad_scopes(text: str) -> None:
    with pytest.raises(InputError, match="expected TYPE:NAME:ACTION"):
        Scope.parse(text)


def test_join_puts_actions_together() -> None:
    parts = [Scope.parse(t) for t in ("repository:b:pull", "repository:a:push", "repository:b:push,pull")]
    assert [str(scope) for scope in join(parts)] == ["repository:a:push", "repository:b:pull,push"]


@pytest.mark.parametrize(
    ("mine", "other", "covered"),
    [
        ("repository:a:pull,push", "repository:a:pull", True),
        ("repository:a:*", "repository:a:delete", True),
        ("repository:a:pull", "repository:a:pull,push", False),
        ("repository:a:pull", "repository:b:pull", False),
        ("registry:a:pull", "repository:a:pull", False),
    ],
)
def test_covers(mine: str, other: str, covered: bool) -> None:
    assert Scope.parse(mine).covers(Scope.parse(other)) is covered


# Bearer tokens.


def test_the_first_request_meets_the_challenge(settings: Settings) -> None:
    """No ping; later requests carry the token from the start."""
    world = World()
    session = world.session(settings)
    for _ in range(2):
        session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert world.transport.lines == [
        "GET https://reg.example/v2/acme/app/manifests/1",
        f"GET {REALM}?service=svc&scope=repository%3Aacme%2Fapp%3Apull",
        "GET https://reg.example/v2/acme/app/manifests/1 Bearer",
        "GET https://reg.example/v2/acme/app/manifests/1 Bearer",
    ]


def test_a_token_for_more_serves_for_less(settings: Settings) -> None:
    world = World()
    session = world.session(settings)
    session.send(HOST, "PUT", "/v2/acme/app/manifests/1", scopes=PUSH)
    session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert len(world.made) == 1
    session.send(HOST, "GET", "/v2/other/manifests/1", scopes=(Scope.repository("other", "pull"),))
    assert len(world.made) == 2


def test_a_mount_asks_for_one_token_for_both_repositories(settings: Settings) -> None:
    world = World()
    scopes = (*PUSH, Scope.repository("base/os", "pull"))
    world.session(settings).send(HOST, "POST", "/v2/acme/app/blobs/uploads/", scopes=scopes)
    (asked,) = world.made.values()
    assert asked == {"repository:acme/app:pull,push", "repository:base/os:pull"}


def test_scopes_that_nobody_gave_are_the_challenges(settings: Settings) -> None:
    world = World()
    world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1")
    assert list(world.made.values()) == [{"repository:acme/app:pull"}]


@pytest.mark.parametrize(
    ("token", "after", "fetches"),
    [
        ({"expires_in": 300}, 280, 1),
        ({"expires_in": 300}, 291, 2),
        ({"expires_in": None}, 50, 1),
        ({"expires_in": None}, 56, 2),
        ({"expires_in": "soon"}, 56, 2),
        ({"expires_in": 10**400}, 80_000, 1),
        ({"expires_in": float("inf")}, 80_000, 1),
        ({"expires_in": float("nan")}, 56, 2),
        ({"expires_in": -5}, 50, 1),
        ({"issued_at": "2023-11-14T22:27:40Z"}, 149, 1),  # issued 140 s ago: 160 s are left, less a margin
        ({"issued_at": "2023-11-14T22:27:40Z"}, 151, 2),
        ({"issued_at": "2001-01-01T00:00:00.123456789Z"}, 40, 1),  # a clock gone wrong: the least life
        ({"issued_at": "2001-01-01T00:00:00Z"}, 60, 2),
        ({"issued_at": "2099-01-01T00:00:00Z"}, 280, 1),
        ({"issued_at": "yesterday"}, 280, 1),
        ({"token": None, "access_token": f"x-{SECRET}"}, 280, 1),
    ],
)
def test_tokens_expire(settings: Settings, token: dict[str, Any], after: float, fetches: int) -> None:
    world = World(**token)
    world.made[f"x-{SECRET}"] = set()
    session = world.session(settings)
    session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    world.clock.now += after
    session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert sum(line.startswith(f"GET {REALM}") for line in world.transport.lines) == fetches


def test_a_token_the_registry_no_longer_takes_is_replaced(settings: Settings) -> None:
    world = World()
    session = world.session(settings)
    session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    first = next(iter(world.made))
    world.made = {"other": set()}
    session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert world.transport.sent[-1].headers["Authorization"] not in (f"Bearer {first}", "")
    assert len(world.transport.sent) == 6


def test_when_one_token_is_revoked_so_are_the_others(settings: Settings) -> None:
    """A registry with a new signing key takes none of the old ones; the next old one is not tried."""
    world = World()
    session = world.session(settings)
    session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    session.send(HOST, "PUT", "/v2/acme/app/manifests/1", scopes=PUSH)
    assert len(world.made) == 2
    world.made = {"other": set(), "another": set()}
    world.transport.sent.clear()
    session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert len(world.transport.sent) == 3


def test_one_fetch_for_many_threads(settings: Settings) -> None:
    world = World()
    session = world.session(settings)
    start, hold = threading.Barrier(8), threading.Event()
    make = world.make

    def slow(request: Request) -> Response:
        assert hold.wait(10)
        return make(request)

    world.make = slow  # type: ignore[method-assign]
    failures: list[BaseException] = []

    def work() -> None:
        start.wait()
        try:
            session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
        except Error as error:
            failures.append(error)

    world.transport = ScriptedTransport(world)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    hold.set()
    for thread in threads:
        thread.join(10)
    assert not failures
    assert len(world.made) == 1


def test_a_failed_fetch_fails_for_all_who_wait(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password is tried once, not once per thread: accounts get locked."""
    waiting = threading.Event()

    class Landed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waiting.set()
            return super().wait(10)

    class Flight(auth._Flight):
        def __init__(self) -> None:
            super().__init__()
            self.landed = Landed()

    monkeypatch.setattr(auth, "_Flight", Flight)
    _logged_in(settings)
    world = World(user="me:other")
    entered = threading.Event()
    make = world.make

    def slow(request: Request) -> Response:
        entered.set()
        assert waiting.wait(10)
        return make(request)

    world.make = slow  # type: ignore[method-assign]
    session = world.session(settings)
    failures: list[Error] = []

    def work() -> None:
        try:
            session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
        except AuthRequired as error:
            failures.append(error)

    first, second = threading.Thread(target=work), threading.Thread(target=work)
    first.start()
    assert entered.wait(10)
    second.start()
    first.join(10)
    second.join(10)
    assert len(failures) == 2
    assert sum(line.startswith(f"GET {REALM}") for line in world.transport.lines) == 1


# Credentials.


def test_a_password_goes_to_the_token_server_only(settings: Settings) -> None:
    _logged_in(settings)
    world = World(user=f"me:{SECRET}")
    world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    schemes = [line.split()[2:] for line in world.transport.lines]
    assert schemes == [[], ["Basic"], ["Bearer"]]
    query = dict(parse_qsl(urlsplit(world.transport.sent[1].url).query))
    assert query["account"] == "me"
    assert SECRET not in world.transport.sent[1].url


def test_basic(settings: Settings) -> None:
    _logged_in(settings)
    expected = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()

    def registry(request: Request) -> Response:
        right = request.headers.get("Authorization") == expected
        return reply(200) if right else reply(401, WWW_Authenticate='Basic realm="Registry Realm"')

    transport = ScriptedTransport(registry)
    session = Session(settings, transport)
    for _ in range(2):
        session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert [line.split()[2:] for line in transport.lines] == [[], ["Basic"], ["Basic"]]


def test_identity_tokens_use_oauth2(settings: Settings) -> None:
    _logged_in(settings, identitytoken=SECRET)
    world = World()
    world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PUSH)
    sent = world.transport.sent[1]
    assert (sent.method, sent.url) == ("POST", REALM)
    assert isinstance(sent.body, bytes)
    assert dict(parse_qsl(sent.body.decode())) == {
        "client_id": "manyfest",
        "service": "svc",
        "scope": "repository:acme/app:pull,push",
        "grant_type": "refresh_token",
        "refresh_token": SECRET,
    }


def test_a_token_server_that_knows_only_oauth2(settings: Settings) -> None:
    _logged_in(settings)
    world = World()
    make = world.make
    world.make = lambda request: make(request) if request.method == "POST" else reply(405)  # type: ignore[method-assign]
    world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    body = world.transport.sent[2].body
    assert isinstance(body, bytes)
    form = dict(parse_qsl(body.decode()))
    assert (form["grant_type"], form["username"], form["password"]) == ("password", "me", SECRET)


def test_registry_tokens_are_used_as_they_are(settings: Settings) -> None:
    _logged_in(settings, registrytoken="given")
    world = World()
    world.made["given"] = set()
    world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert world.transport.sent[1].headers["Authorization"] == "Bearer given"


def test_bearer_is_preferred_to_basic(settings: Settings) -> None:
    world = World()
    serve = world.serve

    def both(request: Request) -> Response:
        answer = serve(request)
        if answer.status != 401:
            return answer
        bearer = answer.headers["WWW-Authenticate"]
        return reply(401, WWW_Authenticate=['Basic realm="x"', bearer])

    world.serve = both  # type: ignore[method-assign]
    world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert len(world.made) == 1


def test_a_relative_realm_is_the_registrys_own(settings: Settings) -> None:
    world = World(realm="/token")
    world.realm = "https://reg.example/token"
    serve = world.serve

    def relative(request: Request) -> Response:
        answer = serve(request)
        return answer if answer.status == 200 else reply(401, WWW_Authenticate='Bearer realm="/token"')

    world.serve = relative  # type: ignore[method-assign]
    world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert len(world.made) == 1


# Whose credentials go where.


@pytest.mark.parametrize(
    "realm", ["http://auth.example/token", "http://reg.example/token", "http://localhost/t"]
)
def test_an_http_realm_of_an_https_registry_is_refused(settings: Settings, realm: str) -> None:
    _logged_in(settings)
    world = World(realm=realm)
    with pytest.raises(RegistryError, match="is plain http; no credentials were sent there"):
        world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert len(world.transport.sent) == 1


def test_a_plain_http_registry_may_have_a_plain_http_realm(settings: Settings) -> None:
    Path(settings.config).write_text('[registry."reg.example"]\nplain_http = true\n')
    world = World(realm="http://auth.example/token")
    world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert world.transport.lines[-1] == "GET http://reg.example/v2/acme/app/manifests/1 Bearer"


@pytest.mark.parametrize("realm", ["", "ftp://x/y", "https://", "https://h:x/", "https://h/é", "https:///x"])
def test_realms_that_are_no_address(settings: Settings, realm: str) -> None:
    challenge = f'Bearer realm="{realm}",service="x"'
    transport = ScriptedTransport(reply(401, WWW_Authenticate=challenge), reply(404))
    with pytest.raises(Error):
        Session(settings, transport).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)


def test_a_redirect_elsewhere_gets_no_token_and_no_password(settings: Settings) -> None:
    """Even when the other host asks: it gets what anybody gets."""
    _logged_in(settings)
    _logged_in(settings, "cdn.example")
    world = World(user=f"me:{SECRET}")
    serve = world.serve

    def redirecting(request: Request) -> Response:
        answer = serve(request)
        return reply(307, Location="https://cdn.example/blob") if answer.status == 200 else answer

    def cdn(request: Request) -> Response:
        if urlsplit(request.url).netloc == "cdn.example":
            return reply(401, WWW_Authenticate='Basic realm="give"')
        return world(request)

    world.serve = redirecting  # type: ignore[method-assign]
    world.transport = ScriptedTransport(cdn)
    with pytest.raises(AuthRequired, match=r"no credentials for .*, where a redirect led"):
        world.session(settings).send(HOST, "GET", "/v2/acme/app/blobs/x", scopes=PULL)
    assert world.transport.lines[-1] == "GET https://cdn.example/blob"


def test_an_absolute_url_elsewhere_gets_nothing(settings: Settings) -> None:
    _logged_in(settings)
    world = World(user=f"me:{SECRET}")
    session = world.session(settings)
    session.send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    session.send(HOST, "PUT", "https://upload.example/x", scopes=PULL)
    session.send(HOST, "PUT", "https://reg.example:443/x", scopes=PULL)
    assert world.transport.lines[-2:] == [
        "PUT https://upload.example/x",
        "PUT https://reg.example:443/x Bearer",
    ]


@pytest.mark.parametrize("given", [False, True])
def test_a_mirror_gets_its_own_credentials_only(settings: Settings, given: bool) -> None:
    """Neither the registry's stored ones nor those the user gave with the command."""
    if given:
        settings = settings.replace(username="me", password=SECRET)
    else:
        _logged_in(settings)
    Path(settings.config).write_text('[registry."reg.example"]\nmirrors = ["mirror.example"]\n')

    def asking(request: Request) -> Response:
        return reply(401, WWW_Authenticate='Basic realm="give"')

    transport = ScriptedTransport(asking)
    with pytest.raises(AuthRequired):
        Session(settings, transport).send(HOST, "GET", "/v2/acme/app/blobs/x", scopes=PULL, reading=True)
    assert [line.removeprefix("GET https://") for line in transport.lines] == [
        "mirror.example/v2/acme/app/blobs/x",
        "reg.example/v2/acme/app/blobs/x",
        "reg.example/v2/acme/app/blobs/x Basic",
    ]


def test_two_hosts_that_share_a_token_server_share_no_token(settings: Settings) -> None:
    _logged_in(settings)
    world = World()
    authenticator = Authenticator(world.transport.send, _keychain(settings), world.clock)
    asked = world.serve(Request("GET", "https://x/")).headers
    values = [
        _answer(authenticator, Party(host), asked["WWW-Authenticate"]) for host in (HOST, "two.example")
    ]
    assert values[0] != values[1]


def _keychain(settings: Settings):  # type: ignore[no-untyped-def]
    from manyfest.stores.registry.credentials import Keychain

    return Keychain(settings.docker_config)


def _answer(authenticator: Authenticator, party: Party, challenge: str) -> str | None:
    from manyfest.stores.registry.wire import challenges

    return authenticator.answer(party, challenges([challenge]), f"https://{party.host}/", PULL, None)


# Failures say whose credentials, and never which.


def test_wrong_credentials_name_their_source(settings: Settings) -> None:
    _logged_in(settings)
    world = World(user="me:other")
    with pytest.raises(AuthRequired) as caught:
        world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert str(caught.value) == (
        f"reg.example: {REALM} does not accept the credentials of user 'me' from "
        f"{Path(settings.docker_config, 'config.json')} (HTTP 401): 'incorrect username or password'"
    )
    assert caught.value.hint == "correct them with `manyfest login reg.example`"


def test_missing_credentials_say_where_we_looked(settings: Settings) -> None:
    world = World(user="me:other")
    with pytest.raises(AuthRequired, match=r"no credentials for reg.example in .*config.json") as caught:
        world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert "manyfest login reg.example" in caught.value.hint


def test_a_fresh_token_that_is_not_enough(settings: Settings) -> None:
    _logged_in(settings)
    world = World()
    challenge = f'Bearer realm="{REALM}",service="svc",error="insufficient_scope"'
    world.serve = lambda request: reply(401, WWW_Authenticate=challenge)  # type: ignore[method-assign]
    with pytest.raises(AuthRequired, match="user 'me' from"):
        world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert len(world.transport.sent) == 3


FAILURES: dict[str, Callable[[Request], Response]] = {
    "401": lambda r: reply(401, {"details": "no"}),
    "403": lambda r: reply(403),
    "400": lambda r: reply(400, {"error": "invalid_grant"}),
    "404": lambda r: reply(404),
    "500": lambda r: reply(500, b"boom"),
    "429": lambda r: reply(429, Retry_After="9999"),
    "no json": lambda r: reply(200, b"<html>"),
    "no token": lambda r: reply(200, {"x": SECRET}),
    "a list": lambda r: reply(200, [SECRET]),
    "a number": lambda r: reply(200, {"token": 5}),
    "a line break": lambda r: reply(200, {"token": f"{SECRET}\r\nX: y"}),
    "endless": lambda r: reply(200, b'"' + b"x" * 2_000_000),
    "redirect to http": lambda r: reply(307, Location=f"http://auth.example/?p={SECRET}"),
    "redirect in circles": lambda r: reply(307, Location=r.url),
    "useless": lambda r: reply(200, {"token": SECRET}),
}
ENTRIES: dict[str, dict[str, str]] = {
    "password": {"auth": base64.b64encode(f"me:{SECRET}".encode()).decode()},
    "identity": {"identitytoken": SECRET},
    "registry": {"registrytoken": SECRET},
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("failure", FAILURES)
def test_no_secret_is_ever_shown(settings: Settings, failure: str, entry: str) -> None:
    """Whatever goes wrong: not in messages, hints, reprs or the chain of causes."""
    _logged_in(settings, **ENTRIES[entry])
    world = World()
    world.make = FAILURES[failure]  # type: ignore[method-assign,assignment]
    session = world.session(settings)
    with pytest.raises(Error) as caught:
        session.send(HOST, "GET", f"/v2/acme/app/manifests/1?token={SECRET}", scopes=PULL)
    error = caught.value
    shown = "".join(traceback.TracebackException.from_exception(error).format_exception_only())
    chain = [error, error.__cause__, error.__context__]
    texts = [shown, error.hint, *map(str, chain), *map(repr, chain), repr(session), repr(session._auth())]
    texts += [repr(request) for request in world.transport.sent]
    texts += [repr(value) for value in vars(session._auth()).values()]
    secrets = (SECRET, base64.b64encode(f"me:{SECRET}".encode()).decode())
    assert not [text for text in texts for secret in secrets if secret in text]
    assert len(shown) < 1500


def test_an_unreachable_token_server_says_so(settings: Settings) -> None:
    world = World()

    def cut(request: Request) -> Response:
        raise Cut("auth.example: cut")

    world.make = cut  # type: ignore[method-assign]
    with pytest.raises(Cut, match=r"auth\.example"):
        world.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)


# Log-in and log-out.


def test_login_asks_first_and_stores_then(settings: Settings) -> None:
    world = World(user=f"me:{SECRET}")
    assert login(settings, HOST, "me", SECRET, transport=world.transport) == str(
        Path(settings.docker_config, "config.json")
    )
    again = World(user=f"me:{SECRET}")
    again.session(settings).send(HOST, "GET", "/v2/acme/app/manifests/1", scopes=PULL)
    assert logout(settings, HOST)
    assert not logout(settings, HOST)


def test_a_refused_login_stores_nothing(settings: Settings) -> None:
    world = World(user="me:other")
    with pytest.raises(AuthRequired, match="does not accept this user name and password") as caught:
        login(settings, HOST, "me", SECRET, transport=world.transport)
    assert SECRET not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"
    assert not Path(settings.docker_config, "config.json").exists()


@pytest.mark.parametrize(("user", "password"), [("", "x"), ("x", ""), ("a:b", "x")])
def test_login_wants_both(settings: Settings, user: str, password: str) -> None:
    with pytest.raises(InputError):
        login(settings, HOST, user, password, transport=ScriptedTransport())


def test_login_at_something_else(settings: Settings) -> None:
    with pytest.raises(Error, match="does not answer as a registry"):
        login(settings, HOST, "me", SECRET, transport=ScriptedTransport(reply(404)))
