# SPDX-License-Identifier: Apache-2.0
"""The registry application, called without a socket."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import MAX_BYTES
from manyfest.serve.exchange import Cut, File, Request, Response
from manyfest.serve.registry import RegistryApp
from manyfest.stores.layout import Layout

EMPTY = b"{}"


class Client:
    """Talks to an application as a client would, over no wire."""

    def __init__(self, app: RegistryApp) -> None:
        self.app = app

    def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.app.handle(Request(method, target, headers=fields, body=body))

    def blob(self, name: str, data: bytes) -> Descriptor:
        digest = Digest.of(data)
        answer = self.send("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data)
        assert answer.status == 201, answer.content()
        return Descriptor("application/octet-stream", digest, len(data))

    def manifest(self, name: str, reference: str = "1", **more: Any) -> tuple[Response, bytes]:
        config = self.blob(name, EMPTY)
        layer = self.blob(name, f"layer of {name}".encode())
        fields = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": {"mediaType": mediatypes.OCI_CONFIG, "digest": str(config.digest), "size": config.size},
            "layers": [{"mediaType": mediatypes.OCI_LAYER, "digest": str(layer.digest), "size": layer.size}],
            **more,
        }
        raw = json.dumps(fields).encode()
        if reference == "@":
            reference = str(Digest.of(raw))
        return self.put(name, reference, raw), raw

    def put(self, name: str, reference: str, raw: bytes, kind: str = mediatypes.OCI_MANIFEST) -> Response:
        return self.send("PUT", f"/v2/{name}/manifests/{reference}", raw, Content_Type=kind)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def client(root: Path) -> Client:
    return Client(RegistryApp(str(root)))


def codes(response: Response) -> list[str]:
    """The error codes of an answer in the specification's form."""
    assert response.headers["Content-Type"] == "application/json"
    return [error["code"] for error in json.loads(response.content())["errors"]]


def test_base_says_which_protocol(client: Client) -> None:
    answer = client.send("GET", "/v2/")
    assert (answer.status, answer.content()) == (200, b"{}")
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/v2/../../etc/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a%2f..%2fb/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/%2e%2e/%2e%2e/blobs/sha256:" + "0" * 64, 400, "NAME_INVALID"),
        ("GET", "/v2/a%00b/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2//etc/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a\\b/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/_uploads/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/App/tags/list", 400, "NAME_INVALID"),
        ("GET", f"/v2/{'a' * 256}/tags/list", 400, "NAME_INVALID"),
        ("POST", "/v2/a/../b/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/a/blobs/uploads/?mount=sha256:" + "0" * 64 + "&from=../b", 400, "NAME_INVALID"),
        ("GET", "/v2/a/manifests/..", 400, "TAG_INVALID"),
        ("GET", "/v2/a/manifests/" + "t" * 129, 400, "TAG_INVALID"),
        ("GET", "/v2/a/manifests/sha256:../../x", 404, "UNSUPPORTED"),
        ("GET", "/v2/a/manifests/md5:abc", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/blobs/sha256:xyz", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/blobs/sha256:" + "0" * 64, 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/manifests/1", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/tags/list", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/referrers/nope", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/blobs/uploads/" + "0" * 32, 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH", "/v2/a/blobs/uploads/..", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PUT", "/v2/a/tags/list", 405, "UNSUPPORTED"),
        ("GET", "/v3/", 404, "UNSUPPORTED"),
    ],
)
def test_bad_requests(client: Client, root: Path, method: str, target: str, status: int, code: str) -> None:
    """Each is refused in the specification's form and leaves nothing on disk."""
    answer = client.send(method, target)
    assert (answer.status, codes(answer)) == (status, [code])
    assert not root.exists()


def test_wrong_method_names_the_right_ones(client: Client) -> None:
    assert client.send("PATCH", "/v2/a/manifests/1").headers["Allow"] == "DELETE, GET, PUT"


