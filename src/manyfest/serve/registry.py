# SPDX-License-Identifier: Apache-2.0
"""An embedded registry: OCI image layouts behind the distribution protocol.

The application knows nothing of sockets; :class:`manyfest.serve.http.Server` gives it one::

    with Server(RegistryApp("/srv/registry"), port=5000) as server:
        ...                                              # docker push localhost:5000/app:1

Repository ``team/app`` is the layout in ``ROOT/team/app``, so every tool that reads layouts reads the registry's
storage too (``oci:ROOT/team/app:1``), and a layout copied there is served.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from manyfest.content import mediatypes
from manyfest.content.document import MAX_BYTES, Document, successors
from manyfest.errors import Error
from manyfest.serve.access import BasicGuard, Need
from manyfest.serve.exchange import Cut, File, Response
from manyfest.serve.names import check_digest, check_name, check_tag
from manyfest.serve.problems import Problem
from manyfest.serve.repositories import UPLOADS, Repositories
from manyfest.serve.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.digest import Digest
    from manyfest.serve.access import Guard
    from manyfest.serve.exchange import Request
    from manyfest.serve.repositories import Repository
    from manyfest.serve.uploads import Upload

    Handler = Callable[..., Response]

__all__ = ["RegistryApp"]

PAGE = 10_000
"""Entries of a list in one answer, and the most that ``n`` can ask for."""

_ROUTES = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"/v2/?", "base"),
        (r"/v2/_catalog", "catalog"),
        (r"/v2/(.+)/blobs/uploads/?", "uploads"),
        (r"/v2/(.+)/blobs/uploads/([^/]+)", "upload"),
        (r"/v2/(.+)/blobs/([^/]*)", "blob"),
        (r"/v2/(.+)/manifests/([^/]*)", "manifest"),
        (r"/v2/(.+)/referrers/([^/]*)", "referrers"),
        (r"/v2/(.+)/tags/list", "tags"),
    )
)
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]+|\*))?")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


class RegistryApp:
    """Serves and stores below ``root``.

    ``users`` maps names to passwords and asks for one of them on every request (basic authentication); ``guard``
    replaces that by another way to decide, such as :class:`manyfest.serve.tokens.TokenGuard`. ``sparse`` accepts
    indexes whose manifests are not all here. ``read_only`` refuses everything that would change something.
    ``durable=False`` leaves out the syncs to disk, for storage that need not outlive a crash of the machine.
    """

    def __init__(
        self,
        root: str,
        *,
        read_only: bool = False,
        users: Mapping[str, str] | None = None,
        guard: Guard | None = None,
        sparse: bool = False,
        durable: bool = True,
    ) -> None:
        self.root = root
        self.read_only = read_only
        self.sparse = sparse
        self._guard = guard or (BasicGuard(users) if users is not None else None)
        self._repositories = Repositories(root, durable=durable)
        self._uploads = Uploads(f"{root}/{UPLOADS}", durable=durable)
        self._handlers: dict[tuple[str, str], Handler] = {
            ("base", "GET"): self._base,
            ("catalog", "GET"): self._catalog,
            ("uploads", "POST"): self._begin_upload,
            ("upload", "GET"): self._upload_status,
            ("upload", "PATCH"): self._append,
            ("upload", "PUT"): self._finish_upload,
            ("upload", "DELETE"): self._cancel_upload,
            ("blob", "GET"): self._blob,
            ("blob", "DELETE"): self._delete_blob,
            ("manifest", "GET"): self._manifest,
            ("manifest", "PUT"): self._put_manifest,
            ("manifest", "DELETE"): self._delete_manifest,
            ("referrers", "GET"): self._referrers,
            ("tags", "GET"): self._tags,
        }

    def handle(self, request: Request) -> Response:
        """Answer one request. Only :class:`~manyfest.serve.exchange.Cut` and bad framing pass through."""
        try:
            response = self._dispatch(request)
        except Cut:
            raise
        except Problem as problem:
            response = problem.response()
        except (Error, OSError) as error:
            response = Problem.of(error).response()
        response.headers.setdefault("Docker-Distribution-Api-Version", "registry/2.0")
        return response

    def __repr__(self) -> str:
        return f"RegistryApp({self.root!r}{', read_only' if self.read_only else ''})"

    def _dispatch(self, request: Request) -> Response:
        if self._guard is not None and (answer := self._guard.answer(request)) is not None:
            return answer
        kind, arguments = _route(request.path)
        self._authorise(request, kind, arguments)
        method = "GET" if request.method == "HEAD" else request.method
        handler = self._handlers.get((kind, method))
        if handler is None:
            allowed = ", ".join(sorted(m for k, m in self._handlers if k == kind))
            raise Problem(
                405, "UNSUPPORTED", f"{request.method} here is not possible", headers={"Allow": allowed}
            )
        if self.read_only and method != "GET":
            raise Problem(405, "UNSUPPORTED", "this registry is read-only", headers={"Allow": "GET, HEAD"})
        return handler(request, *arguments)

    def _authorise(self, request: Request, kind: str, arguments: tuple[str, ...]) -> None:
        if self._guard is None:
            return
        needs: list[Need] = []
        if kind == "catalog":
            needs.append(Need("registry", "catalog", frozenset({"*"})))
        elif arguments:
            action = _ACTIONS.get(request.method, "push")
            if kind in ("uploads", "upload"):
                action = "push"
            actions = {"pull", "push"} if action == "push" else {action}
            needs.append(Need("repository", check_name(arguments[0]), frozenset(actions)))
            if kind == "uploads" and (source := request.query.get("from")):
                needs.append(Need("repository", check_name(source), frozenset({"pull"})))
        self._guard.check(request, tuple(needs))

    # Base, lists

    def _base(self, _request: Request) -> Response:
        return Response.json(200, {})

    def _catalog(self, request: Request) -> Response:
        page, link = _page(sorted(self._repositories.names()), request, "/v2/_catalog")
        return Response.json(200, {"repositories": page}, link)

    def _tags(self, request: Request, name: str) -> Response:
        tags = sorted(self._repository(name).tags())
        page, link = _page(tags, request, f"/v2/{name}/tags/list")
        return Response.json(200, {"name": name, "tags": page}, link)

    def _referrers(self, request: Request, name: str, text: str) -> Response:
        digest = check_digest(text)
        repository = self._repositories.find(check_name(name))
        wanted = request.query.get("artifactType", "")
        # An empty list, not 404, for a repository that is not there yet: 404 means "no referrers API" to clients.
        found = () if repository is None else repository.referrers(digest, wanted)
        index = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_INDEX,
            "manifests": [entry.to_json() for entry in found],
        }
        headers = {"Content-Type": mediatypes.OCI_INDEX}
        if wanted:
            headers["OCI-Filters-Applied"] = "artifactType"
        return Response.json(200, index, headers)

    # Manifests

    def _manifest(self, request: Request, name: str, reference: str) -> Response:
        _check_reference(reference)
        document = self._repository(name).document(reference)
        if document is None:
            raise Problem(404, "MANIFEST_UNKNOWN", f"{name} has no manifest {reference}")
        _check_accepted(request.headers.get("accept"), document)
        headers = {
            "Content-Type": document.media_type,
            "Docker-Content-Digest": str(document.digest),
            "ETag": f'"{document.digest}"',
        }
        if _is_current(request, document.digest):
            return Response(304, headers)
        return Response(200, headers, document.raw)

    def _put_manifest(self, request: Request, name: str, reference: str) -> Response:
        _check_reference(reference)
        document, subject = _document(request)
        if ":" in reference and check_digest(reference) != document.digest:
            raise Problem(400, "DIGEST_INVALID", f"expected {reference}, got {document.digest}")
        missing = self._missing(check_name(name), document)
        if missing:
            details = [{"digest": str(digest)} for digest in missing]
            message = "the manifest points to content that is not here"
            raise Problem(400, "MANIFEST_BLOB_UNKNOWN", message, details=details)
        repository = self._repositories.create(name)
        repository.add(document, "" if ":" in reference else reference)
        headers = {
            "Location": f"/v2/{name}/manifests/{document.digest}",
            "Docker-Content-Digest": str(document.digest),
        }
        if subject is not None:
            headers["OCI-Subject"] = str(subject.digest)
        return Response(201, headers)

    def _missing(self, name: str, document: Document) -> list[Digest]:
        """Content that the document needs and that is not in its repository. Foreign layers live elsewhere."""
        if self.sparse and document.is_index:
            return []
        repository = self._repositories.find(name)
        needed = [d for d in successors(document) if not mediatypes.is_foreign(d.media_type)]
        gone = (d.digest for d in needed if repository is None or not repository.holds(d))
        return list(dict.fromkeys(gone))

    def _delete_manifest(self, _request: Request, name: str, reference: str) -> Response:
        _check_reference(reference)
        repository = self._repository(name)
        gone = repository.delete(check_digest(reference)) if ":" in reference else repository.untag(reference)
        if not gone:
            raise Problem(404, "MANIFEST_UNKNOWN", f"{name} has no manifest {reference}")
        return Response(202)

    # Blobs

    def _blob(self, request: Request, name: str, text: str) -> Response:
        digest = check_digest(text)
        file = self._repository(name).open(digest)
        if file is None:
            raise Problem(404, "BLOB_UNKNOWN", f"{name} has no blob {digest}")
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": str(digest),
            "ETag": f'"{digest}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": "max-age=31536000, immutable",
        }
        if _is_current(request, digest):
            file.close()
            return Response(304, headers)
        return _slice(request, file, headers)

    def _delete_blob(self, _request: Request, name: str, text: str) -> Response:
        digest = check_digest(text)
        if not self._repository(name).delete_blob(digest):
            raise Problem(404, "BLOB_UNKNOWN", f"{name} has no blob {digest}")
        return Response(202)

    # Uploads

    def _begin_upload(self, request: Request, name: str) -> Response:
        query = request.query
        check_name(name)
        if "mount" in query and self._mount(name, check_digest(query["mount"]), query.get("from", "")):
            return _created(name, check_digest(query["mount"]))
        upload = self._uploads.begin(name)
        if "digest" not in query:
            return _under_way(202, name, upload)
        try:
            return self._commit(request, name, upload)
        finally:
            # The client does not know where this upload is, so it could not go on with it.
            if not upload.ended:
                upload.cancel()

    def _mount(self, name: str, digest: Digest, source_name: str) -> bool:
        """Is the blob here already, or now that it was taken over from another repository?"""
        source = self._repositories.find(check_name(source_name)) if source_name else None
        target = self._repositories.find(name)
        if target is not None and target.has(digest):
            return True
        if source is None or not source.has(digest):
            return False
        return self._repositories.create(name).mount(digest, source)

    def _upload_status(self, _request: Request, name: str, id: str) -> Response:
        return _under_way(204, name, self._uploads.find(check_name(name), id))

    def _append(self, request: Request, name: str, id: str) -> Response:
        upload = self._uploads.find(check_name(name), id)
        self._receive(request, name, upload)
        return _under_way(202, name, upload)

    def _finish_upload(self, request: Request, name: str, id: str) -> Response:
        return self._commit(request, name, self._uploads.find(check_name(name), id))

    def _cancel_upload(self, _request: Request, name: str, id: str) -> Response:
        self._uploads.find(check_name(name), id).cancel()
        return Response(204)

    def _receive(self, request: Request, name: str, upload: Upload) -> None:
        try:
            upload.append(request.body, _start(request))
        except Problem as problem:
            if problem.status == 416:
                problem.headers["Location"] = _upload_path(name, upload)
            raise

    def _commit(self, request: Request, name: str, upload: Upload) -> Response:
        digest = check_digest(request.query.get("digest", ""))
        self._receive(request, name, upload)
        upload.commit(digest, lambda path, size: self._repositories.create(name).adopt(digest, path, size))
        return _created(name, digest)

    def _repository(self, name: str) -> Repository:
        repository = self._repositories.find(check_name(name))
        if repository is None:
            raise Problem(404, "NAME_UNKNOWN", f"no repository {name}")
        return repository


def _route(path: str) -> tuple[str, tuple[str, ...]]:
    """What a path asks for, and its decoded parts.

    An encoded slash is refused rather than decoded: a component would become two.
    """
    if "%" in path:
        if "%2f" in path.lower():
            raise Problem(400, "NAME_INVALID", "a name with an encoded slash")
        path = unquote_to_bytes(path).decode("utf-8", "replace")
    for pattern, kind in _ROUTES:
        match = pattern.fullmatch(path)
        if match is not None:
            return kind, match.groups()
    raise Problem(404, "UNSUPPORTED", "no such path in the distribution protocol")


def _check_reference(text: str) -> None:
    if ":" in text:
        check_digest(text)
    else:
        check_tag(text)


def _check_accepted(accept: str, document: Document) -> None:
    """Refuse only a client that names document types, and not this one; it could not read the answer."""
    accepted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if document.media_type in accepted or not accepted & (mediatypes.DOCUMENTS | mediatypes.SCHEMA1):
        return
    if accepted & {"*/*", "application/*"}:
        return
    message = (
        f"the manifest is of type {document.media_type}, which the request's Accept header does not name"
    )
    raise Problem(404, "MANIFEST_UNKNOWN", message)


def _is_current(request: Request, digest: Digest) -> bool:
    tags = {
        tag.strip().removeprefix("W/").strip('"') for tag in request.headers.get("if-none-match").split(",")
    }
    return str(digest) in tags


def _document(request: Request) -> tuple[Document, Descriptor | None]:
    """The request's body, a manifest or an index with the media type it was sent as; and its subject."""
    raw = bytearray()
    while data := request.body.read(MAX_BYTES + 1 - len(raw)):
        raw += data
        if len(raw) > MAX_BYTES:
            raise Problem(413, "MANIFEST_INVALID", f"a manifest may have {MAX_BYTES} bytes at most")
    try:
        document = Document.parse(bytes(raw), request.headers.get("content-type"))
        view = document.index if document.is_index else document.manifest
    except Error as error:
        raise Problem(400, "MANIFEST_INVALID", str(error)[:1000]) from error
    return document, view.subject


