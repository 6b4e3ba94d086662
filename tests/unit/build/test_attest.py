# SPDX-License-Identifier: Apache-2.0
"""Provenance and SBOM: their form, what they say, and that they are the same twice."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.build.conftest import Kitchen, image_of

from manyfest.build.attest import IN_TOTO, Attest
from manyfest.build.built import Built, push
from manyfest.build.git import Revision
from manyfest.build.provenance import BUILD_TYPE, BUILDER
from manyfest.build.purl import image, package
from manyfest.build.redact import REDACTED, redacted
from manyfest.build.sbom import MAX_FILES, Contents, contents_of, document
from manyfest.build.sums import Sum, sums_of
from manyfest.content import mediatypes
from manyfest.errors import BuildError, InputError
from manyfest.indexes.select import keep
from manyfest.platforms import Platform
from manyfest.stores.base import load, read
from manyfest.stores.copy import copy
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_image
from manyfest.verify.layers import Entry, Layer
from manyfest.verify.modules import Modules

if TYPE_CHECKING:
    from manyfest.emulate.images import File

BOTH = "linux/amd64,linux/arm64"
FULL = Attest("max", sbom=True)
PROVENANCE, SBOM = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document"
STATUS = (
    b"Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b7\n\n"
    b"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
)
DEBIAN = b'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n'


def statements_of(built: Built, at: int = 0) -> dict[str, dict[str, Any]]:
    """By predicate type, as somebody who has only the pushed index finds them."""
    store = Memory("target")
    index = push(built, store, ["1"])
    digest = str(image_of(built, at).digest)
    entry = next(each for each in index.index.manifests if each.attests == digest)
    manifest = load(store, entry).manifest
    found = {}
    for layer in manifest.layers:
        assert layer.media_type == IN_TOTO
        said = json.loads(read(store, layer))
        assert said["predicateType"] == layer.annotations["in-toto.io/predicate-type"]
        assert said["_type"] == "https://in-toto.io/Statement/v1"
        assert said["subject"] == [{"name": "_", "digest": {"sha256": digest.removeprefix("sha256:")}}]
        found[said["predicateType"]] = said["predicate"]
    return found


@pytest.fixture
def app(kitchen: Kitchen) -> Kitchen:
    """A project on a base with packages."""
    base = kitchen.base("debian")
    files: dict[str, File] = {
        "var/lib/dpkg/status": (STATUS, 0o644),
        "usr/lib/os-release": (DEBIAN, 0o644),
        "etc/os-release": "../usr/lib/os-release",
        "usr/lib/python3/dist-packages/PyYAML-6.0.1.dist-info/METADATA": (b"x", 0o644),
        "usr/lib/node_modules/@scope/name/package.json": (b"{}", 0o644),
    }
    base_index = [make_image(base, platform, files=files) for platform in BOTH.split(",")]
    entries = [
        document.descriptor.with_platform(Platform.parse(platform))
        for document, platform in zip(base_index, BOTH.split(","), strict=True)
    ]
    from manyfest.indexes.edit import build

    base.tag(build(entries, type="oci"), "1")
    kitchen.write("Dockerfile", "ARG V\nFROM debian\nARG V\nARG API_TOKEN\nCOPY hello /opt/hello\n")
    kitchen.write("hello", "hello\n")
    return kitchen


def test_the_form_is_buildkits(app: Kitchen) -> None:
    """https://docs.docker.com/build/metadata/attestations/attestation-storage/"""
    built = app.build(platforms=BOTH, attest=FULL)
    entries = built.index.index.manifests
    assert [str(entry.platform) for entry in entries] == [
        *BOTH.split(","),
        "unknown/unknown",
        "unknown/unknown",
    ]
    for at, entry in enumerate(entries[2:]):
        assert entry.media_type == mediatypes.OCI_MANIFEST
        assert entry.annotations == {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": str(entries[at].digest),
        }
        manifest = built.resolve(str(entry.digest)).manifest
        config = json.loads(read(built, manifest.config))
        assert (config["os"], config["architecture"]) == ("unknown", "unknown")
        assert config["rootfs"]["diff_ids"] == [str(layer.digest) for layer in manifest.layers]
        assert [layer.annotations["in-toto.io/predicate-type"] for layer in manifest.layers] == [
            SBOM,
            PROVENANCE,
        ]


