# SPDX-License-Identifier: Apache-2.0
"""What people mistype and registries get wrong: a clear error with a hint, the right exit code, nothing written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Ran, Run

from manyfest.content import mediatypes
from manyfest.stores.layout import Layout
from manyfest.stores.registry.retry import Clock
from manyfest.testing.images import make_image
from manyfest.testing.script import Answer, ScriptedRegistry

SECRET = "s3cr3t-w0rd"
OCI = mediatypes.OCI_MANIFEST
INDEX = mediatypes.OCI_INDEX


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries happen, and nobody waits for them; how long it would have been."""
    asked: list[float] = []
    monkeypatch.setattr(Clock, "sleep", lambda self, seconds: asked.append(seconds))
    return asked


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    """A registry that does what it is told."""
    with ScriptedRegistry() as scripted:
        yield scripted


def refused(ran: Ran, code: int, *words: str) -> None:
    """An error in our own words, with a hint; not a traceback, not a result."""
    assert ran.code == code, ran
    assert "manyfest: error: " in ran.err, ran
    assert "\nhint: " in ran.err, ran
    assert "Traceback" not in ran.err, ran
    assert "internal error" not in ran.err, ran
    for word in words:
        assert word in ran.err, (word, ran)


# Names and platforms.


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("App", 1),
        ("localhost:5000/App:1", 16),
        ("ghcr.io/acme//app", 14),
        ("app:la test", 7),
        ("app:.hidden", 5),
        ("app:1@sha256:xyz", 14),
        ("app@md5:00000000000000000000000000000000", 5),
        ("app\x1b[31m", 4),
        ("é/app", 1),
        ("foo:bar:baz", 8),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "{}"),
        ("inspect", "{}", "--raw"),
        ("copy", "{}", "oci:never"),
        ("copy", "oci:never", "{}"),
        ("create", "{}", "app"),
        ("create", "app", "{}", "--push"),
        ("annotate", "{}", "app", "--arch", "arm"),
        ("add", "{}", "app"),
        ("drop", "{}", "linux/arm"),
        ("join", "{}", "app"),
        ("push", "{}"),
        ("rm", "{}"),
        ("resolve", "{}"),
        ("tags", "{}"),
        ("delete", "{}"),
        ("prune", "{}", "--keep-last", "1"),
    ],
    ids=lambda words: "-".join(word for word in words if word.isalpha()),
)
def test_a_bad_name_says_which_character(run: Run, command: tuple[str, ...], name: str, at: int) -> None:
    """In every command, before any registry is asked."""
    refused(run(*(word.format(name) for word in command), ok=False), 2, f"character {at} is ")


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("linux//v7", "character 7 is '/'"),
        ("linux/am d64", "character 9 is ' '"),
        ("linux/arm/v7/x", "character 13 is '/'"),
        ("linux/", "it ends after character 6"),
        ("bogus", "'bogus'"),
        ("linux/arm/\x07", r"character 11 is '\x07'"),
    ],
)
def test_a_bad_platform_says_which_character(
    run: Run, layout: str, tmp_path: Path, platform: str, words: str
) -> None:
    """Wherever one is given; nothing is written."""
    before = (tmp_path / "layout" / "index.json").read_bytes()
    for argv in (
        ("inspect", f"{layout}:attested", "--platform", platform),
        ("copy", f"{layout}:attested", f"oci:{tmp_path}/never", "--platform", platform),
        ("resolve", f"{layout}:attested", "--platform", platform),
        ("drop", f"{layout}:attested", platform),
        ("create", f"{layout}:new", f"{layout}:amd64", "--push", "--expect", platform),
    ):
        ran = run(*argv, ok=False)
        assert (ran.code, words in ran.err) == (2, True), ran
    assert not (tmp_path / "never").exists()
    assert (tmp_path / "layout" / "index.json").read_bytes() == before


def test_other_tools_places_are_bad_input(run: Run) -> None:
    """Said before anything is asked."""
    refused(run("inspect", "https://ghcr.io/acme/app", ok=False), 2, "leave the scheme out")
    refused(run("copy", "dir:x", "oci:y", ok=False), 2, "skopeo copy")