def test_manifest_by_tag_and_digest_keeps_bytes_and_type(client: Client) -> None:
    answer, raw = client.manifest("team/app", "1.0")
    digest = str(Digest.of(raw))
    assert answer.status == 201
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Location"] == f"/v2/team/app/manifests/{digest}"
    for reference in ("1.0", digest):
        got = client.send("GET", f"/v2/team/app/manifests/{reference}")
        assert (got.status, got.content()) == (200, raw)
        assert got.headers["Content-Type"] == mediatypes.OCI_MANIFEST
        assert got.headers["Docker-Content-Digest"] == digest


def test_type_without_media_type_field_is_kept_as_pushed(client: Client) -> None:
    """Nothing in such bytes tells Docker's manifest from OCI's; the list in index.json does."""
    _, raw = client.manifest("a")
    fields = json.loads(raw)
    del fields["mediaType"]
    bare = json.dumps(fields).encode()
    digest = Digest.of(bare)
    assert client.put("a", str(digest), bare, mediatypes.DOCKER_MANIFEST).status == 201
    assert (
        client.send("GET", f"/v2/a/manifests/{digest}").headers["Content-Type"] == mediatypes.DOCKER_MANIFEST
    )


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("", 200),
        ("*/*", 200),
        ("application/json", 200),
        (mediatypes.OCI_MANIFEST, 200),
        (f"{mediatypes.DOCKER_LIST}, {mediatypes.OCI_MANIFEST};q=0.5", 200),
        (f"{mediatypes.DOCKER_LIST}, */*;q=0.1", 200),
        (f"{mediatypes.DOCKER_LIST}, {mediatypes.DOCKER_MANIFEST}", 404),
    ],
)
def test_accept(client: Client, accept: str, status: int) -> None:
    client.manifest("a")
    assert client.send("GET", "/v2/a/manifests/1", Accept=accept).status == status


def test_if_none_match(client: Client) -> None:
    _, raw = client.manifest("a")
    answer = client.send("GET", "/v2/a/manifests/1", If_None_Match=f'"{Digest.of(raw)}"')
    assert (answer.status, answer.content()) == (304, b"")


def test_manifest_needs_its_content(client: Client) -> None:
    there = client.blob("a", EMPTY)
    gone = [str(Digest.of(name)) for name in (b"x", b"y")]
    fields = {
        "schemaVersion": 2,
        "config": {"mediaType": mediatypes.OCI_CONFIG, "digest": str(there.digest), "size": 2},
        "layers": [{"mediaType": mediatypes.OCI_LAYER, "digest": digest, "size": 1} for digest in gone],
    }
    answer = client.put("a", "1", json.dumps(fields).encode())
    assert answer.status == 400
    errors = json.loads(answer.content())["errors"]
    assert {error["code"] for error in errors} == {"MANIFEST_BLOB_UNKNOWN"}
    assert [error["detail"]["digest"] for error in errors] == gone
    assert client.send("GET", "/v2/a/manifests/1").status == 404
    assert client.put("never", "1", json.dumps(fields).encode()).status == 400
    assert json.loads(client.send("GET", "/v2/_catalog").content())["repositories"] == ["a"]


def test_foreign_layers_need_not_be_here(client: Client) -> None:
    config = client.blob("a", EMPTY)
    fields = {
        "schemaVersion": 2,
        "config": {"mediaType": mediatypes.DOCKER_CONFIG, "digest": str(config.digest), "size": 2},
        "layers": [{"mediaType": mediatypes.DOCKER_FOREIGN_LAYER, "digest": str(Digest.of(b"w")), "size": 1}],
    }
    assert client.put("a", "1", json.dumps(fields).encode(), mediatypes.DOCKER_MANIFEST).status == 201


@pytest.mark.parametrize(("sparse", "status"), [(False, 400), (True, 201)])
def test_sparse_index(root: Path, sparse: bool, status: int) -> None:
    client = Client(RegistryApp(str(root), sparse=sparse))
    entry = {"mediaType": mediatypes.OCI_MANIFEST, "digest": str(Digest.of(b"")), "size": 3}
    raw = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    assert client.put("a", "1", raw, mediatypes.OCI_INDEX).status == status