def _slice(request: Request, file: File, headers: dict[str, str]) -> Response:
    """The whole file, or the one range that was asked for (RFC 9110 section 14); several are answered whole."""
    match = _RANGE.fullmatch(request.headers.get("range").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return Response(200, headers, file)
    first, last = match.groups()
    size = file.size
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return Response(200, headers, file)
    else:
        start, end = max(size - int(last), 0), size
    if start >= end:
        file.close()
        where = {"Content-Range": f"bytes */{size}"}
        raise Problem(416, "RANGE_INVALID", f"the blob has {size} bytes", headers=where)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    file.offset, file.size = start, end - start
    return Response(206, headers, file)


def _start(request: Request) -> int | None:
    """Where the client thinks its bytes belong; ``None`` when it does not say (docker streams that way)."""
    text = request.headers.get("content-range").strip()
    if not text:
        return None
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[2]) < int(match[1]):
        raise Problem(400, "BLOB_UPLOAD_INVALID", f"expected Content-Range: FIRST-LAST, got {text[:60]!r}")
    length = request.headers.get("content-length")
    if length.isdigit() and int(length) != int(match[2]) - int(match[1]) + 1:
        raise Problem(400, "SIZE_INVALID", f"Content-Range {text[:60]!r} with {length} bytes")
    return int(match[1])


def _upload_path(name: str, upload: Upload) -> str:
    return f"/v2/{name}/blobs/uploads/{upload.id}"


def _under_way(status: int, name: str, upload: Upload) -> Response:
    return Response(
        status,
        {"Location": _upload_path(name, upload), "Range": upload.range, "Docker-Upload-UUID": upload.id},
    )


def _created(name: str, digest: Digest) -> Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": str(digest)}
    return Response(201, headers)


def _page(entries: list[str], request: Request, path: str) -> tuple[list[str], dict[str, str]]:
    """The entries after ``last``, ``n`` at most, and the ``Link`` to the rest. ``entries`` are sorted."""
    query = request.query
    text = query.get("n", str(PAGE))
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Problem(400, "PAGINATION_NUMBER_INVALID", f"n must be a number, got {text[:40]!r}")
    count = min(int(text), PAGE)
    last = query.get("last", "")
    rest = [entry for entry in entries if entry > last] if last else entries
    page = rest[:count]
    if not page or len(rest) <= count:
        return page, {}
    return page, {"Link": f'<{path}?n={count}&last={quote(page[-1], safe="")}>; rel="next"'}