@pytest.mark.parametrize("place", ["docker-archive:never.tar", "docker-daemon:app:1"])
@pytest.mark.parametrize(
    "command", [("create", "{}", "{layout}:amd64", "--push"), ("join", "{}", "{layout}:amd64")]
)
def test_engines_hold_no_lists(
    run: Run,
    layout: str,
    command: tuple[str, ...],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Said before anything is moved."""
    monkeypatch.chdir(tmp_path)
    ran = run(*(word.format(place, layout=layout) for word in command), ok=False)
    refused(ran, 2, "no list", "oci-archive:FILE")
    assert not (tmp_path / "never.tar").exists()


def test_joining_needs_a_tag(run: Run, layout: str, tmp_path: Path) -> None:
    """Beside its marks a list without a name could not be found again: it would lose its platforms."""
    plain = f"oci:{tmp_path}/plain"
    made = run("create", plain, f"{layout}:amd64", f"{layout}:s390x", "--push")
    refused(run("join", plain, f"{layout}:armhf", ok=False), 2, "has a tag")
    assert run("inspect", plain, "--json").json["digest"] == made.last


# Answers of registries.


def manifest(**changes: Any) -> bytes:
    """A small image manifest, or what is left of one."""
    blob = {"mediaType": mediatypes.OCI_CONFIG, "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}"}
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": {**blob, "size": 2},
        "layers": [],
        **changes,
    }
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


SCHEMA1 = {
    "schemaVersion": 1,
    "name": "app",
    "tag": "1",
    "architecture": "amd64",
    "fsLayers": [{"blobSum": "sha256:" + "a" * 64}],
    "history": [{"v1Compatibility": "{}"}],
    "signatures": [],
}
HTML = b"<!DOCTYPE html><html><head><title>Corporate Log-in</title></head><body>please</body></html>"


def answer(body: bytes, media_type: str = OCI, **headers: str) -> Answer:
    """A manifest's, as registries give it."""
    return Answer(200, body, {"Content-Type": media_type, **headers})


DOCUMENTS: dict[str, tuple[Answer, str]] = {
    "not JSON": (answer(b"\x00\x01\x02"), "JSON"),
    "cut JSON": (answer(manifest()[:-9]), "JSON"),
    "empty": (answer(b""), "JSON"),
    "a list": (answer(b"[]"), "object"),
    "null": (answer(b"null"), "object"),
    "nested": (answer(b'{"a":' * 100_000), "nest"),
    "no config": (answer(manifest(config=None)), "config"),
    "layers as text": (answer(manifest(layers="x")), "layers"),
    "negative size": (
        answer(manifest(layers=[{"mediaType": "a/b", "digest": "sha256:" + "a" * 64, "size": -1}])),
        "size",
    ),
    "bad digest": (
        answer(manifest(layers=[{"mediaType": "a/b", "digest": "sha256:aa", "size": 1}])),
        "sha256:aa",
    ),
    "schema 1": (answer(json.dumps(SCHEMA1).encode(), mediatypes.DOCKER_SCHEMA1_SIGNED), "schema"),
    "schema 1 as schema 2": (answer(json.dumps(SCHEMA1).encode(), mediatypes.DOCKER_MANIFEST), "schema"),
    "unknown type": (answer(b'{"schemaVersion":2}', "application/vnd.acme.thing+json"), "vnd.acme.thing"),
    "a page": (answer(HTML, "text/html"), "HTML page"),
    "a page as a manifest": (answer(HTML), "HTML page"),
    "too long": (answer(b" " * (4 * 1024 * 1024 + 1)), "4194304"),
    "endless": (Answer(200, b" " * 65536, {"Content-Type": OCI}, endless=True), "4194304"),
    "other digest": (answer(manifest(), **{"Docker-Content-Digest": "sha256:" + "b" * 64}), "sha256:bbbb"),
    "cut": (Answer(200, manifest(), {"Content-Type": OCI}, cut_body=20), "closed after 20 bytes"),
    "short": (Answer(200, manifest(), {"Content-Type": OCI}, length=9999), "were still to come"),
}


@pytest.mark.parametrize("case", DOCUMENTS)
@pytest.mark.parametrize("command", ["inspect", "resolve", "copy", "create", "add"])
def test_a_bad_document(
    run: Run, registry: ScriptedRegistry, tmp_path: Path, layout: str, command: str, case: str
) -> None:
    """Every command that reads it says what is wrong with it, and writes nothing."""
    given, word = DOCUMENTS[case]
    registry.on("GET", "/v2/app/manifests/1", given)
    registry.on("HEAD", "/v2/app/manifests/1", Answer(404))
    name = f"{registry.host}/app:1"
    argv = {
        "inspect": ("inspect", name),
        "resolve": ("resolve", name),
        "copy": ("copy", name, f"oci:{tmp_path}/out"),
        "create": ("create", f"oci:{tmp_path}/out:1", name, "--push"),
        "add": ("add", f"{layout}:attested", name),
    }[command]
    before = (tmp_path / "layout" / "index.json").read_bytes()
    ran = run(*argv, ok=False)
    refused(ran, 3)
    assert word.lower() in ran.err.lower(), ran
    assert registry.host in ran.err or hashlib.sha256(given.body).hexdigest() in ran.err, ran
    assert len(ran.err) < 2000
    assert (tmp_path / "layout" / "index.json").read_bytes() == before
    assert "1" not in (
        run("tags", f"oci:{tmp_path}/out", ok=False).out if (tmp_path / "out").exists() else ""
    )


def indexed(*entries: dict[str, Any]) -> bytes:
    """An index of these entries."""
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}).encode()


