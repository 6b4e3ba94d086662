# SPDX-License-Identifier: Apache-2.0
"""Whole images in a store: what is read, what is kept, and what is wrong with documents and layers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.errors import InputError, TooLarge, Unreachable
from manyfest.platforms import Platform
from manyfest.stores.base import put_bytes
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_attestation, make_image, make_index
from manyfest.verify import reading, tree
from manyfest.verify.allow import Allowed, Rule, read_allowed
from manyfest.verify.cache import Cache
from manyfest.verify.image import verify_image
from manyfest.verify.layers import Layer
from manyfest.verify.report import Report
from manyfest.verify.walk import read_layer

if TYPE_CHECKING:
    from manyfest.stores.base import Readable

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x")


class Counting(Memory):
    """Knows which content was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """See Memory."""
        self.opened.append(descriptor.media_type)
        return super().open(descriptor, offset)


@pytest.fixture
def store() -> Counting:
    """Empty."""
    return Counting()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Empty."""
    return Cache(str(tmp_path / "cache"))


def put(store: Memory, fields: dict[str, Any], media_type: str = mediatypes.OCI_MANIFEST) -> Document:
    """A document of JSON."""
    document = Document(media_type, json.dumps(fields).encode())
    put_bytes(store, document.descriptor, document.raw)
    return document


def index(store: Memory, *entries: Descriptor) -> Document:
    """Over entries."""
    fields = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [e.to_json() for e in entries],
    }
    return put(store, fields, mediatypes.OCI_INDEX)


def with_layer(
    store: Memory, blob: bytes, media_type: str = mediatypes.OCI_LAYER_GZIP, **more: Any
) -> Document:
    """An image whose only layer is that."""
    image = make_image(store)
    fields = image.to_json()
    descriptor = Descriptor.of(blob, media_type)
    put_bytes(store, descriptor, blob)
    fields["layers"] = [{**descriptor.to_json(), **more}]
    return put(store, fields)


def found(report: Report) -> list[tuple[str, str]]:
    """Severities and ids, notes left out."""
    return [(finding.severity, finding.check) for finding in report.findings if finding.severity != "note"]


def test_a_good_index(store: Counting, cache: Cache) -> None:
    """Every platform starts; nothing is found."""
    report = verify_image(store, make_index(store, PLATFORMS, attestations=True), cache=cache, strict=True)
    assert report.findings == ()
    assert [image.platform for image in report.images] == list(PLATFORMS)
    starts = [image.start["verdict"] for image in report.images if image.start is not None]
    assert starts == ["starts"] * 4
    assert not report.failed


def test_the_second_look_opens_no_layer(store: Counting, cache: Cache) -> None:
    """Only manifests and configurations; and says the same."""
    root = make_index(store, PLATFORMS)
    first = verify_image(store, root, cache=cache).to_json()
    store.opened.clear()
    again = verify_image(store, root, cache=cache).to_json()
    assert set(store.opened) <= {mediatypes.OCI_CONFIG}
    assert again["work"] == {"layers_read": 0, "layers_cached": 4, "bytes_read": 0, "bytes_unpacked": 0}
    assert {**again, "work": None} == {**first, "work": None}


def test_layers_that_platforms_share_are_read_once(store: Counting, cache: Cache) -> None:
    """Whatever the number of images."""
    image = make_image(store, "linux/amd64")
    other = make_image(store, "linux/amd64", labels={"a": "b"})
    root = index(
        store,
        image.descriptor.with_platform(Platform.parse("linux/amd64")),
        other.descriptor.with_platform(Platform.parse("linux/amd64/v2")),
    )
    report = verify_image(store, root, cache=cache)
    assert report.work.layers_read == 1


def test_only_some_platforms(store: Counting, cache: Cache) -> None:
    """A platform without a variant has all of them; one that is not there is an error of the user's."""
    root = make_index(store, PLATFORMS)
    report = verify_image(store, root, platforms=[Platform.parse("linux/arm")], cache=cache)
    assert [image.platform for image in report.images] == ["linux/arm/v7"]
    with pytest.raises(InputError, match="no image for linux/riscv64"):
        verify_image(store, root, platforms=[Platform.parse("linux/riscv64")], cache=cache)
    image = make_image(store, "linux/amd64")
    with pytest.raises(InputError, match="no image for linux/arm64"):
        verify_image(store, image, platforms=[Platform.parse("linux/arm64")], cache=cache)


def test_an_image_that_is_not_what_it_says(store: Counting, cache: Cache) -> None:
    """The arm64 image holds amd64 code."""
    amd64 = make_image(store, "linux/amd64")
    root = index(store, amd64.descriptor.with_platform(Platform.parse("linux/arm64")))
    report = verify_image(store, root, cache=cache)
    assert found(report) == [("error", "MF101"), ("error", "MF201")]
    assert report.failed
    finding = report.findings[1]
    assert finding.path == "/hello"
    assert finding.says == "exec /hello: exec format error"
    assert finding.layer == str(amd64.manifest.layers[0].digest)


