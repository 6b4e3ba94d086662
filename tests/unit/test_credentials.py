# SPDX-License-Identifier: Apache-2.0
"""Config files, key spellings, credential helpers, and what may never be shown."""

from __future__ import annotations

import base64
import json
import stat
import sys
from pathlib import Path

import pytest

from manyfest.errors import Error, InputError, StoreError
from manyfest.stores.registry import helper
from manyfest.stores.registry.credentials import HUB_KEY, Credentials, Keychain

SECRET = "s3cr3t-word"
HELPER = f"""#!{sys.executable}
import json, pathlib, sys
vault = pathlib.Path(__file__).with_name("vault.json")
known = json.loads(vault.read_text()) if vault.exists() else {{}}
action, question = sys.argv[1], sys.stdin.read().strip()
if action == "get":
    if question not in known:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps({{"ServerURL": question, **known[question]}}))
elif action == "list":
    print(json.dumps({{key: value["Username"] for key, value in known.items()}}))
else:
    if action == "store":
        entry = json.loads(question)
        known[entry.pop("ServerURL")] = entry
    else:
        known.pop(question, None)
    vault.write_text(json.dumps(known))
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file of the machine's own is read."""
    for name in ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


def _program(folder: Path, name: str, text: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with the helper ``fake``."""
    folder = tmp_path / "programs"
    folder.mkdir()
    _program(folder, "fake", HELPER)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def _auth(user: str = "me", password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def _keychain(folder: Path, config: object) -> Keychain:
    text = config if isinstance(config, str) else json.dumps(config, indent=2)
    (folder / "config.json").write_text(text)
    return Keychain(str(folder))


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("reg.example", "reg.example"),
        ("https://reg.example", "reg.example"),
        ("http://reg.example/", "reg.example"),
        ("https://reg.example/v1/", "reg.example"),
        ("reg.example/v2", "REG.example"),
        ("reg.example:5000", "reg.example:5000"),
        (HUB_KEY, "docker.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        (HUB_KEY, "registry-1.docker.io"),
    ],
)
def test_key_spellings(tmp_path: Path, key: str, host: str) -> None:
    found = _keychain(tmp_path, {"auths": {"other.example": _auth("no"), key: _auth()}}).lookup(host)
    assert (found.username, found.password) == ("me", SECRET)
    assert found.source == str(tmp_path / "config.json")


@pytest.mark.parametrize("host", ["reg.example:5000", "example", "reg.example.evil", "evil.reg.example"])
def test_another_host_gets_nothing(tmp_path: Path, host: str) -> None:
    found = _keychain(tmp_path, {"auths": {"reg.example": _auth()}}).lookup(host)
    assert found.is_anonymous
    assert f"no credentials for {host} in {tmp_path / 'config.json'}" in found.source


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "u", "password": "p"}, ("u", "p", "", "")),
        ({**_auth("u", "p:q"), "username": "ignored"}, ("u", "p:q", "", "")),
        ({**_auth("u", "p\0\0")}, ("u", "p", "", "")),
        ({**_auth("u", ""), "identitytoken": "it"}, ("u", "", "it", "")),
        ({"registrytoken": "rt"}, ("", "", "", "rt")),
    ],
)
def test_entries(tmp_path: Path, entry: dict[str, str], expected: tuple[str, ...]) -> None:
    found = _keychain(tmp_path, {"auths": {"h": entry}}).lookup("h")
    assert (found.username, found.password, found.identity_token, found.registry_token) == expected


def test_the_longest_repository_wins(tmp_path: Path) -> None:
    keys = ("h", "h/acme", "h/acme/app", "h/acme/application")
    keychain = _keychain(tmp_path, {"auths": {key: _auth(key) for key in keys}})
    cases = {
        "acme/app": "h/acme/app",
        "acme/app/sub": "h/acme/app",
        "acme/x": "h/acme",
        "other": "h",
        "": "h",
    }
    assert {path: keychain.lookup("h", path).username for path in cases} == cases


def test_a_repository_entry_is_not_the_hosts(tmp_path: Path) -> None:
    assert _keychain(tmp_path, {"auths": {"h/acme": _auth()}}).lookup("h", "other").is_anonymous


def test_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place is taken away in turn; the next one answers."""
    places = {
        "env": "",
        "file": str(tmp_path / "auth.json"),
        "docker": str(tmp_path / "config.json"),
        "runtime": str(tmp_path / "run/containers/auth.json"),
        "xdg": str(tmp_path / "xdg/containers/auth.json"),
    }
    for name, path in places.items():
        text = json.dumps({"auths": {"h": _auth(name)}})
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)
        else:
            monkeypatch.setenv("DOCKER_AUTH_CONFIG", text)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", places["file"])
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    keychain = Keychain(str(tmp_path))
    seen = []
    for path in places.values():
        seen.append(keychain.lookup("h").username)
        if path:
            Path(path).unlink()
        else:
            monkeypatch.delenv("DOCKER_AUTH_CONFIG")
    assert seen == list(places)
    assert "there is no such file" in keychain.lookup("h").source