def test_nobody_who_does_not_ask_gets_any(app: Kitchen) -> None:
    """And the images are the same with and without."""
    plain, attested = app.build(platforms=BOTH), app.build(platforms=BOTH, attest=FULL)
    assert len(plain.index.index.manifests) == 2
    assert plain.index.index.manifests == attested.index.index.manifests[:2]


def test_the_same_twice(app: Kitchen, tmp_path: Any) -> None:
    """In another folder too; and the second build sends nothing."""
    first = app.build(platforms=BOTH, attest=FULL)
    (tmp_path / "elsewhere").mkdir()
    other = Kitchen(tmp_path / "elsewhere")
    other.bases = app.bases
    other.write("Dockerfile", (app.folder / "Dockerfile").read_text())
    other.write("hello", "hello\n")
    assert other.build(platforms=BOTH, attest=FULL).index.digest == first.index.digest
    target, events = Memory("target"), list[Any]()
    push(first, target, ["1"])
    push(app.build(platforms=BOTH, attest=FULL), target, ["1"], on_event=events.append)
    assert events == []


def test_copies_keep_them_and_choosing_drops_those_of_others(app: Kitchen) -> None:
    """As every attestation; a rebuild has its own."""
    source, target = Memory("source"), Memory("target")
    built = app.build(platforms=BOTH, attest=FULL)
    push(built, source, ["1"])
    copy(source, source.resolve("1"), target, "1")
    assert target.resolve("1") == built.index
    for entry in target.resolve("1").index.manifests:
        for layer in load(target, entry).manifest.layers:
            assert target.exists(layer)
    kept = keep(built.index, [Platform.parse("linux/arm64")]).index.manifests
    assert [each.attests for each in kept] == ["", str(kept[0].digest)]
    app.write("hello", "changed\n")
    again = push(app.build(platforms=BOTH, attest=FULL), source, ["1"]).index.manifests
    assert [each.attests for each in again[2:]] == [str(each.digest) for each in again[:2]]


def test_provenance(app: Kitchen) -> None:
    """Bases with digests, arguments without secrets, commit, builder, platform."""
    revision = Revision("c" * 40, "v1", "https://example.org/acme/app.git")
    app.write("sub/Dockerfile.dev")
    built = app.build(
        platforms=BOTH,
        attest=Attest("max", builder_id="https://ci.example.org/7"),
        args=(("V", "1.2"), ("API_TOKEN", "hunter2"), ("HTTP_PROXY", "http://proxy")),
        labels=(("a", "b"),),
        revision=revision,
        epoch=5,
    )
    said = statements_of(built, 1)[PROVENANCE]
    pin = {"uri": "git+https://example.org/acme/app.git", "digest": {"gitCommit": "c" * 40}}
    base = app.base("debian").resolve("1").index.manifests[1].digest
    assert said["buildDefinition"] == {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "configSource": {**pin, "path": "Dockerfile"},
            "request": {
                "platform": "linux/arm64",
                "target": "",
                "args": {"API_TOKEN": REDACTED, "V": "1.2"},
                "labels": {"a": "b"},
            },
        },
        "internalParameters": {"builderPlatform": "linux/amd64", "builder": "embedded", "sourceDateEpoch": 5},
        "resolvedDependencies": [
            {"uri": "pkg:docker/debian@latest?platform=linux%2Farm64", "digest": {"sha256": base.hex}},
            pin,
        ],
    }
    details = said["runDetails"]
    assert details["builder"]["id"] == "https://ci.example.org/7"
    assert details["metadata"]["manyfest_vcs"] == {
        "source": "https://example.org/acme/app.git",
        "revision": "c" * 40,
    }
    assert b"hunter2" not in b"".join(each.raw for _, all in built.attestations for each in all)