def test_missing_children_and_blobs(store: Counting, cache: Cache) -> None:
    """Each with its own id; what can be looked at is."""
    good = make_image(store, "linux/amd64")
    gone = make_image(store, "linux/arm64")
    no_layer = make_image(store, "linux/s390x")
    no_config = make_image(store, "linux/riscv64")
    entries = [
        document.descriptor.with_platform(Platform.parse(platform))
        for document, platform in (
            (good, "linux/amd64"),
            (gone, "linux/arm64"),
            (no_layer, "linux/s390x"),
            (no_config, "linux/riscv64"),
        )
    ]
    stray = make_attestation(store, Descriptor.of(b"other", mediatypes.OCI_MANIFEST))
    root = index(store, *entries, stray)
    store.delete(gone.descriptor)
    store.delete(no_layer.manifest.layers[0])
    store.delete(no_config.manifest.config)
    report = verify_image(store, root, cache=cache)
    checks = [check for _, check in found(report)]
    assert checks == ["MF106", "MF107", "MF107", "MF108"]


def test_a_known_layer_that_went_away(store: Counting, cache: Cache) -> None:
    """The cache does not hide it."""
    image = make_image(store)
    assert not verify_image(store, image, cache=cache).failed
    store.delete(image.manifest.layers[0])
    assert found(verify_image(store, image, cache=cache)) == [("error", "MF107")]


def test_layers_that_cannot_be_looked_into(store: Counting, cache: Cache) -> None:
    """Said, and fatal only with strict; nothing else is said to be missing."""
    encrypted = with_layer(store, b"secret", f"{mediatypes.OCI_LAYER_GZIP}+encrypted")
    unknown = with_layer(store, b"?", "application/x-squashfs")
    for image in (encrypted, unknown):
        assert found(verify_image(store, image, cache=cache)) == [("warning", "MF501")]
        assert not verify_image(store, image, cache=cache).failed
        assert verify_image(store, image, cache=cache, strict=True).failed
    foreign = with_layer(store, b"far", mediatypes.DOCKER_FOREIGN_LAYER, urls=["https://example.com/l"])
    store.delete(foreign.manifest.layers[0])
    report = verify_image(store, foreign, cache=cache)
    assert found(report) == [("warning", "MF502")]
    assert "https://example.com/l" in report.findings[0].message


@pytest.mark.parametrize(
    ("blob", "limit", "check"),
    [
        (gzip.compress(b"not a tar archive" * 100), 10**9, "MF503"),
        (gzip.compress(bytes(5000))[:-4], 10**9, "MF503"),
        (gzip.compress(bytes(5_000_000)), 10**6, "MF510"),
    ],
)
def test_damaged_layers(store: Counting, cache: Cache, blob: bytes, limit: int, check: str) -> None:
    """An error each, and not kept."""
    image = with_layer(store, blob)
    for _ in range(2):
        assert found(verify_image(store, image, cache=cache, max_bytes=limit)) == [("error", check)]


def test_a_layer_that_is_not_the_configurations(store: Counting, cache: Cache) -> None:
    """Engines refuse it."""
    other = make_image(store, "linux/amd64", seed=1)
    fields = make_image(store, "linux/amd64").to_json()
    fields["layers"] = other.to_json()["layers"]
    assert found(verify_image(store, put(store, fields), cache=cache)) == [("error", "MF110")]
    fields["layers"] *= 2
    checks = found(verify_image(store, put(store, fields), cache=cache))
    assert checks == [("error", "MF109"), ("error", "MF110")]


def test_nested_indexes_and_artifacts(store: Counting, cache: Cache) -> None:
    """Images in an index in an index are looked at; an artifact is noted."""
    inner = make_index(store, ("linux/amd64", "linux/arm64"))
    artifact = make_image(store)
    fields = artifact.to_json()
    fields["config"]["mediaType"] = "application/vnd.acme.config"
    other = put(store, fields)
    platform = Platform.parse("linux/riscv64")
    root = index(store, inner.descriptor, other.descriptor.with_platform(platform))
    report = verify_image(store, root, cache=cache)
    assert [image.platform for image in report.images] == ["linux/amd64", "linux/arm64"]
    assert [finding.check for finding in report.findings] == ["MF111"]


def test_indexes_in_indexes_without_end(store: Counting, cache: Cache) -> None:
    """Only a few deep."""
    root = make_index(store, ("linux/amd64",))
    for _ in range(8):
        root = index(store, root.descriptor)
    assert found(verify_image(store, root, cache=cache)) == [("error", "MF106")]


def test_expected_and_strict(store: Counting, cache: Cache) -> None:
    """A platform that is not there is an error."""
    root = make_index(store, ("linux/amd64",))
    report = verify_image(store, root, expect=[Platform.parse("linux/arm64")], cache=cache)
    assert found(report) == [("error", "MF105")]