def entry(raw: bytes, media_type: str = OCI, **more: Any) -> dict[str, Any]:
    """What an index says of a document."""
    return {
        "mediaType": media_type,
        "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}",
        "size": len(raw),
        **more,
    }


def serve(registry: ScriptedRegistry, raw: bytes, media_type: str = OCI, reference: str = "") -> None:
    """One document under its digest, or a tag."""
    name = reference or f"sha256:{hashlib.sha256(raw).hexdigest()}"
    registry.on("GET", f"/v2/app/manifests/{name}", answer(raw, media_type))
    registry.on("HEAD", f"/v2/app/manifests/{name}", answer(raw, media_type))


@pytest.mark.parametrize(
    "argv", [("resolve", "{}"), ("copy", "{}", "oci:{out}"), ("inspect", "{}", "--platform", "linux/arm")]
)
def test_an_index_nested_too_deep(
    run: Run, registry: ScriptedRegistry, tmp_path: Path, argv: tuple[str, ...]
) -> None:
    """Sixty levels: given up, not followed for ever."""
    raw, media_type = manifest(), OCI
    for _ in range(60):
        serve(registry, raw, media_type)
        raw, media_type = indexed(entry(raw, media_type)), INDEX
    serve(registry, raw, INDEX, "1")
    ran = run(*(word.format(f"{registry.host}/app:1", out=tmp_path / "out") for word in argv), ok=False)
    refused(ran, 3, "nested")
    assert registry.count("GET") < 40


def test_an_index_in_a_loop(run: Run, registry: ScriptedRegistry, tmp_path: Path) -> None:
    """A digest that leads to itself cannot be made, but a registry can claim it: the claim is checked."""
    loop = "sha256:" + "c" * 64
    claimed = {"mediaType": INDEX, "digest": loop, "size": 0}
    raw = indexed(claimed)
    claimed["size"] = len(raw)
    raw = indexed(claimed)
    serve(registry, raw, INDEX, "1")
    registry.on("GET", f"/v2/app/manifests/{loop}", answer(raw, INDEX))
    for argv in (("resolve",), ("copy",), ("inspect", "--platform", "linux/arm")):
        target = [f"oci:{tmp_path}/out"] if argv[0] == "copy" else []
        ran = run(argv[0], f"{registry.host}/app:1", *target, *argv[1:], ok=False)
        refused(ran, 3, loop[:20])