def test_given_credentials_win(tmp_path: Path) -> None:
    _keychain(tmp_path, {"auths": {"h": _auth()}})
    found = Keychain(str(tmp_path), username="given", password=SECRET).lookup("h")
    assert (found.username, found.source) == ("given", "the user name and password given")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "auths": {,}}', "line 2, column 12: expected JSON"),
        ("[]", "line 1: expected a JSON object, got list"),
        ('{\n"auths": []}', "line 2: expected an object under 'auths'"),
        ('{"auths": {\n\n"h": 1}}', "line 3: expected an object under 'h'"),
        ('{"auths": {\n"h": {"auth": 5}}}', "line 2: expected text in auth under 'h'"),
        ('{"auths": {\n"h": {"auth": "s3cr3t-word!"}}}', "line 2: expected auth as base64"),
        (
            '{"auths": {"h": {"auth": "czNjcjN0LXdvcmQ="}}}',
            "line 1: expected auth as base64 of USER:PASSWORD",
        ),
        ('{"credHelpers": {\n"h": "../evil"}}', "line 2: expected the name of a credential helper"),
        ('{"credsStore": 5}', "line 1: expected the name of a credential helper"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_malformed(tmp_path: Path, text: str, message: str) -> None:
    """The file and the line are named, the content is not shown."""
    keychain = _keychain(tmp_path, text)
    with pytest.raises(InputError) as caught:
        keychain.lookup("h")
    assert message in str(caught.value)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert SECRET not in str(caught.value) + caught.value.hint


def test_an_empty_file_is_an_empty_config(tmp_path: Path) -> None:
    assert _keychain(tmp_path, "\n").lookup("h").is_anonymous


def test_an_oversized_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at most"):
        _keychain(tmp_path, " " * (4 * 1024 * 1024 + 1)).lookup("h")


def test_repr_hides_secrets() -> None:
    shown = repr(Credentials("me", SECRET, identity_token=SECRET, registry_token=SECRET, source="s"))
    assert SECRET not in shown
    assert shown == "Credentials('me', password=***, identity_token=***, registry_token=***, source='s')"
    assert SECRET not in f"{Credentials('me', SECRET)}"


def test_store_keeps_everything_else(tmp_path: Path) -> None:
    """Unknown keys and their order stay, the link stays a link, and only its owner can read the file."""
    real = tmp_path / "elsewhere.json"
    real.write_text(json.dumps({"zebra": [1], "auths": {"other": _auth()}, "proxies": {"a": "é"}}))
    real.chmod(0o644)
    (tmp_path / "config.json").symlink_to(real)
    keychain = Keychain(str(tmp_path))
    assert keychain.store("h", Credentials("u", "p")) == str(tmp_path / "config.json")
    fields = json.loads(real.read_text())
    assert list(fields) == ["zebra", "auths", "proxies"]
    assert fields["auths"] == {"other": _auth(), "h": _auth("u", "p")}
    assert (tmp_path / "config.json").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "elsewhere.json"]
    assert keychain.lookup("h").password == "p"


def test_store_makes_the_directory(tmp_path: Path) -> None:
    keychain = Keychain(str(tmp_path / "new/docker"))
    keychain.store("docker.io", Credentials("u", "p", identity_token="it"))
    fields = json.loads((tmp_path / "new/docker/config.json").read_text())
    assert fields == {"auths": {HUB_KEY: {**_auth("u", "p"), "identitytoken": "it"}}}
    assert stat.S_IMODE((tmp_path / "new/docker").stat().st_mode) == 0o700


def test_store_leaves_nothing_behind_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keychain = _keychain(tmp_path, {"auths": {}})
    before = (tmp_path / "config.json").read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keychain.store("h", Credentials("u", SECRET))
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_bytes() == before


