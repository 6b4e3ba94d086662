# SPDX-License-Identifier: Apache-2.0
"""A registry without a socket: a transport that answers as the distribution specification says, or less well.

Tests of what talks to registries hand it to a session. It keeps content in memory, writes down every request, and its
knobs are the ways in which real registries fall short:

    >>> from manyfest.content.descriptor import Descriptor
    >>> from manyfest.stores.base import put_bytes
    >>> registry = InProcess(relative=True)
    >>> store = registry.store("acme/app")
    >>> put_bytes(store, Descriptor.of(b"hello", "text/plain"), b"hello")
    >>> registry.methods
    ['POST', 'PUT']

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from manyfest.content.digest import Digest
from manyfest.content.document import Document
from manyfest.content.mediatypes import OCI_INDEX
from manyfest.errors import Error
from manyfest.stores.base import as_referrer
from manyfest.stores.registry.client import Registry
from manyfest.stores.registry.retry import Clock
from manyfest.stores.registry.session import Session
from manyfest.stores.registry.settings import Settings
from manyfest.stores.registry.transport import Cut, Headers, Request, Response, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["InProcess", "Instant", "Repository"]

_ROUTE = re.compile(
    r"/v2/(?P<name>.+?)/(?:(?P<kind>manifests|blobs|referrers)/(?P<what>[^/]+)|blobs/uploads/(?P<upload>[^/]*)"
    r"|(?P<tags>tags/list))"
)


@dataclass
class Repository:
    """What one repository holds."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class _Upload:
    repository: Repository
    data: bytearray = field(default_factory=bytearray)


class Instant(Clock):
    """A clock whose sleeps take no time; ``slept`` has them, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """See :meth:`Clock.monotonic`."""
        return self.now

    def wall(self) -> float:
        """See :meth:`Clock.wall`."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Time goes on at once."""
        self.slept.append(seconds)
        self.now += seconds

    def jitter(self) -> float:
        """Always the same."""
        return 0.5


