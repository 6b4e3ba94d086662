# SPDX-License-Identifier: Apache-2.0
"""Places as people write them, and what opens for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyfest.errors import Error, InvalidReference, NotFound
from manyfest.stores.archive import Archive
from manyfest.stores.daemon import DaemonSource, DaemonStore
from manyfest.stores.dockerarchive import DockerArchive, DockerArchiveStore
from manyfest.stores.layout import Layout
from manyfest.stores.places import TRANSPORTS, Place, open_source, open_store
from manyfest.stores.registry.client import Registry
from manyfest.stores.registry.session import Session
from manyfest.stores.registry.settings import Settings
from manyfest.testing import make_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manyfest.stores.base import Source, Store

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def session() -> Iterator[Session]:
    """Nothing is sent."""
    with Session(Settings()) as session:
        yield session


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app", ("docker", "docker.io/library/app", "latest")),
        ("app:1", ("docker", "docker.io/library/app", "1")),
        ("docker://app:1", ("docker", "docker.io/library/app", "1")),
        ("localhost:5000/app", ("docker", "localhost:5000/app", "latest")),
        ("ghcr.io/acme/app:1", ("docker", "ghcr.io/acme/app", "1")),
        (f"ghcr.io/acme/app@{DIGEST}", ("docker", "ghcr.io/acme/app", DIGEST)),
        (f"ghcr.io/acme/app:1@{DIGEST}", ("docker", "ghcr.io/acme/app", DIGEST)),
        ("docker:24", ("docker", "docker.io/library/docker", "24")),
        ("docker://oci:1", ("docker", "docker.io/library/oci", "1")),
        ("docker-dev:1", ("docker", "docker.io/library/docker-dev", "1")),
        ("http:2", ("docker", "docker.io/library/http", "2")),
        ("oci:dir", ("oci", "dir", "")),
        ("oci:/a/b:1.2", ("oci", "/a/b", "1.2")),
        ("oci:dir:ghcr.io/acme/app:1", ("oci", "dir", "ghcr.io/acme/app:1")),
        (f"oci:dir:{DIGEST}", ("oci", "dir", DIGEST)),
        ("oci:dir:", ("oci", "dir", "")),
        ("oci:.", ("oci", ".", "")),
        ("oci-archive:x.tar:1", ("oci-archive", "x.tar", "1")),
        ("docker-archive:x.tar", ("docker-archive", "x.tar", "")),
        ("docker-archive:x.tar:app:1", ("docker-archive", "x.tar", "app:1")),
        ("docker-archive:x.tar:@2", ("docker-archive", "x.tar", "@2")),
        ("docker-daemon:app", ("docker-daemon", "docker.io/library/app", "latest")),
        ("docker-daemon:ghcr.io/acme/app:1", ("docker-daemon", "ghcr.io/acme/app", "1")),
        (f"docker-daemon:{DIGEST}", ("docker-daemon", "", DIGEST)),
    ],
)
def test_parse(text: str, expected: tuple[str, str, str]) -> None:
    """Transport, location, name."""
    place = Place.parse(text)
    assert (place.transport, place.location, place.name) == expected
    assert Place.parse(str(place)) == place


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("docker-daemo:app", InvalidReference, "docker-daemon:"),
        ("dockerdaemon:app", InvalidReference, "docker-daemon:"),
        ("oci_archive:x.tar", InvalidReference, "oci-archive:"),
        ("docker-archiv:x.tar", InvalidReference, "docker-archive:"),
        ("ftp://x/y", InvalidReference, "places are docker:"),
        ("docker:/app", InvalidReference, "docker://"),
        ("dir:/tmp/x", InvalidReference, "skopeo copy"),
        ("containers-storage:app", InvalidReference, "skopeo copy"),
        ("https://ghcr.io/acme/app", InvalidReference, "leave the scheme out"),
        ("oci-layout://dir", InvalidReference, "oci:DIR"),
        ("oci:", InvalidReference, "path after"),
        ("oci::1", InvalidReference, "path after"),
        ("docker-daemon:", InvalidReference, "empty name"),
        ("", InvalidReference, "empty name"),
        ("Not A Name", InvalidReference, "character"),
        ("oci:a\0b", InvalidReference, "null character"),
    ],
)
def test_parse_refuses(text: str, kind: type[Error], words: str) -> None:
    """With what was probably meant."""
    with pytest.raises(kind) as caught:
        Place.parse(text)
    assert words in f"{caught.value} {caught.value.hint}"


def test_reference() -> None:
    """Only of what has a name in a registry."""
    assert str(Place.parse("app").reference) == "docker.io/library/app:latest"
    assert str(Place.parse(f"app@{DIGEST}").reference) == f"docker.io/library/app@{DIGEST}"
    assert str(Place.parse("docker-daemon:app:1").reference) == "docker.io/library/app:1"
    for text in ("oci:x:1", f"docker-daemon:{DIGEST}"):
        with pytest.raises(InvalidReference):
            _ = Place.parse(text).reference


def test_which_places_hold_an_index() -> None:
    """Docker's own formats have one platform per name."""
    kinds = {
        p.transport: p.holds_index
        for p in map(Place.parse, ("a", "oci:a", "oci-archive:a", "docker-archive:a", "docker-daemon:a"))
    }
    assert kinds == {
        "docker": True,
        "oci": True,
        "oci-archive": True,
        "docker-archive": False,
        "docker-daemon": False,
    }
    assert set(kinds) == set(TRANSPORTS)