def test_entries_without_platform(run: Run, layout: str, tmp_path: Path) -> None:
    """Their configs are asked, as containerd does: shown, chosen, listed and copied."""
    store = Layout(layout.removeprefix("oci:"))
    image = make_image(store, "linux/riscv64", tag="")
    other = make_image(store, "linux/arm/v7", tag="")
    raw = indexed(entry(image.raw), entry(other.raw))
    from manyfest.content.document import Document

    store.tag(Document(INDEX, raw), "bare")
    assert "-" in run("inspect", f"{layout}:bare").out
    assert run("resolve", f"{layout}:bare", "--platform", "linux/riscv64").last.endswith(str(image.digest))
    assert run("inspect", f"{layout}:bare", "--platform", "linux/arm/v7", "--json").json["digest"] == str(
        other.digest
    )
    refused(run("resolve", f"{layout}:bare", "--platform", "linux/s390x", ok=False), 3)
    run("copy", f"{layout}:bare", f"oci:{tmp_path}/out:1")
    run("create", f"oci:{tmp_path}/out:2", f"{layout}:bare", "--push")
    shown = run("inspect", f"oci:{tmp_path}/out:2", "--json").json["platforms"]
    assert [each["platform"] for each in shown] == ["linux/riscv64", "linux/arm/v7"]


def test_an_image_that_says_no_platform_at_all(run: Run, layout: str) -> None:
    """create and add want to be told which it is."""
    store = Layout(layout.removeprefix("oci:"))
    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document
    from manyfest.stores.base import put_bytes

    put_bytes(store, Descriptor.of(b"{}", mediatypes.OCI_CONFIG), b"{}")
    store.tag(Document(OCI, manifest()), "mute")
    refused(
        run("create", f"{layout}:x", f"{layout}:mute", "--push", ok=False), 2, "set both", f"{layout}:mute"
    )
    refused(run("add", f"{layout}:attested", f"{layout}:mute", ok=False), 2, "set both")
    run("add", f"{layout}:attested", f"{layout}:mute", "--os", "linux", "--arch", "s390x")
    assert run("inspect", f"{layout}:mute").out


STATUSES: list[tuple[Answer, int, tuple[str, ...]]] = [
    (Answer(401, b"", {}), 3, ("authentication", "manyfest login")),
    (Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}), 3, ("authentication", "manyfest login")),
    (Answer(401, b"", {"WWW-Authenticate": "Bearer"}), 3, ("token server",)),
    (Answer(403, b'{"errors":[{"code":"DENIED","message":"no"}]}'), 3, ("DENIED", "manyfest login")),
    (Answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"gone"}]}'), 3, ("1",)),
    (Answer(404, HTML, {"Content-Type": "text/html"}), 3, ("Corporate Log-in",)),
    (Answer(429, b""), 3, ("too many requests",)),
    (Answer(429, b"", {"Retry-After": "7"}), 3, ("it asks to wait 7 s",)),
    (Answer(429, b"", {"Retry-After": "99999"}), 3, ("it asks to wait 99999 s",)),
    (Answer(429, b"", {"Retry-After": "soon\x1b"}), 3, ("too many requests",)),
    (Answer(500, b"boom"), 3, ("HTTP 500", "boom")),
    (Answer(502, HTML, {"Content-Type": "text/html"}), 3, ("HTTP 502", "Corporate Log-in")),
    (Answer(503, b"", {"Retry-After": "1"}), 3, ("HTTP 503",)),
    (Answer(504, b""), 3, ("HTTP 504",)),
    (Answer(200, HTML, {"Content-Type": "text/html"}), 3, ("HTML page",)),
    (Answer(302, b"", {"Location": "/v2/app/manifests/1"}), 3, ("circles",)),
    (Answer(302, b""), 3, ("Location",)),
    (Answer(418, b"\x1b[31mteapot"), 3, ("HTTP 418", "teapot")),
    (Answer(cut_before=True), 3, ()),
    (Answer(raw=b"SSH-2.0-OpenSSH_9.2\r\n"), 3, ("SSH-2.0",)),
]