@pytest.mark.parametrize(
    ("raw", "kind", "status", "code"),
    [
        (b"<html>", mediatypes.OCI_MANIFEST, 400, "MANIFEST_INVALID"),
        (b"[]", mediatypes.OCI_MANIFEST, 400, "MANIFEST_INVALID"),
        (b'{"schemaVersion":1}', mediatypes.DOCKER_SCHEMA1, 400, "MANIFEST_INVALID"),
        (b'{"schemaVersion":2}', "text/plain", 400, "MANIFEST_INVALID"),
        (b'{"schemaVersion":2,"manifests":[],"layers":[]}', mediatypes.OCI_INDEX, 400, "MANIFEST_INVALID"),
        (b" " * (MAX_BYTES + 1), mediatypes.OCI_INDEX, 413, "MANIFEST_INVALID"),
    ],
)
def test_what_is_no_manifest(
    client: Client, root: Path, raw: bytes, kind: str, status: int, code: str
) -> None:
    answer = client.put("a", "1", raw, kind)
    assert (answer.status, codes(answer)) == (status, [code])
    assert not root.exists()


def test_manifest_under_a_wrong_digest(client: Client) -> None:
    _, raw = client.manifest("a")
    answer = client.put("a", str(Digest.of(b"other")), raw)
    assert (answer.status, codes(answer)) == (400, ["DIGEST_INVALID"])


def test_moved_tag_leaves_the_old_manifest_listed(client: Client, root: Path) -> None:
    _, old = client.manifest("a", "1")
    _, new = client.manifest("a", "1", annotations={"v": "2"})
    assert client.send("GET", "/v2/a/manifests/1").content() == new
    assert client.send("GET", f"/v2/a/manifests/{Digest.of(old)}").content() == old
    entries = json.loads((root / "a/index.json").read_bytes())["manifests"]
    named = {entry["digest"]: entry.get("annotations") for entry in entries}
    assert named == {
        str(Digest.of(old)): None,
        str(Digest.of(new)): {"org.opencontainers.image.ref.name": "1"},
    }


def test_pushing_the_same_tag_again_changes_nothing(client: Client, root: Path) -> None:
    client.manifest("a", "1")
    before = (root / "a/index.json").stat().st_ino
    client.manifest("a", "1")
    assert (root / "a/index.json").stat().st_ino == before


def test_layout_is_readable_by_tag(client: Client, root: Path) -> None:
    _, raw = client.manifest("team/app", "1.0")
    with Layout(str(root / "team/app")) as layout:
        assert layout.resolve("1.0").raw == raw


def test_layout_written_by_others_is_served(client: Client, root: Path) -> None:
    """Also one whose names are full references, as podman writes them."""
    _, raw = client.manifest("made/here", "2")
    (root / "copied").mkdir()
    for path in (root / "made/here").rglob("*"):
        target = root / "copied" / path.relative_to(root / "made/here")
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    index = (root / "copied/index.json").read_text()
    (root / "copied/index.json").write_text(index.replace('"2"', '"quay.io/acme/app:2"'))
    assert client.send("GET", "/v2/copied/manifests/2").content() == raw
    assert json.loads(client.send("GET", "/v2/copied/tags/list").content())["tags"] == ["2"]


def test_nested_repositories_and_names_that_look_like_parts_of_a_layout(client: Client) -> None:
    names = ["a", "a/b", "a/blobs", "a/blobs/sha256", "a/index.json", "a/oci-layout", "blobs", "z/deep/er"]
    contents = {name: client.manifest(name)[1] for name in reversed(names)}
    for name in names:
        assert client.send("GET", f"/v2/{name}/manifests/1").content() == contents[name]
    assert json.loads(client.send("GET", "/v2/_catalog").content()) == {"repositories": names}


def test_delete_tag_keeps_the_manifest(client: Client) -> None:
    _, raw = client.manifest("a")
    digest = Digest.of(raw)
    assert client.send("DELETE", "/v2/a/manifests/1").status == 202
    assert client.send("DELETE", "/v2/a/manifests/1").status == 404
    assert client.send("GET", f"/v2/a/manifests/{digest}").status == 200
    assert json.loads(client.send("GET", "/v2/a/tags/list").content())["tags"] == []


