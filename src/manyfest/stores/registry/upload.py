# SPDX-License-Identifier: Apache-2.0
"""A blob on its way into a repository: opened, sent, resumed after a cut, cancelled when it fails.

``docs/explanation/anatomy-of-an-upload.md`` tells the whole story. In short, the usual upload is two requests::

    POST /v2/<repository>/blobs/uploads/         -> 202, Location: where to send it
    PUT  <location>?digest=<digest>  + content   -> 201

A proxy that refuses the body as too large (413) makes it a chain of PATCH requests. After a cut the registry is asked
what has arrived, and the rest is sent. The bytes are hashed as they leave, and the last of them leave only when the
digest is right, so wrong content never completes even at a registry that does not check.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-blobs
"""

from __future__ import annotations

from manyfest.errors import DigestMismatch, Error, RegistryError, SizeMismatch, Unreachable
from manyfest.stores.registry.endpoint import PUSH
from manyfest.stores.registry.wire import content_digest, is_count, parse_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.content.descriptor import Descriptor
    from manyfest.stores.base import Opener, Readable
    from manyfest.stores.registry.endpoint import Endpoint
    from manyfest.stores.registry.transport import Response

__all__ = ["MAX_IDLE_TRIES", "MAX_TRIES", "PIECE", "Upload", "begin", "cancel"]

MAX_IDLE_TRIES = 4
"""Attempts in a row after which the registry holds no more than before, until the upload is given up."""

MAX_TRIES = 30
"""Attempts of one upload in all."""

PIECE = 32 * 1024 * 1024
"""Bytes per PATCH once a blob has to go in pieces; the usual limits of proxies are 100 MB and up."""

_MIN_PIECE = 1024 * 1024
_PASSING = frozenset({500, 502, 503, 504})
_SENT = (200, 201, 204)