@pytest.mark.parametrize("command", ["inspect", "raw", "copy", "push", "tags", "create"])
@pytest.mark.parametrize(
    ("given", "code", "words"), STATUSES, ids=lambda v: str(getattr(v, "status", ""))[:3]
)
def test_a_status(
    run: Run,
    registry: ScriptedRegistry,
    layout: str,
    tmp_path: Path,
    command: str,
    given: Answer,
    code: int,
    words: tuple[str, ...],
) -> None:
    """Every refusal names the registry, says what to do next, and comes without control characters."""
    registry.on("*", "*", given)
    name = f"{registry.host}/app:1"
    argv = {
        "inspect": ("inspect", name),
        "raw": ("inspect", name, "--raw"),
        "copy": ("copy", name, f"oci:{tmp_path}/out"),
        "push": ("copy", f"{layout}:amd64", name),
        "tags": ("tags", f"{registry.host}/app"),
        "create": ("create", "app", name),
    }[command]
    ran = run(*argv, ok=False)
    refused(ran, code, registry.host)
    if command in ("inspect", "raw", "copy"):
        for word in words:
            assert word in ran.err, (word, ran)
    assert "\x1b" not in ran.err
    assert ran.out == ""
    as_json = run(*argv, "--json", ok=False)
    if command != "raw":
        error = json.loads(as_json.err.splitlines()[-1])["error"]
        assert (error["exit_code"], bool(error["message"]), bool(error["hint"])) == (code, True, True)
    assert not drafts_left(run)


def drafts_left(run: Run) -> list[Any]:
    """Drafts that a failed command made."""
    found: list[Any] = run("ls", "--json").json["drafts"]
    return found


def test_retry_after_is_kept(run: Run, registry: ScriptedRegistry, layout: str, waits: list[float]) -> None:
    """To the letter, and then the answer counts."""
    store = Layout(layout.removeprefix("oci:"))
    raw = store.resolve("amd64").raw
    registry.on("GET", "/v2/app/manifests/1", Answer(429, b"", {"Retry-After": "7"}), times=2)
    registry.on("GET", "/v2/app/manifests/1", Answer(503, b""), times=1)
    registry.on("GET", "/v2/app/manifests/1", answer(raw, mediatypes.DOCKER_MANIFEST))
    assert run("inspect", f"{registry.host}/app:1", "--raw").out.encode() == raw
    assert waits[:2] == [7, 7]
    assert len(waits) == 3