def test_delete_manifest_takes_its_tags(client: Client) -> None:
    _, raw = client.manifest("a", "1")
    client.put("a", "2", raw)
    path = f"/v2/a/manifests/{Digest.of(raw)}"
    assert client.send("DELETE", path).status == 202
    assert client.send("DELETE", path).status == 404
    assert client.send("GET", "/v2/a/manifests/2").status == 404
    assert json.loads(client.send("GET", "/v2/a/tags/list").content())["tags"] == []


def test_blob_is_no_manifest(client: Client) -> None:
    """Not for reading and not for deleting: the manifests path must not reach a layer."""
    blob = client.blob("a", b"layer")
    path = f"/v2/a/manifests/{blob.digest}"
    assert client.send("GET", path).status == 404
    assert client.send("DELETE", path).status == 404
    assert client.send("GET", f"/v2/a/blobs/{blob.digest}").content() == b"layer"


def test_delete_blob(client: Client) -> None:
    path = f"/v2/a/blobs/{client.blob('a', b'x').digest}"
    assert client.send("DELETE", path).status == 202
    assert codes(client.send("DELETE", path)) == ["BLOB_UNKNOWN"]


@pytest.mark.parametrize(
    ("asked", "status", "body", "where"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(client: Client, asked: str, status: int, body: bytes, where: str | None) -> None:
    blob = client.blob("a", b"0123456789")
    answer = client.send("GET", f"/v2/a/blobs/{blob.digest}", Range=asked)
    assert (answer.status, answer.content(), answer.headers.get("Content-Range")) == (status, body, where)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=-0"])
def test_range_beyond_the_end(client: Client, asked: str) -> None:
    blob = client.blob("a", b"0123456789")
    answer = client.send("GET", f"/v2/a/blobs/{blob.digest}", Range=asked)
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */10")


def test_blob_goes_out_as_a_file(client: Client) -> None:
    """So that the server can use sendfile."""
    answer = client.send("GET", f"/v2/a/blobs/{client.blob('a', b'x').digest}")
    assert isinstance(answer.body, File)
    answer.close()


def test_links_in_the_storage_are_not_followed(client: Client, root: Path, tmp_path: Path) -> None:
    client.blob("a", b"x")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    digest = Digest.of(b"secret")
    (root / "a/blobs/sha256" / digest.hex).symlink_to(secret)
    answer = client.send("GET", f"/v2/a/blobs/{digest}")
    assert answer.status != 200
    assert b"secret" not in answer.content().replace(digest.hex.encode(), b"")


# Uploads


def begin(client: Client, name: str = "a") -> str:
    answer = client.send("POST", f"/v2/{name}/blobs/uploads/")
    assert (answer.status, answer.headers["Range"]) == (202, "0-0")
    return answer.headers["Location"]


def test_chunked_upload(client: Client, root: Path) -> None:
    where = begin(client)
    first = client.send("PATCH", where, b"hello ", Content_Range="0-5", Content_Length="6")
    assert (first.status, first.headers["Range"], first.headers["Location"]) == (202, "0-5", where)
    assert client.send("PATCH", where, b"wor").headers["Range"] == "0-8"
    status = client.send("GET", where)
    assert (status.status, status.headers["Range"]) == (204, "0-8")
    digest = Digest.of(b"hello world")
    done = client.send("PUT", f"{where}?digest={digest}", b"ld", Content_Range="9-10")
    assert (done.status, done.headers["Location"]) == (201, f"/v2/a/blobs/{digest}")
    assert client.send("GET", f"/v2/a/blobs/{digest}").content() == b"hello world"
    assert list((root / "_uploads").iterdir()) == []
    assert client.send("GET", where).status == 404


@pytest.mark.parametrize("sent", ["3-8", "7-9"])
def test_chunk_out_of_order(client: Client, sent: str) -> None:
    """A gap or an overlap is refused, with what is there."""
    where = begin(client)
    client.send("PATCH", where, b"hello ")
    answer = client.send("PATCH", where, b"xxx", Content_Range=sent)
    assert (answer.status, codes(answer)) == (416, ["BLOB_UPLOAD_INVALID"])
    assert (answer.headers["Range"], answer.headers["Location"]) == ("0-5", where)


@pytest.mark.parametrize(
    ("sent", "length", "code"),
    [("0-5", "3", "SIZE_INVALID"), ("5-0", "3", "BLOB_UPLOAD_INVALID"), ("x", "3", "BLOB_UPLOAD_INVALID")],
)
def test_content_range_that_makes_no_sense(client: Client, sent: str, length: str, code: str) -> None:
    answer = client.send("PATCH", begin(client), b"abc", Content_Range=sent, Content_Length=length)
    assert (answer.status, codes(answer)) == (400, [code])


def test_wrong_digest_ends_the_upload(client: Client, root: Path) -> None:
    where = begin(client)
    answer = client.send("PUT", f"{where}?digest={Digest.of(b'right')}", b"wrong")
    assert (answer.status, codes(answer)) == (400, ["DIGEST_INVALID"])
    assert client.send("GET", where).status == 404
    assert [p for p in root.rglob("*") if p.is_file()] == []


def test_wrong_digest_in_a_single_request(client: Client, root: Path) -> None:
    answer = client.send("POST", f"/v2/a/blobs/uploads/?digest={Digest.of(b'right')}", b"wrong")
    assert (answer.status, codes(answer)) == (400, ["DIGEST_INVALID"])
    assert [p for p in root.rglob("*") if p.is_file()] == []


def test_put_without_digest_keeps_the_upload(client: Client) -> None:
    where = begin(client)
    assert codes(client.send("PUT", where, b"x")) == ["DIGEST_INVALID"]
    assert client.send("GET", where).status == 204


def test_cancel(client: Client, root: Path) -> None:
    where = begin(client)
    assert client.send("DELETE", where).status == 204
    assert client.send("DELETE", where).status == 404
    assert list((root / "_uploads").iterdir()) == []


def test_upload_belongs_to_its_repository(client: Client) -> None:
    where = begin(client, "a")
    assert client.send("PATCH", where.replace("/v2/a/", "/v2/b/"), b"x").status == 404


class Cutting:
    """A body whose connection is lost after some bytes."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def read(self, size: int = -1, /) -> bytes:
        if not self.pieces:
            raise Cut("gone")
        return self.pieces.pop(0)

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("restart", [False, True])
def test_cut_upload_resumes(client: Client, root: Path, restart: bool) -> None:
    """Also after the server was started anew, when the hash has to be computed from the file."""
    where = begin(client)
    with pytest.raises(Cut):
        client.app.handle(Request("PATCH", where, body=Cutting(b"hello", b" ")))
    if restart:
        client = Client(RegistryApp(str(root)))
    assert client.send("GET", where).headers["Range"] == "0-5"
    digest = Digest.of(b"hello world")
    done = client.send("PUT", f"{where}?digest={digest}", b"world", Content_Range="6-10")
    assert done.status == 201


def test_cut_single_request_leaves_nothing(client: Client, root: Path) -> None:
    target = f"/v2/a/blobs/uploads/?digest={Digest.of(b'hello')}"
    with pytest.raises(Cut):
        client.app.handle(Request("POST", target, body=Cutting(b"hel")))
    assert list((root / "_uploads").iterdir()) == []


def test_newest_request_owns_an_upload(client: Client) -> None:
    """The old connection, dead but not noticed, must not write behind the new one."""
    where = begin(client)
    met, go_on = threading.Event(), threading.Event()
    answers = []

    class Hanging:
        calls = 0

        def read(self, size: int = -1, /) -> bytes:
            self.calls += 1
            if self.calls == 1:
                return b"one "
            met.set()
            assert go_on.wait(10)
            return b"LATE"

        def close(self) -> None:
            """Nothing to close."""

    old = threading.Thread(
        target=lambda: answers.append(client.app.handle(Request("PATCH", where, body=Hanging())))
    )
    old.start()
    assert met.wait(10)
    assert client.send("PATCH", where, b"two", Content_Range="4-6").status == 202
    go_on.set()
    old.join()
    assert answers[0].status == 416
    assert client.send("PUT", f"{where}?digest={Digest.of(b'one two')}").status == 201


def test_sha512(client: Client) -> None:
    data = b"longer"
    digest = f"sha512:{hashlib.sha512(data).hexdigest()}"
    assert client.send("POST", f"/v2/a/blobs/uploads/?digest={digest}", data).status == 201
    assert client.send("GET", f"/v2/a/blobs/{digest}").content() == data


def test_mount_is_a_link(client: Client, root: Path) -> None:
    blob = client.blob("a", b"shared")
    answer = client.send("POST", f"/v2/b/blobs/uploads/?mount={blob.digest}&from=a")
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/b/blobs/{blob.digest}")
    path = f"blobs/sha256/{blob.digest.hex}"
    assert (root / "a" / path).stat().st_ino == (root / "b" / path).stat().st_ino


def test_mount_copies_where_links_cannot_be_made(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = client.blob("a", b"shared")
    client.blob("b", b"makes the repository")

    def refuse(*_args: object, **_kw: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    assert client.send("POST", f"/v2/b/blobs/uploads/?mount={blob.digest}&from=a").status == 201
    assert client.send("GET", f"/v2/b/blobs/{blob.digest}").content() == b"shared"


@pytest.mark.parametrize("source", ["", "&from=a", "&from=nowhere"])
def test_mount_of_what_is_not_there_begins_an_upload(client: Client, source: str) -> None:
    client.blob("a", b"x")
    answer = client.send("POST", f"/v2/b/blobs/uploads/?mount={Digest.of(b'y')}{source}")
    assert answer.status == 202


def test_broken_blob_of_another_tool_is_replaced(client: Client, root: Path) -> None:
    """A file of the wrong size under a digest's name does not count as that content."""
    client.blob("a", b"x")
    digest = Digest.of(b"whole")
    (root / "a/blobs/sha256" / digest.hex).write_bytes(b"who")
    client.blob("a", b"whole")
    assert client.send("GET", f"/v2/a/blobs/{digest}").content() == b"whole"


def test_full_disk(client: Client, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """507 in the specification's form; nothing is left that would keep the disk full."""
    where = begin(client)
    with monkeypatch.context() as patch:

        def full(*_args: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "pwrite", full)
        answer = client.send("PATCH", where, b"data")
        assert (answer.status, codes(answer)) == (507, ["INSUFFICIENT_STORAGE"])
        assert str(root).encode() not in answer.content()
    assert list((root / "_uploads").iterdir()) == []
    assert client.send("GET", where).status == 404
    assert client.send("PUT", f"{begin(client)}?digest={Digest.of(b'data')}", b"data").status == 201


def test_crash_before_the_rename_shows_no_blob(
    client: Client, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_args: object) -> None:
        raise Crash

    where = begin(client)
    monkeypatch.setattr(os, "replace", crash)
    digest = Digest.of(b"data")
    with pytest.raises(Crash):
        client.send("PUT", f"{where}?digest={digest}", b"data")
    monkeypatch.undo()
    assert client.send("GET", f"/v2/a/blobs/{digest}").status == 404
    assert [p.name for p in (root / "a").rglob(".manyfest-*")] == []
    assert client.send("PUT", f"{where}?digest={digest}").status == 201


# Lists


def test_tags_in_pages(client: Client) -> None:
    _, raw = client.manifest("a", "1")
    for tag in ("3", "2", "b", "A"):
        client.put("a", tag, raw)
    seen: list[str] = []
    target = "/v2/a/tags/list?n=2"
    while target:
        answer = client.send("GET", target)
        seen += json.loads(answer.content())["tags"]
        link = answer.headers.get("Link", "")
        target = link.partition(">")[0].removeprefix("<")
        assert not link or link.endswith('>; rel="next"')
    assert seen == ["1", "2", "3", "A", "b"]


def test_no_tags_asked_for(client: Client) -> None:
    client.manifest("a")
    answer = client.send("GET", "/v2/a/tags/list?n=0")
    assert json.loads(answer.content()) == {"name": "a", "tags": []}
    assert "Link" not in answer.headers


@pytest.mark.parametrize("n", ["-1", "x", "²", "9" * 30])
def test_page_size_that_is_no_number(client: Client, n: str) -> None:
    client.manifest("a")
    from urllib.parse import quote

    answer = client.send("GET", f"/v2/a/tags/list?n={quote(n)}")
    assert (answer.status, codes(answer)) == (400, ["PAGINATION_NUMBER_INVALID"])


def test_referrers(client: Client) -> None:
    _, raw = client.manifest("a")
    subject = {"mediaType": mediatypes.OCI_MANIFEST, "digest": str(Digest.of(raw)), "size": len(raw)}
    answer, sbom = client.manifest(
        "a", "@", subject=subject, artifactType="text/sbom", annotations={"k": "v"}
    )
    assert answer.headers["OCI-Subject"] == subject["digest"]
    client.manifest("a", "@", subject=subject, artifactType="text/signature")
    listed = client.send("GET", f"/v2/a/referrers/{subject['digest']}")
    assert listed.headers["Content-Type"] == mediatypes.OCI_INDEX
    assert len(json.loads(listed.content())["manifests"]) == 2
    filtered = client.send("GET", f"/v2/a/referrers/{subject['digest']}?artifactType=text/sbom")
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    (entry,) = json.loads(filtered.content())["manifests"]
    assert (entry["digest"], entry["artifactType"], entry["annotations"]) == (
        str(Digest.of(sbom)),
        "text/sbom",
        {"k": "v"},
    )


def test_referrers_of_nothing_is_an_empty_index(client: Client) -> None:
    """Not 404, which clients take for a registry without the referrers API."""
    answer = client.send("GET", f"/v2/nowhere/referrers/{Digest.of(b'')}")
    assert (answer.status, json.loads(answer.content())["manifests"]) == (200, [])


# Access


def test_read_only(root: Path) -> None:
    Client(RegistryApp(str(root))).manifest("a")
    client = Client(RegistryApp(str(root), read_only=True))
    assert client.send("GET", "/v2/a/manifests/1").status == 200
    for method, target in [
        ("PUT", "/v2/a/manifests/2"),
        ("DELETE", "/v2/a/manifests/1"),
        ("POST", "/v2/b/blobs/uploads/"),
    ]:
        answer = client.send(method, target)
        assert (answer.status, codes(answer)) == (405, ["UNSUPPORTED"])
    assert not (root / "b").exists()


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (basic("ann", "secret"), 200),
        (basic("ann", "wrong"), 401),
        (basic("ann", ""), 401),
        (basic("bob", ""), 401),
        (basic("bob", "secret"), 401),
        ("Basic !!!", 401),
        ("Bearer x", 401),
        ("", 401),
    ],
)
def test_basic_auth(root: Path, authorization: str, status: int) -> None:
    client = Client(RegistryApp(str(root), users={"ann": "secret"}))
    answer = client.send("GET", "/v2/", Authorization=authorization)
    assert answer.status == status
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert b"secret" not in answer.content()


def test_reprs_hold_no_credentials(root: Path) -> None:
    request = Request("GET", "/v2/", headers={"Authorization": basic("ann", "secret")})
    assert basic("ann", "secret") not in f"{request!r} {request.headers!r}"
    assert repr(RegistryApp("/srv", users={"ann": "secret"})) == "RegistryApp('/srv')"


# Several at once


def test_concurrent_tags_lose_nothing(client: Client) -> None:
    _, raw = client.manifest("a", "0")
    tags = [str(n) for n in range(1, 17)]
    threads = [threading.Thread(target=client.put, args=("a", tag, raw)) for tag in tags]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = json.loads(client.send("GET", "/v2/a/tags/list").content())["tags"]
    assert listed == sorted(["0", *tags])


def test_concurrent_uploads_of_the_same_blob(client: Client, root: Path) -> None:
    data = b"same" * 10_000
    digest = Digest.of(data)
    answers: list[int] = []

    def push() -> None:
        answers.append(client.send("POST", f"/v2/new/blobs/uploads/?digest={digest}", data).status)

    threads = [threading.Thread(target=push) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 8
    assert client.send("GET", f"/v2/new/blobs/{digest}").content() == data
    assert list((root / "_uploads").iterdir()) == []
    assert [p.name for p in (root / "new").rglob(".manyfest-*")] == []


def test_abandoned_uploads_are_swept(client: Client, root: Path) -> None:
    (root / "_uploads").mkdir(parents=True)
    old, young = root / "_uploads/old", root / "_uploads/young"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    begin(client)
    assert not old.exists()
    assert young.exists()