def test_provenance_without_values(app: Kitchen) -> None:
    """``mode=min``; and a commit that files differ from is no source."""
    revision = Revision("c" * 40, "v1-dirty", "git@example.org:acme/app", is_clean=False)
    app.write(
        "manyfest.yaml", "image: a\ncompile: {run: 'echo hi > hello; true --key=1', outputs: [hello]}\n"
    )
    built = app.build(attest=Attest("min"), args=(("V", "1.2"),), revision=revision)
    said = statements_of(built)[PROVENANCE]
    assert said["buildDefinition"]["externalParameters"] == {
        "configSource": {"path": "Dockerfile"},
        "request": {"platform": "linux/amd64", "target": ""},
        "compile": {"toolchain": "custom", "outputs": ["hello"]},
    }
    assert len(said["buildDefinition"]["resolvedDependencies"]) == 1
    assert said["runDetails"]["builder"]["id"] == BUILDER
    assert said["runDetails"]["metadata"] == {
        "manyfest_completeness": {"request": False, "resolvedDependencies": False},
        "manyfest_vcs": {"source": "git@example.org:acme/app", "revision": f"{'c' * 40}-dirty"},
    }


def test_every_image_that_was_used(app: Kitchen) -> None:
    """``COPY --from`` and what was built before too; each once; a folder's path stays at home."""
    make_image(app.base("oci:tools"), "linux/amd64", files={"x": (b"x", 0o644)}, tag="1")
    make_image(app.base("localhost:5000/first"), "linux/amd64", files={"out/y": (b"y", 0o644)}, tag="1")
    app.write("Dockerfile.build", "FROM localhost:5000/first:1.0\n")
    app.bases["localhost:5000/first:1.0"] = app.bases["localhost:5000/first"]
    text = "FROM debian AS a\nFROM debian\nCOPY --from=a /etc/os-release /x\nCOPY --from=oci:tools /x /y\nCOPY out /o\n"
    said = statements_of(app.build(text, attest=Attest("max")))[PROVENANCE]["buildDefinition"]
    assert [each.get("uri") or each["name"] for each in said["resolvedDependencies"]] == [
        "pkg:docker/debian@latest?platform=linux%2Famd64",
        "image for linux/amd64",
        "pkg:docker/localhost%3A5000/first@1.0?platform=linux%2Famd64",
    ]
    assert said["externalParameters"]["request"]["first"] == "Dockerfile.build"


def test_sbom(app: Kitchen) -> None:
    """Packages of base and image, files of the image, in SPDX's form."""
    said = statements_of(app.build(platforms=BOTH, attest=FULL, epoch=86400))[SBOM]
    assert (said["spdxVersion"], said["dataLicense"]) == ("SPDX-2.3", "CC0-1.0")
    assert said["creationInfo"]["created"] == "1970-01-02T00:00:00Z"
    locators = [each["externalRefs"][0]["referenceLocator"] for each in said["packages"][1:]]
    assert locators == [
        "pkg:deb/debian/bash@5.2.15-2%2Bb7?distro=debian-12",
        "pkg:npm/%40scope/name",
        "pkg:pypi/pyyaml@6.0.1",
    ]
    (file,) = said["files"]
    assert file["fileName"] == "./opt/hello"
    assert file["checksums"] == [
        {"algorithm": "SHA1", "checksumValue": hashlib.sha1(b"hello\n").hexdigest()},
        {"algorithm": "SHA256", "checksumValue": hashlib.sha256(b"hello\n").hexdigest()},
    ]
    assert "comment" not in said
    check_spdx(said)


def check_spdx(said: dict[str, Any]) -> None:
    """What the specification demands of a document: fields, unique ids of its form, relationships that lead to them."""
    assert {"SPDXID", "name", "documentNamespace", "creationInfo"} <= said.keys()
    assert re.fullmatch(r"https://[^#\s]+", said["documentNamespace"])
    ids = ["SPDXRef-DOCUMENT", *(each["SPDXID"] for each in (*said["packages"], *said.get("files", ())))]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", each) for each in ids)
    for each in said["packages"]:
        assert {"name", "downloadLocation"} <= each.keys()
        assert each["filesAnalyzed"] is False
    assert all(
        re.fullmatch(r"[0-9a-f]{40}", each["checksums"][0]["checksumValue"]) for each in said.get("files", ())
    )
    related = [(each["spdxElementId"], each["relatedSpdxElement"]) for each in said["relationships"]]
    assert related[0] == ("SPDXRef-DOCUMENT", "SPDXRef-Image")
    assert [other for _, other in related] == ids[1:]