def test_wrong_content_is_never_stored(
    run: Run, registry: ScriptedRegistry, layout: str, tmp_path: Path
) -> None:
    """A blob of the right length and other bytes, a short one, a long one: nothing is left of any."""
    store = Layout(layout.removeprefix("oci:"))
    root = store.resolve("amd64")
    serve(registry, root.raw, root.media_type, "1")
    config, layer = root.manifest.config, root.manifest.layers[0]
    good = store.open(config).read()
    registry.on("GET", f"/v2/app/blobs/{config.digest}", Answer(200, good))
    for number, body in enumerate((b"x" * layer.size, b"x" * (layer.size - 1), b"x" * (layer.size + 1), b"")):
        registry.on("GET", f"/v2/app/blobs/{layer.digest}", Answer(200, body), times=1)
        out = tmp_path / f"out{number}"
        ran = run("copy", f"{registry.host}/app:1", f"oci:{out}:1", ok=False)
        refused(ran, 3, str(layer.digest))
        assert [path.name for path in out.glob("blobs/*/*")] in ([], [config.digest.hex])
        assert not list(out.glob(".manyfest*"))
        assert json.loads((out / "index.json").read_text())["manifests"] == []
        registry.on("GET", f"/v2/app/blobs/{layer.digest}", Answer(200, body), times=1)
        tar = tmp_path / f"out{number}.tar"
        refused(run("copy", f"{registry.host}/app:1", f"oci-archive:{tar}:1", ok=False), 3)
        assert not tar.exists()
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_child_that_is_not_there(run: Run, registry: ScriptedRegistry, tmp_path: Path) -> None:
    """A sparse list: which platform, and what to do."""
    raw = indexed(entry(manifest(), platform={"os": "linux", "architecture": "arm64"}))
    serve(registry, raw, INDEX, "1")
    registry.on("*", "*", Answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'))
    refused(
        run("copy", f"{registry.host}/app:1", f"oci:{tmp_path}/out", ok=False), 3, "linux/arm64", "--platform"
    )
    assert "linux/arm64" in run("inspect", f"{registry.host}/app:1").out


# Credentials.


def commands(host: str, layout: str, out: Path) -> list[tuple[str, ...]]:
    """A bit of everything."""
    name = f"{host}/app:1"
    return [
        ("inspect", name),
        ("inspect", name, "--raw"),
        ("copy", name, f"oci:{out}"),
        ("copy", f"{layout}:amd64", name),
        ("create", "--push", name, f"{layout}:amd64", f"{layout}:s390x"),
        ("tags", f"{host}/app"),
        ("delete", name),
        ("prune", f"{host}/app", "--keep-last", "1"),
        ("join", name, f"{layout}:amd64"),
        ("login", host, "-u", "me", "-p", SECRET),
        (
            *("--username", "me", "--password", SECRET, "push", "from-args", "--platforms", "linux/amd64"),
            *("--template", f"{host}/app:ARCH", "--target", name),
        ),
    ]


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="{}/token",service="s",scope="repository:app:pull"'}


@pytest.mark.parametrize(
    "fault",
    [
        "token refused",
        "token garbage",
        "registry refuses",
        "redirect",
        "cut",
        "basic",
    ],
)
@pytest.mark.parametrize("way", ["config", "proxy"])
def test_no_secret_is_ever_shown(
    run: Run,
    registry: ScriptedRegistry,
    layout: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    way: str,
) -> None:
    """Whatever fails, with -v, with MANYFEST_DEBUG, with --json: neither password, nor token, nor Basic value."""
    import base64

    basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
    docker = Path(os.environ["HOME"], ".docker")
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": basic}}}))
    monkeypatch.setenv("MANYFEST_DEBUG", "1")
    if way == "proxy":
        monkeypatch.setenv("HTTP_PROXY", f"http://me:{SECRET}@{registry.host}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{SECRET}@{registry.host}")
        monkeypatch.setenv("http_proxy", f"http://me:{SECRET}@{registry.host}")
    _script(registry, fault)
    host = "registry.example" if way == "proxy" else registry.host
    for number, argv in enumerate(commands(host, layout, tmp_path / "out")):
        for more in (("-v",), ("--json",)):
            if "--raw" in argv and more == ("--json",):
                continue
            insecure = ("--insecure",) if way == "proxy" else ()
            ran = run(*argv, *more, *insecure, ok=False)
            assert ran.code in (1, 2, 3), (number, ran)
            for secret in (SECRET, basic, "tok3n"):
                assert secret not in ran.out + ran.err, (argv, ran)


def _script(registry: ScriptedRegistry, fault: str) -> None:
    challenge = {"WWW-Authenticate": CHALLENGE["WWW-Authenticate"].format(registry.url)}
    token = {
        "token refused": Answer(401, b'{"details":"no"}'),
        "token garbage": Answer(200, b'{"token": "tok3n\\n"}'),
    }.get(fault, Answer(200, b'{"token": "tok3n"}'))
    registry.on("*", "/token", token)
    if fault == "basic":
        registry.on("*", "*", Answer(401, b"", {"WWW-Authenticate": 'Basic realm="r"'}))
        return
    last = {
        "redirect": Answer(307, b"", {"Location": f"{registry.url}/elsewhere?sig=tok3n"}),
        "cut": Answer(cut_before=True),
    }.get(fault, Answer(403, b'{"errors":[{"code":"DENIED","message":"no"}]}'))
    registry.on("*", "/elsewhere", Answer(500))
    registry.on("*", "*", last, headers={"Authorization": "Bearer tok3n"})
    registry.on("*", "*", Answer(401, b"", challenge))
