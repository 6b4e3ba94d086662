# SPDX-License-Identifier: Apache-2.0
"""Whole builds: shared layers, same digests, what is pushed and what is refused."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.unit.build.conftest import HOST, Kitchen, image_of, settings_of

from manyfest.build import bases
from manyfest.build.built import push
from manyfest.build.cache import Cache
from manyfest.build.plan import Options, Planned, plan, source_date_epoch
from manyfest.build.project import load
from manyfest.content import mediatypes
from manyfest.emulate.images import write_image
from manyfest.errors import BuildError, InputError, NotFound, Refused
from manyfest.indexes.nearest import nearest_within
from manyfest.platforms import Platform
from manyfest.stores.base import Store
from manyfest.stores.copy import Event
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_image, make_index

SHARED = "FROM scratch\nARG TARGETARCH\nCOPY data /data\nCOPY bin/$TARGETARCH /app\n"
BOTH = "linux/amd64,linux/arm64"


@pytest.fixture
def app(kitchen: Kitchen) -> Kitchen:
    """Two platforms' programs and data for both."""
    kitchen.write("data/x", "x" * 1000)
    kitchen.write("bin/amd64", "A", 0o755)
    kitchen.write("bin/arm64", "B", 0o755)
    return kitchen


def test_layers_that_are_the_same_are_one(app: Kitchen) -> None:
    """Made once, pushed once."""
    built = app.build(SHARED, BOTH)
    one, other = (image_of(built, at).manifest.layers for at in (0, 1))
    assert one[0] == other[0]
    assert one[1] != other[1]
    assert (built.layers_made, built.layers_reused) == (3, 0)
    assert app.build(SHARED, BOTH).layers_made == 0


def test_same_files_same_digest(app: Kitchen, tmp_path: Path) -> None:
    """In another folder, at another time, by another user's clock."""
    first = app.build(SHARED, BOTH).index.digest
    (tmp_path / "elsewhere").mkdir()
    other = Kitchen(tmp_path / "elsewhere")
    other.write("bin/arm64", "B", 0o755)
    other.write("bin/amd64", "A", 0o755)
    os.utime(other.write("data/x", "x" * 1000), (1, 1))
    assert other.build(SHARED, BOTH).index.digest == first
    assert other.build(SHARED, BOTH, epoch=1).index.digest != first
    other.write("data/x", "y" * 1000)
    assert other.build(SHARED, BOTH).index.digest != first


RECORDED = "sha256:ab8c6d673b3b3e13be2823986b923fb8c49303d56624176b8b1267e64602a784"
EVERYTHING = """\
ARG FROM=scratch
FROM $FROM AS files
COPY --chmod=755 --chown=7:8 bin/$TARGETARCH /app
COPY --link <<EOF /etc/a/b
for ${TARGETPLATFORM} of $FROM
EOF
FROM scratch
ARG TARGETARCH TARGETPLATFORM
ENV A=1 B="two words"
LABEL z=last a=first
WORKDIR /work/räume
COPY --from=files / /
COPY data/ long-LONG/
ADD more.tar /more/
HEALTHCHECK --interval=1m30s CMD ["/app", "--health"]
VOLUME /data
EXPOSE 80 53/udp
STOPSIGNAL SIGINT
USER 1:2
ENTRYPOINT ["/app"]
CMD ["${TARGETARCH}", "x"]
""".replace("LONG", "name" * 40)