class Upload:
    """One blob. ``run`` returns when the registry has committed it.

    ``location`` is an upload that is open already (a refused mount leaves one), ``piece`` the bytes per request, 0
    for all at once.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        descriptor: Descriptor,
        content: Opener,
        *,
        location: str = "",
        piece: int = 0,
    ) -> None:
        self._endpoint = endpoint
        self._descriptor = descriptor
        self._feed = Feed(descriptor, content, endpoint.place)
        self._location = location
        self._least = 0
        self._piece = piece
        self._at = 0
        self._reached = 0
        self._tries = 0
        self._idle = 0

    def run(self) -> None:
        """Send it. After any exception, an interrupt too, the registry has been told to forget what it got.

        Raises :class:`~manyfest.errors.DigestMismatch` or :class:`~manyfest.errors.SizeMismatch` when the content is
        not what the descriptor says, and what the registry or the content's own place raise.
        """
        try:
            self._run()
        except BaseException:
            cancel(self._endpoint, self._location)
            raise

    def _run(self) -> None:
        if not self._descriptor.size:
            self._feed.open(0, 0).close()
        while True:
            try:
                if not self._location:
                    self._begin()
                refused = self._send()
            except RegistryError as error:
                if self._feed.failed or not _is_passing(error):
                    raise
                refused = error
            if refused is None:
                return
            self._count(refused)
            if self._recover():
                return

    def _begin(self) -> None:
        response = begin(self._endpoint, self._descriptor)
        self._location = self._endpoint.location(response)
        least = response.headers.get("OCI-Chunk-Min-Length") or ""
        self._least = int(least) if is_count(least) else 0
        self._at = 0

    def _send(self) -> RegistryError | None:
        """Send what is missing and close the upload; an error that may pass when asked again, else ``None``."""
        while self._piece and self._descriptor.size - self._at > self._step():
            refused = self._patch(self._step())
            if refused is not None:
                return refused
        return self._put()

    def _step(self) -> int:
        return max(self._piece, self._least)

    def _patch(self, count: int) -> RegistryError | None:
        response = self._transfer("PATCH", self._location, count, expect=(202, 201, 204, 404, 413, 416))
        if response.status in (404, 413, 416):
            return self._refusal(response)
        if "Location" in response.headers:
            self._location = self._endpoint.location(response)
        self._endpoint.drop(response)
        arrived = parse_range(response.headers.get("Range"))
        end = self._at + count
        if arrived is not None and not self._at <= arrived <= end:
            raise RegistryError(
                f"{self._endpoint.place}: sent {self._descriptor.digest} up to byte {end}, "
                f"the registry says that it has {arrived} bytes"
            )
        if arrived == self._at:
            return RegistryError(f"{self._endpoint.place}: the registry took none of {count} bytes")
        self._at = end if arrived is None else arrived
        return None

    def _put(self) -> RegistryError | None:
        joint = "&" if "?" in self._location else "?"
        digest = str(self._descriptor.digest).replace(":", "%3A")
        url = f"{self._location}{joint}digest={digest}"
        try:
            response = self._transfer(
                "PUT", url, self._descriptor.size - self._at, expect=(*_SENT, 404, 413, 416)
            )
        except RegistryError as error:
            if "DIGEST_INVALID" in error.codes:
                raise self._not_the_same(str(error)) from error
            raise
        if response.status not in _SENT:
            return self._refusal(response)
        self._endpoint.drop(response)
        # From here on it is committed: there is nothing to cancel any more.
        self._location = ""
        stored = content_digest(response.headers)
        wanted = self._descriptor.digest
        if stored is not None and stored.algorithm == wanted.algorithm and stored != wanted:
            raise self._not_the_same(f"the registry stored {stored}")
        return None

    def _transfer(self, method: str, url: str, count: int, *, expect: tuple[int, ...]) -> Response:
        start, stop = self._at, self._at + count
        headers = {"Content-Type": "application/octet-stream"}
        if count and (start or method == "PATCH"):
            headers["Content-Range"] = f"{start}-{stop - 1}"
        return self._endpoint.send(
            method,
            url,
            actions=PUSH,
            headers=headers,
            body=(lambda offset: self._feed.open(start + offset, stop)) if count else b"",
            length=count,
            expect=expect,
            idempotent=False,
        )

    def _refusal(self, response: Response) -> RegistryError:
        """What became of a request that is worth another way of asking."""
        status = response.status
        problem = self._endpoint.problem(response)
        words = f": {problem.words}" if problem.words else ""
        error = RegistryError(
            f"{self._endpoint.place}: uploading {self._descriptor.digest}: the registry answered {status}{words}",
            hint="a proxy before the registry limits the size of requests" if status == 413 else "",
            status=status,
            codes=problem.codes,
        )
        if status == 413:
            self._shrink(error)
        return error

    def _shrink(self, error: RegistryError) -> None:
        """The next pieces are smaller; raises when they cannot be."""
        smaller = max(self._least, _MIN_PIECE, self._step() // 4 if self._piece else PIECE)
        if smaller >= (self._step() if self._piece else self._descriptor.size):
            raise error
        self._piece = smaller

    def _count(self, error: RegistryError) -> None:
        self._tries += 1
        self._idle += 1
        if self._idle >= MAX_IDLE_TRIES or self._tries >= MAX_TRIES:
            raise error

    def _recover(self) -> bool:
        """Find out where to go on: ``True`` when everything has arrived after all."""
        location, self._location = self._location, ""
        self._at = 0
        if not location:
            return False
        try:
            response = self._endpoint.send(
                "GET", location, actions=PUSH, expect=(200, 202, 204, 400, 404, 405, 416, 500, 501)
            )
        except BaseException:
            self._location = location  # to be cancelled
            raise
        self._endpoint.drop(response)
        arrived = parse_range(response.headers.get("Range")) if response.status in (200, 202, 204) else None
        seen = self._feed.seen
        # "0-0" is what registries say of nothing and of one byte: only where nothing was read is it clear.
        if arrived is not None and (0 < arrived <= seen or (not seen and not arrived)):
            self._at = arrived
            self._location = self._endpoint.location(response) if "Location" in response.headers else location
        elif response.status == 404:
            # The answer to the closing request may be all that was lost.
            if seen == self._descriptor.size and self._exists():
                return True
        else:
            cancel(self._endpoint, location)
        self._progress()
        return False

    def _progress(self) -> None:
        if self._at > self._reached:
            self._reached = self._at
            self._idle = 0
        elif self._idle > 1 and not self._piece and self._descriptor.size > PIECE:
            # Twice nothing at all was kept: perhaps smaller requests come through.
            self._piece = PIECE

    def _exists(self) -> bool:
        path = self._endpoint.path(f"blobs/{self._descriptor.digest}")
        response = self._endpoint.send("HEAD", path, actions=PUSH, expect=(200, 404))
        self._endpoint.drop(response)
        return response.status == 200

    def _not_the_same(self, got: str) -> DigestMismatch:
        return DigestMismatch(
            f"{self._endpoint.place}: sent {self._descriptor.digest}, but {got}",
            hint="the content was changed on its way, or while it was read; push it again",
        )


class Feed:
    """The bytes of one blob, for as many attempts as it takes; each is hashed once.

    Bytes that are sent again after a cut are not hashed again: the registry checks the whole, and the hash here has
    seen every byte before the last piece may leave. ``failed`` says that the content's own place is at fault.
    """

    def __init__(self, descriptor: Descriptor, content: Opener, place: str) -> None:
        self.failed = False
        self.seen = 0
        self._descriptor = descriptor
        self._content = content
        self._place = place
        self._hash = descriptor.digest.hasher()
        self._checked = False

    def open(self, start: int, stop: int) -> Readable:
        """The bytes from ``start`` up to ``stop``."""
        try:
            piece = _Piece(self, self._content(start), start, stop)
            if not self._descriptor.size:
                self.check_end(piece.stream)
        except BaseException:
            self.failed = True
            raise
        return piece

    def take(self, at: int, data: bytes) -> None:
        """Hash what is new of ``data``, which begins at byte ``at``."""
        fresh = data[self.seen - at :] if at < self.seen else data
        self._hash.update(fresh)
        self.seen += len(fresh)

    def check_end(self, stream: Readable) -> None:
        """Raises unless the stream ends here and its digest was right."""
        expected = self._descriptor.digest
        if stream.read(1):
            self.wrong_size("more")
        got = self._hash.hexdigest()
        if got != expected.hex:
            raise DigestMismatch(
                f"{self._place}: content to upload should be {expected}, got {expected.algorithm}:{got}",
                hint="the content was damaged or replaced where it came from; nothing was stored",
            )

    def wrong_size(self, got: str) -> None:
        """Raise :class:`SizeMismatch`."""
        raise SizeMismatch(
            f"{self._place}: {self._descriptor.digest} to upload should have {self._descriptor.size} bytes, "
            f"got {got}",
            hint="the content was cut or replaced where it came from; nothing was stored",
        )

    @property
    def size(self) -> int:
        """Bytes of the whole blob."""
        return self._descriptor.size


class _Piece:
    """A stretch of a feed as a stream."""

    def __init__(self, feed: Feed, stream: Readable, start: int, stop: int) -> None:
        self.stream = stream
        self._feed = feed
        self._at = start
        self._stop = stop

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(1024 * 1024), b""))
        try:
            return self._read(size)
        except BaseException:
            self._feed.failed = True
            raise

    def _read(self, size: int) -> bytes:
        wanted = min(size, self._stop - self._at)
        if not wanted:
            return b""
        data = self.stream.read(wanted)
        if not data:
            self._feed.wrong_size(str(self._at))
        self._feed.take(self._at, data)
        self._at += len(data)
        if self._at == self._feed.size:
            self._feed.check_end(self.stream)
        return data

    def close(self) -> None:
        self.stream.close()


def begin(endpoint: Endpoint, descriptor: Descriptor) -> Response:
    """Open an upload. Repeating it does no harm: an upload nobody sends to expires."""
    algorithm = descriptor.digest.algorithm
    path = endpoint.path("blobs/uploads/")
    if algorithm != "sha256":
        path += f"?digest-algorithm={algorithm}"
    response = endpoint.send("POST", path, actions=PUSH, body=b"", expect=(202, 404), idempotent=True)
    if response.status == 404:
        raise endpoint.missing(response, "blobs/uploads/")
    endpoint.drop(response)
    return response


def cancel(endpoint: Endpoint, location: str) -> None:
    """Tell the registry to forget an upload. Asks once and takes no for an answer: it would expire anyway."""
    if not location:
        return
    try:
        response = endpoint.send(
            "DELETE",
            location,
            actions=PUSH,
            expect=(200, 202, 204, 400, 404, 405, 416, 500, 501, 502, 503, 504),
            idempotent=False,
            brief=True,
        )
        endpoint.drop(response)
    except Error:
        # What made the upload fail is the news; it is on its way to the caller.
        return


def _is_passing(error: RegistryError) -> bool:
    return isinstance(error, Unreachable) or error.status in _PASSING