def test_errors_of_the_place_are_raised(
    store: Counting, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that is down is no finding."""
    root = make_index(store, PLATFORMS)

    def down(_descriptor: Descriptor, _offset: int = 0) -> Readable:
        raise Unreachable("no route")

    monkeypatch.setattr(store, "open", down)
    with pytest.raises(Unreachable):
        verify_image(store, root, cache=cache)


def test_progress_is_told(store: Counting, cache: Cache) -> None:
    """The plan is what is read."""
    root = make_index(store, PLATFORMS)
    planned: list[int] = []
    heard: list[int] = []
    verify_image(store, root, cache=cache, on_plan=planned.append, on_bytes=heard.append)
    assert planned == [sum(heard)]


def test_allowed_findings_do_not_fail(store: Counting, cache: Cache, tmp_path: Path) -> None:
    """By id, path and platform; the reason is shown."""
    image = make_image(store, "linux/arm64", files={"/app": (b"#!/nowhere\n", 0o755)}, entrypoint=["/app"])
    file = tmp_path / "allow.yaml"
    file.write_text("allow:\n- {id: MF307, path: /a*, platform: linux/arm64, reason: mounted at run time}\n")
    report = verify_image(store, image, cache=cache, allowed=read_allowed(str(file)))
    assert not report.failed
    assert report.findings[0].allowed == "mounted at run time"
    assert report.to_json()["summary"]["allowed"] == 1
    for rule in (
        Rule(("MF308",)),
        Rule(path="/b/**"),
        Rule(("MF307",), platforms=(Platform.parse("linux/386"),)),
    ):
        assert verify_image(store, image, cache=cache, allowed=Allowed((rule,))).failed


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("- {}", "expected an id or a path"),
        ("allow: 5", "expected a list"),
        ("- {id: MF999}", "no check 'MF999'"),
        ("- {id: MF201, pth: /x}", "no key 'pth'"),
        ("- {path: x}", "must start with a slash"),
        ("- {id: 5}", "id must be text"),
        ("a: b: c", "not YAML"),
        ("- {id: MF201, platform: 'a b'}", "a b"),
    ],
)
def test_files_of_allowed_findings_that_are_wrong(tmp_path: Path, text: str, match: str) -> None:
    """With the file and the rule."""
    file = tmp_path / "allow.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=match):
        read_allowed(str(file))


def test_the_file_of_allowed_findings_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is taken without being named; a named one must be there."""
    monkeypatch.chdir(tmp_path)
    assert read_allowed().rules == ()
    (tmp_path / ".manyfest-allow.yaml").write_text("- {path: /opt/**}\n")
    assert read_allowed().rules == (Rule(path="/opt/**"),)
    with pytest.raises(InputError, match="No such file"):
        read_allowed("nowhere.yaml")


def test_links_without_end_are_a_finding(
    store: Counting, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an error of ours."""
    monkeypatch.setattr(tree, "MAX_FOLLOWED", 3)
    image = make_image(store, files={"/a": "b/../b/../b/../c", "/b/x": (b"", 0o644)}, entrypoint=["/a"])
    assert found(verify_image(store, image, cache=cache)) == [("error", "MF504")]


def test_all_layers_together_are_bounded(
    store: Counting, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred layers of a million files each are not held."""
    root = make_index(store, PLATFORMS)
    verify_image(store, make_image(store), cache=cache)
    monkeypatch.setattr(reading, "MAX_ENTRIES", 5)
    with pytest.raises(TooLarge, match="more than 5 files"):
        verify_image(store, root, cache=cache)


ASSETS = Path(__file__).parents[2] / "assets" / "elf"
CHANGES = st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), min_size=1, max_size=30)


@pytest.mark.property
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["amd64", "amd64-runpath", "arm-v7-hard", "s390x", "mips64le", "ppc64le"]), CHANGES)
def test_no_mutated_program_breaks_a_report(name: str, changes: list[tuple[int, int]]) -> None:
    """A report in every form, whatever the program says; and the same again from the cache's form."""
    data = bytearray((ASSETS / name).read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    memory = Memory()
    files = {"/usr/bin/app": (bytes(data), 0o755), "/opt/lib/x.so": (bytes(data), 0o644)}
    image = make_image(memory, "linux/amd64", files=files, entrypoint=["app"])
    report = verify_image(memory, image, cache=Cache(""))
    json.dumps(report.to_json())
    json.dumps(report.to_sarif("1")).encode()
    layer = read_layer(memory.open(image.manifest.layers[0]), image.manifest.layers[0])
    again = Layer.from_json(json.loads(json.dumps(layer.to_json())))
    assert [entry.facts for entry in again.entries.values()] == [e.facts for e in layer.entries.values()]