def test_the_digest_that_every_machine_makes(app: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded once. Only compressed bytes may differ elsewhere, so nothing is compressed here.

    Whoever has to record it anew changes the digests of everybody's images, and says so in the changelog.
    """
    old = os.umask(0o027)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    try:
        for name in ("bin/amd64", "bin/arm64", "bin/s390x", "data/b", "data/ä", "data/sub/x"):
            app.write(name, name * 100)
        (app.folder / "data/link").symlink_to("sub/x")
        for name in ("data", "data/sub"):
            (app.folder / name).chmod(0o755)
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            for name in ("z", "a"):
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.uid = 1, 12345, 99
                archive.addfile(info, io.BytesIO(b"x"))
        app.write("more.tar", made.getvalue())
        platforms = "linux/amd64,linux/arm64,linux/s390x"
        built = app.build(EVERYTHING, platforms, compression="none", epoch=1_700_000_000)
    finally:
        os.umask(old)
    assert str(built.index.digest) == RECORDED


def test_push_and_push_again(app: Kitchen) -> None:
    """The second time sends nothing."""
    target, events = Memory("target"), list[Event]()
    root = push(app.build(SHARED, BOTH), target, ["1", "latest"], on_event=events.append)
    assert target.resolve("1") == target.resolve("latest") == root
    assert sum(event.kind == "done" for event in events) == 5
    assert events[-1].kind == "tagged"
    events.clear()
    push(app.build(SHARED, BOTH), target, ["1", "latest"], on_event=events.append)
    assert events == []
    push(app.build(SHARED, BOTH), target, ["1", "more"], on_event=events.append)
    assert [event.kind for event in events] == ["tagged"]
    assert target.resolve("more") == root


def test_a_tag_does_not_shrink(app: Kitchen) -> None:
    """Unless told to."""
    target = Memory("target")
    push(app.build(SHARED, BOTH), target, ["1"])
    small = app.build(SHARED, "linux/amd64")
    with pytest.raises(Refused, match="would lose linux/arm64"):
        push(small, target, ["1"])
    push(small, target, ["1"], allow_shrink=True)
    assert len(target.resolve("1").index.manifests) == 1


def test_expected_platforms(app: Kitchen) -> None:
    """Are there, or nothing is pushed."""
    target = Memory("target")
    with pytest.raises(Refused, match="expected linux/s390x, which was not built"):
        push(app.build(SHARED, BOTH), target, ["1"], expect=[Platform.parse("linux/s390x")])
    with pytest.raises(NotFound):
        target.resolve("1")


def test_windows_is_refused_before_anything_is_made(app: Kitchen) -> None:
    """Its layers have a form of their own, and an image without it does not start."""
    with pytest.raises(BuildError, match="windows/amd64: layers for Windows cannot be made here"):
        app.build(SHARED, "linux/amd64,windows/amd64")


def test_places_for_one_platform(app: Kitchen) -> None:
    """Get the image itself, or an error."""
    target = Memory("target")
    with pytest.raises(InputError, match="target holds images of one platform, got 2"):
        push(app.build(SHARED, BOTH), target, ["1"], index=False)
    push(app.build(SHARED, "linux/arm64"), target, ["1"], index=False)
    assert not target.resolve("1").is_index


def test_base_layers_come_from_the_base(app: Kitchen) -> None:
    """Nothing of them is stored here."""
    base = app.base("base")
    make_index(base, ["linux/amd64", "linux/arm64"], docker=True, tag="1")
    built = app.build(SHARED.replace("scratch", "base"), BOTH)
    layer = image_of(built).manifest.layers[0]
    assert built.source_of(layer) is base
    assert layer.media_type == mediatypes.OCI_LAYER_GZIP  # the same bytes under OCI's name
    target: Store = Memory("target")
    push(built, target, ["1"])
    assert target.exists(layer)


def test_bases_without_the_platform(app: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them in one error, each with what it has and who has it."""
    monkeypatch.setattr(bases, "nearest_within", partial(nearest_within, seconds=60.0))
    make_index(app.base("one"), ["linux/amd64", "linux/arm/v6"], tag="1")
    make_index(app.base("one"), ["linux/amd64", "linux/s390x", "linux/ppc64le"], tag="2")
    make_image(app.base("other"), "linux/amd64", tag="1")
    text = "FROM one AS first\nFROM other\nCOPY --from=first /x /y\nCOPY --from=one /x /z\n"
    with pytest.raises(BuildError) as raised:
        app.build(text, "linux/amd64,linux/s390x,linux/arm/v7,linux/ppc64le")
    assert str(raised.value).replace(f"{app.folder}/", "").splitlines() == [
        "Dockerfile:1: one: an index without linux/s390x, linux/ppc64le",
        "Dockerfile:2: other: a single image, not for linux/s390x, linux/arm/v7, linux/ppc64le",
    ]
    assert raised.value.hint.splitlines() == [
        "one: it has linux/amd64, linux/arm/v6; name a base for linux/s390x, linux/ppc64le, or build without them",
        "2 has it (looked at 1 of 1 tags: 1 HEAD, 1 GET)",
        "other: it has linux/amd64; name a base for linux/s390x, linux/arm/v7, linux/ppc64le, or build without them",
        "it has no other tag",
    ]


def test_where_to_look_further(app: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """When none of the few tags that were looked into has it."""
    monkeypatch.setattr(bases, "nearest_within", partial(nearest_within, seconds=60.0))
    for number in range(9):
        make_index(app.base("one"), ["linux/amd64"], tag=str(number), seed=number)
    with pytest.raises(BuildError) as raised:
        app.build("FROM one\n", "linux/s390x,linux/arm64")
    assert raised.value.hint.splitlines()[1] == (
        "none of the 4 tags next to it has it; manyfest resolve one --platform linux/s390x --nearest looks at more"
    )


def test_a_base_that_fails_otherwise(app: Kitchen) -> None:
    """Is told before what other bases lack."""
    make_index(app.base("one"), ["linux/amd64"], tag="1")
    with pytest.raises(BuildError, match="Dockerfile:2: the base nowhere is not there"):
        app.build("FROM one AS first\nFROM nowhere\nCOPY --from=first /x /y\n", BOTH)


def test_tags_are_looked_at_in_registries_only(app: Kitchen) -> None:
    """A folder's tags are seen by whoever has the folder."""
    make_index(app.base("oci:folder"), ["linux/amd64"], tag="1")
    make_index(app.base("oci:folder"), ["linux/amd64", "linux/arm64"], tag="2")
    with pytest.raises(BuildError, match="oci:folder: an index without linux/arm64") as raised:
        app.build("FROM oci:folder\n", BOTH)
    assert raised.value.hint == (
        "it has linux/amd64; name a base for linux/arm64, or build without that platform"
    )


def test_docker_format(app: Kitchen) -> None:
    """Media types throughout; it has no annotations."""
    make_index(app.base("base"), ["linux/amd64", "linux/arm64"], tag="1")
    built = app.build(SHARED.replace("scratch", "base"), BOTH, type="docker")
    assert built.index.media_type == mediatypes.DOCKER_LIST
    manifest = image_of(built).manifest
    assert {layer.media_type for layer in manifest.layers} == {mediatypes.DOCKER_LAYER}
    assert (manifest.config.media_type, manifest.annotations) == (mediatypes.DOCKER_CONFIG, {})
    with pytest.raises(InputError, match="annotations in Docker's format"):
        app.build(SHARED, BOTH, type="docker", annotations=(("a", "b"),))


def test_labels_and_annotations(app: Kitchen) -> None:
    """Labels in every configuration, annotations on images and index."""
    built = app.build(SHARED, BOTH, labels=(("a", "b"),), annotations=(("c", "d"),))
    assert settings_of(built)["Labels"] == {"a": "b"}
    assert built.index.index.annotations == {"c": "d"} == image_of(built, 1).manifest.annotations


def test_a_damaged_cache_is_a_missing_one(app: Kitchen) -> None:
    """Whatever is wrong with it."""
    digest = app.build(SHARED, BOTH).index.digest
    for path in sorted((app.cache_folder / "layers").iterdir()):
        path.write_text("{")
    for path in sorted((app.cache_folder / "blobs").iterdir()):
        path.write_bytes(b"cut")
    (app.cache_folder / "hashes" / "x.json").write_text("[]")
    assert app.build(SHARED, BOTH).index.digest == digest


def test_prune(app: Kitchen) -> None:
    """Old layers go, those of today stay."""
    app.build(SHARED, BOTH)
    cache = Cache(str(app.cache_folder))
    assert cache.prune(0) == 0
    for path in (app.cache_folder / "blobs").iterdir():
        os.utime(path, (0, 0))
    assert cache.prune(0) > 0
    assert list((app.cache_folder / "blobs").iterdir()) == []


def test_another_build_is_faster(app: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it renames or drops while this one tidies up is no error; nor is a layer that goes as it is found."""
    app.build(SHARED, BOTH)
    cache, blobs = Cache(str(app.cache_folder)), app.cache_folder / "blobs"
    kept = len(list(blobs.iterdir()))
    scandir, unlink, utime = os.scandir, os.unlink, os.utime

    def scanned(path: str) -> contextlib.nullcontext[list[os.DirEntry[str]]]:
        with scandir(path) as entries:
            found = list(entries)
        unlink(blobs / ".part")
        return contextlib.nullcontext(found)

    def dropped(path: str | int, **times: Any) -> None:
        if isinstance(path, str):
            unlink(path)
        utime(path, **times)

    (blobs / ".part").touch()
    for path in blobs.iterdir():
        utime(path, (0, 0))
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scanned)
        patched.setattr(os, "unlink", lambda path: (unlink(path), unlink(path)))
        assert cache.prune(1) > 0
    assert not list(blobs.iterdir())
    app.build(SHARED, BOTH)
    assert len(list(blobs.iterdir())) == kept
    with monkeypatch.context() as patched:
        patched.setattr(os, "utime", dropped)
        app.build(SHARED, BOTH)
    assert len(list(blobs.iterdir())) == kept


def test_nothing_is_left_behind(app: Kitchen) -> None:
    """Neither by success nor by failure."""
    app.build(SHARED, BOTH)
    app.write("data/y", "y")
    (app.folder / "data" / "z").symlink_to("nowhere")
    with pytest.raises(Exception, match="nothing"):
        app.build(SHARED + "COPY nothing /\n", BOTH)
    assert [p.name for p in app.cache_folder.rglob("*.part")] == []


def test_dry_run(app: Kitchen) -> None:
    """Per platform: the Dockerfile, pinned bases, the compile step. Nothing is made."""
    make_index(app.base("base"), ["linux/amd64", "linux/arm64"], tag="1")
    app.write("Dockerfile", "FROM base AS b\nFROM scratch\nCOPY --from=b /x /y\n")
    options = Options((Platform.parse("linux/arm64"),))
    made: list[Planned] = plan(
        load(str(app.folder)), options, HOST, app.open_source, Cache(str(app.cache_folder))
    )
    digest = str(app.base("base").resolve("1").index.manifests[1].digest)
    assert made[0].bases == (("b", "base", digest), ("1", "scratch", ""))
    assert made[0].job is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"platforms": ()}, "no platform to build for"),
        ({"jobs": -1}, "-1 jobs: expected a number from 1"),
        ({"compression": "br"}, "compression 'br'"),
        ({"compression": "zstd", "type": "docker"}, "zstd layers in a Docker image"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    """Before anything is done."""
    with pytest.raises(InputError, match=message):
        Options(**{"platforms": (HOST,), **options})  # type: ignore[arg-type]


def test_folders_without_end(app: Kitchen) -> None:
    """A base whose layer nests deeper than anybody needs ends in an error of ours."""
    base = app.base("base")
    base.tag(write_image(base, HOST, [_nested(2000)]), "1")
    with pytest.raises(BuildError, match="nested too deep"):
        app.build("FROM base\nCOPY --from=base / /y\n")


def _nested(depth: int) -> bytes:
    info = tarfile.TarInfo("x/" * depth + "x")
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)


def test_one_platform_twice(app: Kitchen) -> None:
    """Under two spellings."""
    with pytest.raises(InputError, match="linux/arm64/v8 is asked for twice"):
        app.build(SHARED, "linux/arm64,linux/arm64/v8")


@pytest.mark.parametrize(("text", "value"), [("", 0), ("1700000000", 1_700_000_000)])
def test_source_date_epoch(text: str, value: int) -> None:
    """Seconds, or nothing."""
    assert source_date_epoch({"SOURCE_DATE_EPOCH": text}) == value
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH=yesterday"):
        source_date_epoch({"SOURCE_DATE_EPOCH": "yesterday"})