def test_with_name() -> None:
    """Another tag of the same place."""
    assert str(Place.parse("oci:dir:1").with_name("2")) == "oci:dir:2"
    assert str(Place.parse("ghcr.io/a/b").with_name(DIGEST)) == f"ghcr.io/a/b@{DIGEST}"


@pytest.mark.property
@given(st.text(max_size=40))
def test_any_text_is_a_place_or_our_error(text: str) -> None:
    """And what is one prints as something that reads back as the same."""
    try:
        place = Place.parse(text)
    except Error:
        return
    assert Place.parse(str(place)) == place


@pytest.mark.property
@given(
    st.sampled_from(["oci", "oci-archive", "docker-archive"]),
    st.text(min_size=1, max_size=20),
    st.text(max_size=20),
)
def test_paths_come_back(transport: str, path: str, name: str) -> None:
    """Whatever the path is, as long as it has no colon."""
    text = f"{transport}:{path}:{name}"
    if ":" in path or "\0" in text:
        return
    assert Place.parse(text) == Place(transport, path, name)


def test_open(tmp_path: Path, session: Session) -> None:
    """Each place gives its store; a layout or archive is made for writing only."""
    stores: dict[str, tuple[type[Store], type[Source]]] = {
        "oci:{}/layout:1": (Layout, Layout),
        "oci-archive:{}/oci.tar:1": (Archive, Archive),
        "docker-archive:{}/docker.tar:app:1": (DockerArchiveStore, DockerArchive),
        "ghcr.io/acme/app:1": (Registry, Registry),
        "docker-daemon:app:1": (DaemonStore, DaemonSource),
    }
    for text, (writing, reading) in stores.items():
        place = Place.parse(text.format(tmp_path))
        on_disk = place.location.startswith("/")
        if on_disk:
            with pytest.raises(NotFound):
                open_source(place, session)
        with open_store(place, session) as store:
            assert isinstance(store, writing)
            if on_disk:
                store.tag(make_image(store), place.name)
        with open_source(place, session) as source:
            assert isinstance(source, reading)
            if on_disk:
                assert source.resolve(place.name).manifest.is_image


@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_a_name_that_cannot_be_written_is_refused_before_anything_is(
    transport: str, tmp_path: Path, session: Session
) -> None:
    """And nothing is made."""
    with pytest.raises(InvalidReference, match="character 4 is ' '"):
        open_store(Place(transport, str(tmp_path / "new"), "bad tag"), session)
    assert not (tmp_path / "new").exists()


def test_a_file_is_no_layout(tmp_path: Path, session: Session) -> None:
    """What it is, is said."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotFound, match="a file, expected a directory"):
        open_source(Place("oci", str(tmp_path / "file"), ""), session)


def test_image_id_cannot_be_written_to(session: Session) -> None:
    """It is what the content says."""
    with pytest.raises(InvalidReference, match="image id"):
        open_store(Place.parse(f"docker-daemon:{DIGEST}"), session)