class InProcess(Transport):
    """The distribution API over dictionaries. Every keyword is a knob and an attribute that may change between calls.

    ``mounts``: mounts across repositories are accepted. ``referrers``: there is a referrers API (and ``filters``: it
    filters by type). ``min_chunk``: announced as ``OCI-Chunk-Min-Length``, smaller pieces are refused. ``max_body``:
    larger requests get 413. ``head_digest`` and ``digest_header``: ``Docker-Content-Digest`` is sent for HEAD, and at
    all. ``wrong_digest``: the header tells another digest. ``ranges``: downloads honour ``Range``. ``status``: an
    upload can be asked what has arrived. ``keeps``: bytes of a cut request are kept. ``checks``: uploads are compared
    with their digest. ``deletes``: there is DELETE of tags and content. ``relative``: Location is relative.
    ``upload_host``: Location leads there. ``page``: the most tags in a page, with a Link if ``links``.

    ``cuts`` are byte counts: each cuts one upload request once so many bytes of its body have come, and ``cuts_down``
    the same for the bodies of answers. ``hook`` may answer any request in the registry's place.
    """

    def __init__(
        self,
        *,
        mounts: bool = True,
        referrers: bool = True,
        filters: bool = True,
        min_chunk: int = 0,
        max_body: int = 0,
        head_digest: bool = True,
        digest_header: bool = True,
        wrong_digest: bool = False,
        ranges: bool = True,
        status: bool = True,
        keeps: bool = True,
        checks: bool = True,
        deletes: bool = True,
        relative: bool = False,
        upload_host: str = "",
        page: int = 0,
        links: bool = True,
        cuts: tuple[int, ...] = (),
        cuts_down: tuple[int, ...] = (),
        hook: Callable[[Request], Response | None] | None = None,
    ) -> None:
        self.mounts = mounts
        self.referrers = referrers
        self.filters = filters
        self.min_chunk = min_chunk
        self.max_body = max_body
        self.head_digest = head_digest
        self.digest_header = digest_header
        self.wrong_digest = wrong_digest
        self.ranges = ranges
        self.status = status
        self.keeps = keeps
        self.checks = checks
        self.deletes = deletes
        self.relative = relative
        self.upload_host = upload_host
        self.page = page
        self.links = links
        self.cuts = list(cuts)
        self.cuts_down = list(cuts_down)
        self.hook = hook
        self.requests: list[Request] = []
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, _Upload] = {}
        self._lock = threading.RLock()
        self._opened = 0

        self.clock = Instant()
        self._session: Session | None = None

    def session(self) -> Session:
        """A session that sends everything here, reads no file and never waits; the same one every time."""
        if self._session is None:
            nowhere = "/nonexistent"
            settings = Settings(config=nowhere, docker_config=nowhere, certs_d=(), registries_conf=())
            self._session = Session(settings, self, clock=self.clock)
        return self._session

    def store(self, repository: str = "acme/app", *, piece: int = 0) -> Registry:
        """A repository of this registry, as ``localhost:5000/<repository>``."""
        return Registry("localhost:5000", repository, self.session(), piece=piece)

    @property
    def log(self) -> list[str]:
        """``METHOD path?query`` of every request so far."""
        return [f"{r.method} {_target(r.url)}" for r in self.requests]

    @property
    def methods(self) -> list[str]:
        """The methods alone."""
        return [r.method for r in self.requests]

    def repository(self, name: str) -> Repository:
        """The repository of this name; it is there from now on."""
        return self.repositories.setdefault(name, Repository())

    def answer(
        self, request: Request, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """An answer as this registry would give it."""
        fields = {"Content-Length": str(len(body)), **(headers or {})}
        stream = BytesIO(b"" if request.method == "HEAD" else body)
        return Response(status, Headers(fields.items()), stream, request.url)

    def refuse(self, request: Request, status: int, code: str, words: str = "") -> Response:
        """An error as the specification words it."""
        body = json.dumps({"errors": [{"code": code, "message": words or code.lower()}]}).encode()
        return self.answer(request, status, body, {"Content-Type": "application/json"})

    def send(self, request: Request) -> Response:
        """See :meth:`Transport.send`."""
        with self._lock:
            self.requests.append(request)
        hooked = self.hook(request) if self.hook is not None else None
        if hooked is not None:
            return hooked
        target = urlsplit(request.url)
        match = _ROUTE.fullmatch(target.path)
        if match is None:
            return self.answer(request, 404, b"<html></html>", {"Content-Type": "text/html"})
        query = {key: values[0] for key, values in parse_qs(target.query).items()}
        if match["upload"] is not None:
            # The body is read without the lock: several uploads may be under way, and one may raise.
            return self._upload(request, match["name"], match["upload"], query)
        body = self._body(request, bytearray())
        with self._lock:
            return self._answer(request, match, query, bytes(body))

    def _answer(self, request: Request, match: re.Match[str], query: dict[str, str], body: bytes) -> Response:
        repository = self.repositories.get(match["name"])
        if repository is None and request.method != "PUT":
            return self.refuse(request, 404, "NAME_UNKNOWN")
        repository = self.repository(match["name"])
        if match["tags"]:
            return self._tags(request, match["name"], repository, query)
        if match["kind"] == "referrers":
            return self._referrers(request, repository, match["what"], query)
        if match["kind"] == "blobs":
            return self._blob(request, repository, match["what"])
        return self._manifest(request, repository, match["what"], body)

    # Manifests

    def _manifest(self, request: Request, repository: Repository, what: str, body: bytes) -> Response:
        if request.method == "PUT":
            return self._put_manifest(request, repository, what, body)
        digest = repository.tags.get(what, what)
        found = repository.documents.get(digest)
        if found is None:
            return self.refuse(request, 404, "MANIFEST_UNKNOWN", f"unknown {what}")
        if request.method == "DELETE":
            return self._delete_manifest(request, repository, what)
        media_type, raw = found
        return self._content(request, digest, raw, media_type)

    def _put_manifest(self, request: Request, repository: Repository, what: str, body: bytes) -> Response:
        algorithm = what.partition(":")[0] if ":" in what else "sha256"
        digest = str(Digest.of(body, algorithm))
        if ":" in what and what != digest:
            return self.refuse(request, 400, "DIGEST_INVALID")
        media_type = request.headers.get("Content-Type", "")
        try:
            document = Document.parse(body, media_type)
        except Error as error:
            return self.refuse(request, 400, "MANIFEST_INVALID", str(error))
        repository.documents[digest] = (media_type, body)
        if ":" not in what:
            repository.tags[what] = digest
        headers = {"Location": request.url, **self._digest_header(request, digest)}
        subject = (document.index if document.is_index else document.manifest).subject
        if self.referrers and subject is not None:
            headers["OCI-Subject"] = str(subject.digest)
        return self.answer(request, 201, headers=headers)

    def _delete_manifest(self, request: Request, repository: Repository, what: str) -> Response:
        if not self.deletes:
            return self.refuse(request, 405, "UNSUPPORTED")
        if what in repository.tags:
            del repository.tags[what]
            return self.answer(request, 202)
        del repository.documents[what]
        repository.tags = {tag: digest for tag, digest in repository.tags.items() if digest != what}
        return self.answer(request, 202)

    # Blobs

    def _blob(self, request: Request, repository: Repository, digest: str) -> Response:
        data = repository.blobs.get(digest)
        if data is None:
            return self.refuse(request, 404, "BLOB_UNKNOWN")
        if request.method == "DELETE":
            if not self.deletes:
                return self.refuse(request, 405, "UNSUPPORTED")
            del repository.blobs[digest]
            return self.answer(request, 202)
        return self._content(request, digest, data, "application/octet-stream")

    def _content(self, request: Request, digest: str, data: bytes, media_type: str) -> Response:
        headers = {"Content-Type": media_type, **self._digest_header(request, digest)}
        status = 200
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        total = len(data)
        if wanted and self.ranges:
            start = int(wanted[1])
            if start >= total:
                return self.refuse(request, 416, "RANGE_INVALID")
            data = data[start:]
            status = 206
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        response = self.answer(request, status, data, headers)
        if request.method == "GET" and self.cuts_down:
            limit = self.cuts_down.pop(0)
            if limit < len(data):
                return Response(status, response.headers, _CutStream(data, limit), request.url)
        return response

    def _digest_header(self, request: Request, digest: str) -> dict[str, str]:
        if not self.digest_header or (request.method == "HEAD" and not self.head_digest):
            return {}
        algorithm, _, encoded = digest.partition(":")
        shown = "0" * len(encoded) if self.wrong_digest else encoded
        return {"Docker-Content-Digest": f"{algorithm}:{shown}"}

    # Uploads

    def _upload(self, request: Request, name: str, ident: str, query: dict[str, str]) -> Response:
        if request.method == "POST":
            with self._lock:
                return self._open_upload(request, name, query)
        upload = self.uploads.get(ident)
        if upload is None:
            return self.refuse(request, 404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "GET":
            if not self.status:
                return self.refuse(request, 405, "UNSUPPORTED")
            return self.answer(request, 204, headers=self._progress(name, ident, upload))
        if request.method == "DELETE":
            del self.uploads[ident]
            return self.answer(request, 204)
        return self._receive(request, name, ident, upload, query)

    def _open_upload(self, request: Request, name: str, query: dict[str, str]) -> Response:
        repository = self.repository(name)
        if "mount" in query and self.mounts:
            data = self.repository(query.get("from", "")).blobs.get(query["mount"])
            if data is not None:
                repository.blobs[query["mount"]] = data
                return self.answer(request, 201, headers={"Location": f"/v2/{name}/blobs/{query['mount']}"})
        self._opened += 1
        ident = str(self._opened)
        self.uploads[ident] = _Upload(repository)
        least = {"OCI-Chunk-Min-Length": str(self.min_chunk)} if self.min_chunk else {}
        return self.answer(request, 202, headers={**self._where(name, ident), **least})

    def _where(self, name: str, ident: str) -> dict[str, str]:
        path = f"/v2/{name}/blobs/uploads/{ident}?state=s{ident}"
        if self.upload_host:
            return {"Location": f"https://{self.upload_host}{path}"}
        return {"Location": path if self.relative else f"https://localhost:5000{path}"}

    def _progress(self, name: str, ident: str, upload: _Upload) -> dict[str, str]:
        return {**self._where(name, ident), "Range": f"0-{max(len(upload.data) - 1, 0)}"}

    def _receive(
        self, request: Request, name: str, ident: str, upload: _Upload, query: dict[str, str]
    ) -> Response:
        if self.max_body and (request.length or 0) > self.max_body:
            return self.answer(request, 413, b"<html>too large</html>", {"Content-Type": "text/html"})
        before = len(upload.data)
        span = re.fullmatch(r"(\d+)-(\d+)", request.headers.get("Content-Range", ""))
        if span and int(span[1]) != before:
            return self.refuse(request, 416, "RANGE_INVALID")
        try:
            self._body(request, upload.data)
        except Cut:
            if not self.keeps:
                self.uploads.pop(ident, None)
            raise
        if request.method == "PATCH":
            if len(upload.data) - before < self.min_chunk:
                return self.refuse(request, 416, "RANGE_INVALID", "smaller than OCI-Chunk-Min-Length")
            return self.answer(request, 202, headers=self._progress(name, ident, upload))
        return self._commit(request, name, ident, upload, query.get("digest", ""))

    def _commit(self, request: Request, name: str, ident: str, upload: _Upload, digest: str) -> Response:
        data = bytes(upload.data)
        if self.checks and str(Digest.of(data, digest.partition(":")[0])) != digest:
            return self.refuse(
                request, 400, "DIGEST_INVALID", "provided digest did not match uploaded content"
            )
        with self._lock:
            upload.repository.blobs[digest] = data
            self.uploads.pop(ident, None)
        headers = {"Location": f"/v2/{name}/blobs/{digest}", **self._digest_header(request, digest)}
        return self.answer(request, 201, headers=headers)

    def _body(self, request: Request, into: bytearray) -> bytearray:
        """Read a request's body as it would come over a wire, up to the next cut."""
        stream = BytesIO(request.body) if isinstance(request.body, bytes) else request.body
        if stream is None:
            return into
        limit = self.cuts.pop(0) if self.cuts and request.method in ("PUT", "PATCH") else None
        came = 0
        while limit is None or came < limit:
            data = stream.read(4096 if limit is None else min(4096, limit - came))
            if not data:
                break
            came += len(data)
            into += data
        if limit is not None and came >= limit:
            raise Cut(f"{request.method}: cut after {came} bytes")
        if request.length is not None and came != request.length:
            raise AssertionError(f"{request.method} announced {request.length} bytes and sent {came}")
        return into

    # Listings

    def _tags(self, request: Request, name: str, repository: Repository, query: dict[str, str]) -> Response:
        names = [tag for tag in sorted(repository.tags) if tag > query.get("last", "")]
        count = min(int(query.get("n", "0")) or len(names), self.page or len(names))
        headers = {}
        if count < len(names) and self.links:
            target = f"/v2/{name}/tags/list?n={query.get('n', count)}&last={names[count - 1]}"
            headers["Link"] = f'<{target}>; rel="next"'
        body = json.dumps({"name": name, "tags": names[:count] or None}).encode()
        return self.answer(request, 200, body, {"Content-Type": "application/json", **headers})

    def _referrers(
        self, request: Request, repository: Repository, digest: str, query: dict[str, str]
    ) -> Response:
        if not self.referrers:
            return self.answer(request, 404, b"404 page not found\n", {"Content-Type": "text/plain"})
        documents = [Document(media_type, raw) for media_type, raw in repository.documents.values()]
        entries = [e for d in documents if (e := as_referrer(d, Digest.parse(digest))) is not None]
        headers = {}
        if "artifactType" in query and self.filters:
            entries = [e for e in entries if e.artifact_type == query["artifactType"]]
            headers["OCI-Filters-Applied"] = "artifactType"
        if self.page:
            start = int(query.get("at", "0"))
            if start + self.page < len(entries):
                headers["Link"] = f'<{urlsplit(request.url).path}?at={start + self.page}>; rel="next"'
            entries = entries[start : start + self.page]
        fields = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [e.to_json() for e in entries]}
        return self.answer(request, 200, json.dumps(fields).encode(), {"Content-Type": OCI_INDEX, **headers})


class _CutStream:
    """The body of an answer that ends too early."""

    def __init__(self, data: bytes, limit: int) -> None:
        self._stream = BytesIO(data[:limit])
        self._limit = limit

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        if not data and size:
            raise Cut(f"cut after {self._limit} bytes", received=self._limit, answered=True)
        return data

    def close(self) -> None:
        self._stream.close()


def _target(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")