def test_what_an_sbom_does_not_say(app: Kitchen) -> None:
    """Is said: to the person who builds, and in the document."""
    base = app.base("fedora")
    base.tag(make_image(base, files={"var/lib/rpm/rpmdb.sqlite": (b"x", 0o644)}), "1")
    said = statements_of(app.build("FROM fedora\nCOPY hello /\n", attest=FULL))[SBOM]
    assert said["comment"] == "packages of rpm are not read"
    assert "the SBOM of linux/amd64 is not whole: packages of rpm are not read" in app.warnings


def test_too_many_files() -> None:
    """Are counted; what is under a file that a later layer took away is not there."""
    layer = Layer("a", entries={f"f/{number}": Entry("f") for number in range(MAX_FILES + 1)})
    known = {path: Sum("1", "2") for path in layer.entries}
    found = contents_of([layer], [known])
    assert (found.files, found.comment) == (
        {},
        f"{MAX_FILES + 1} files are not listed: more than {MAX_FILES}",
    )
    gone = Layer("b", whiteouts={"f": "w"})
    assert contents_of([layer, gone], [known, {}]).files == {}
    assert contents_of([layer, Layer("c")], [{"f/1": Sum("1", "2")}, {}]).files == {"f/1": Sum("1", "2")}


@pytest.mark.parametrize(
    ("text", "distro"),
    [
        ("ID=alpine\nVERSION_ID=3.20.1\n", "pkg:apk/alpine/musl@1.2?distro=alpine-3.20.1"),
        ("ID='chimera'\n", "pkg:apk/chimera/musl@1.2?distro=chimera"),
        ("ID=a b; rm\n", "pkg:apk/alpine/musl@1.2"),
        ("", "pkg:apk/alpine/musl@1.2"),
    ],
)
def test_distributions(text: str, distro: str) -> None:
    """As os-release(5) calls them."""
    entries = {
        "etc/os-release": Entry("f", text=text),
        "lib/apk/db/installed": Entry("f", text="musl\t1.2\n"),
    }
    contents = contents_of([Layer("a", entries=entries)], [])
    image_document = make_image(Memory())
    made = document(image_document, "linux/amd64", contents, 0)["packages"][1]
    assert made["externalRefs"][0]["referenceLocator"] == distro


def go_program(*lines: str, version: str = "go1.22.1", before: bytes = b"") -> bytes:
    """The bytes around Go's build information, as its linker writes them since 1.18."""
    module = b"0" * 16 + "".join(f"{line}\n" for line in lines).encode() + b"1" * 16

    def text(data: bytes) -> bytes:
        length, out = len(data), b""
        while length > 0x7F:
            out += struct.pack("B", length & 0x7F | 0x80)
            length >>= 7
        return out + struct.pack("B", length) + data

    header = b"\xff Go buildinf:\x08\x02" + bytes(16)
    return b"\x7fELF" + before + header + text(version.encode()) + text(module) + bytes(64)


GO = go_program(
    "path\texample.org/app",
    "mod\texample.org/app\t(devel)\t",
    "dep\tgolang.org/x/sys\tv0.20.0\th1:x=",
    "dep\texample.org/old\tv1.0.0",
    "=>\texample.org/new\tv1.1.0\th1:y=",
    "build\t-compiler=gc",
    # A program that reads such information has the mark among its constants.
    before=b"\xff Go buildinf:" + b"\0" * 100,
)
MODULES = [
    ("example.org/app", ""),
    ("stdlib", "1.22.1"),
    ("golang.org/x/sys", "v0.20.0"),
    ("example.org/new", "v1.1.0"),
]


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_modules_of_a_go_program(size: int) -> None:
    """In pieces of any size."""
    reader = Modules()
    for at in range(0, len(GO), size):
        reader.feed(GO[at : at + size])
    assert reader.found() == MODULES


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff Go buildinf:",
        b"\xff Go buildinf:\x08\x00" + bytes(64),
        b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\xff\xff\xff\xff\xff\x7f",
        go_program(version="rust"),
    ],
)
def test_no_modules(raw: bytes) -> None:
    """Damaged, old, or no Go."""
    reader = Modules()
    reader.feed(raw)
    assert reader.found() == []