def test_store_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot keep credentials there") as caught:
        Keychain(str(tmp_path / "file/docker")).store("h", Credentials("u", SECRET))
    assert SECRET not in str(caught.value)


def test_erase(tmp_path: Path) -> None:
    """Every spelling of the host goes; its repositories and other hosts stay."""
    auths = {"https://h/v1/": _auth(), "h": _auth(), "h/acme": _auth(), "other": _auth()}
    keychain = _keychain(tmp_path, {"auths": auths})
    assert keychain.erase("h")
    assert list(json.loads((tmp_path / "config.json").read_text())["auths"]) == ["h/acme", "other"]
    assert not keychain.erase("h")
    assert not Keychain(str(tmp_path / "nowhere")).erase("h")


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("config", [{"credsStore": "fake"}, {"credHelpers": {"https://docker.io": "fake"}}])
def test_a_helper_keeps_finds_and_forgets(tmp_path: Path, config: dict[str, object]) -> None:
    keychain = _keychain(tmp_path, config)
    assert keychain.lookup("docker.io").is_anonymous
    assert keychain.store("docker.io", Credentials("u", SECRET)) == "docker-credential-fake"
    assert SECRET not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["auths"] == {HUB_KEY: {}}
    found = keychain.lookup("docker.io")
    assert (found.username, found.password, found.source) == ("u", SECRET, "docker-credential-fake")
    assert helper.known("fake") == {HUB_KEY: "u"}
    assert keychain.erase("docker.io")
    assert keychain.lookup("docker.io").is_anonymous
    assert not keychain.erase("docker.io")


@pytest.mark.usefixtures("programs")
def test_a_helper_keeps_identity_tokens(tmp_path: Path) -> None:
    keychain = _keychain(tmp_path, {"credsStore": "fake"})
    keychain.store("h", Credentials("u", "p", identity_token="it"))
    assert keychain.lookup("h") == Credentials(identity_token="it", source="docker-credential-fake")


@pytest.mark.usefixtures("programs")
def test_a_helper_without_an_answer_leaves_it_to_the_file(tmp_path: Path) -> None:
    config = {"credsStore": "fake", "auths": {"h": _auth()}}
    assert _keychain(tmp_path, config).lookup("h").source == str(tmp_path / "config.json")


def test_the_hosts_own_helper_goes_before_the_store(tmp_path: Path) -> None:
    config = {"credsStore": "general", "credHelpers": {"h": "special"}}
    assert "docker-credential-special cannot be run" in _keychain(tmp_path, config).lookup("h").source
    assert "docker-credential-general cannot be run" in _keychain(tmp_path, config).lookup("i").source


BROKEN = {
    "silent": "import sys; sys.exit(3)",
    "spiteful": f"print('{{{SECRET}'); raise SystemExit(1)",
    "odd": f"print('{SECRET}')",
    "wrong": f'print(\'{{"Username": 1, "Secret": "{SECRET}"}}\')',
    "endless": "import sys\nwhile True: sys.stdout.write('x' * 65536)",
    "deaf": f"import os; os.close(0); print('no, {SECRET[:3]}'); raise SystemExit(1)",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_helpers(tmp_path: Path, programs: Path, name: str) -> None:
    """A look-up goes on and tells; keeping a secret fails; neither shows what the helper said of secrets."""
    _program(programs, name, f"#!{sys.executable}\n{BROKEN[name]}\n")
    keychain = _keychain(tmp_path, {"credsStore": name})
    found = keychain.lookup("h")
    assert found.is_anonymous
    assert f"docker-credential-{name}" in found.source
    assert SECRET not in found.source


def test_a_helper_that_fails_to_store(tmp_path: Path, programs: Path) -> None:
    _program(programs, "echo", f"#!{sys.executable}\nimport sys\nprint(sys.stdin.read()); sys.exit(1)\n")
    with pytest.raises(StoreError, match="docker-credential-echo store failed") as caught:
        _keychain(tmp_path, {"credsStore": "echo"}).store("h", Credentials("u", SECRET))
    assert SECRET not in str(caught.value) + repr(caught.value) + caught.value.hint


def test_a_helper_that_takes_too_long(programs: Path) -> None:
    _program(
        programs, "slow", f"#!{sys.executable}\nimport sys; sys.stdin.read(); import time; time.sleep(60)\n"
    )
    with pytest.raises(Error, match="did not answer in time"):
        helper.run("slow", "get", "h", timeout_s=0.05)