def test_go_modules_are_packages(app: Kitchen) -> None:
    """With the file that they are in, and again from the cache."""
    app.write("hello", GO, 0o755)
    for _ in range(2):
        said = statements_of(app.build(attest=FULL))[SBOM]
        found = {
            each["name"]: (each["externalRefs"][0]["referenceLocator"], each["sourceInfo"])
            for each in said["packages"]
            if each["sourceInfo" if "sourceInfo" in each else "name"].startswith("module")
        }
        assert found["stdlib"] == ("pkg:golang/stdlib@1.22.1", "module of /opt/hello")
        assert found["golang.org/x/sys"][0] == "pkg:golang/golang.org/x/sys@v0.20.0"
        assert len(found) == len(MODULES)
        check_spdx(said)


def test_a_damaged_layer_has_no_sums(app: Kitchen) -> None:
    """It is an error that names it."""
    from manyfest.build.cache import Cache
    from manyfest.content.descriptor import Descriptor
    from manyfest.stores.base import put_bytes

    store = Memory("place")
    layer = Descriptor.of(b"no archive" * 100, mediatypes.OCI_LAYER)
    put_bytes(store, layer, b"no archive" * 100)
    with pytest.raises(BuildError, match=r"place: layer sha256:.*: a damaged tar archive"):
        sums_of(store, layer, Cache(str(app.cache_folder)))


def test_docker_has_none(app: Kitchen) -> None:
    """Said before anything is built."""
    with pytest.raises(InputError, match="attestations in Docker's format"):
        app.build(attest=FULL, type="docker")


@pytest.mark.parametrize(
    ("provenance", "sbom", "expected"),
    [
        ("", "", Attest()),
        ("true", "true", Attest("max", sbom=True)),
        ("false", "false", Attest()),
        ("mode=min", "", Attest("min")),
        ("mode=max,builder-id=https://a/b=c", "", Attest("max", builder_id="https://a/b=c")),
        ("builder-id=x,version=v1", "", Attest("max", builder_id="x")),
    ],
)
def test_docker_buildxs_words(provenance: str, sbom: str, expected: Attest) -> None:
    """Scripts need not change them."""
    assert Attest.parse(provenance, sbom) == expected


@pytest.mark.parametrize(
    ("provenance", "sbom"), [("mode=most", ""), ("version=v0.2", ""), ("", "generator=x"), (".", "")]
)
def test_other_words(provenance: str, sbom: str) -> None:
    """A folder that the option swallowed, and what is not done here."""
    with pytest.raises(InputError):
        Attest.parse(provenance, sbom)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("VERSION", "1.2", True),
        ("PUBLIC_KEY", "abc", True),
        ("NPM_TOKEN", "abc", False),
        ("db_password", "abc", False),
        ("INDEX", "https://ann:pw@example.org/", False),
        ("INDEX", "https://example.org/a:b@c", True),
        ("X", "-----BEGIN OPENSSH PRIVATE KEY-----", False),
        ("X", "ghp_0123456789abcdefghij", False),
        ("X", "AKIAIOSFODNN7EXAMPLE", False),
        ("X", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x", False),
    ],
)
def test_secrets_are_not_told(name: str, value: str, shown: bool) -> None:
    """By name, and by value."""
    assert redacted(name, value) == (value if shown else REDACTED)


@pytest.mark.parametrize(
    ("origin", "uri"),
    [
        ("https://example.org/a.git", "git+https://example.org/a.git"),
        ("ssh://git@example.org/a", "git+ssh://git@example.org/a"),
        ("git@example.org:acme/a.git", "git+ssh://git@example.org/acme/a.git"),
        ("/srv/git/a", ""),
        ("file:///srv/git/a", ""),
        ("", ""),
    ],
)
def test_where_a_commit_is_from(origin: str, uri: str) -> None:
    """Only places that others reach."""
    assert Revision("c", "", origin).uri == uri


def test_package_urls() -> None:
    """https://github.com/package-url/purl-spec/blob/main/purl-specification.md"""
    digest = f"sha256:{'a' * 64}"
    assert image(f"ghcr.io/a/b:1@{digest}", "linux/arm/v7") == (
        f"pkg:docker/ghcr.io/a/b?digest={digest}&platform=linux%2Farm%2Fv7"
    )
    assert package("dpkg", "libstdc++6", "1:2~rc1", "debian") == "pkg:deb/debian/libstdc%2B%2B6@1:2~rc1"
    assert Contents((), {}).comment == ""
