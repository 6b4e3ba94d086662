# SPDX-License-Identifier: Apache-2.0
"""One repository's end of the conversation: its paths, its token scopes, and what a 404 in it means."""

from __future__ import annotations

from manyfest.errors import NotFound, RegistryError
from manyfest.stores.registry.scopes import Scope
from manyfest.stores.registry.transport import Cut
from manyfest.stores.registry.wire import MAX_ERROR_BYTES, problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from manyfest.errors import StoreError
    from manyfest.stores.base import Opener
    from manyfest.stores.registry.session import Session
    from manyfest.stores.registry.transport import Response
    from manyfest.stores.registry.wire import Problem

__all__ = ["DELETE", "PULL", "PUSH", "Endpoint"]

PULL = ("pull",)
PUSH = ("pull", "push")
DELETE = ("delete", "pull", "push")


class Endpoint:
    """A repository of a registry and the session to reach it; ``place`` is ``host/repository``."""

    __slots__ = ("host", "place", "repository", "session")

    def __init__(self, session: Session, host: str, repository: str) -> None:
        self.session = session
        self.host = host
        self.repository = repository
        self.place = f"{host}/{repository}"

    def path(self, rest: str) -> str:
        """``/v2/<repository>/<rest>``."""
        return f"/v2/{self.repository}/{rest}"

    def send(
        self,
        method: str,
        path_or_url: str,
        *,
        actions: tuple[str, ...] = PULL,
        mounting_from: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | Opener | None = None,
        length: int | None = None,
        expect: tuple[int, ...] = (200,),
        idempotent: bool | None = None,
        reading: bool = False,
        brief: bool = False,
    ) -> Response:
        """See :meth:`Session.send`; ``mounting_from`` names another repository whose content is read as well."""
        scopes = [Scope.repository(self.repository, *actions)]
        if mounting_from:
            scopes.append(Scope.repository(mounting_from, *PULL))
        return self.session.send(
            self.host,
            method,
            path_or_url,
            scopes=tuple(scopes),
            headers=headers,
            body=body,
            length=length,
            expect=expect,
            idempotent=idempotent,
            reading=reading,
            brief=brief,
        )

    def location(self, response: Response) -> str:
        """The absolute URL in ``Location``."""
        return self.session.location(self.host, response)

    def drop(self, response: Response) -> None:
        """Finish with an answer whose body says nothing, so that its connection can be used again."""
        response.close()

    def problem(self, response: Response) -> Problem:
        """What an error's body says; the answer is closed."""
        body = bytearray()
        try:
            while len(body) < MAX_ERROR_BYTES and (data := response.read(MAX_ERROR_BYTES - len(body))):
                body += data
        except Cut:
            # Cut in the middle of the excuse: the status says enough.
            body.clear()
        finally:
            response.close()
        return problem(bytes(body), response.headers.get("Content-Type") or "")

    def missing(self, response: Response, path: str) -> StoreError:
        """What a 404 on ``path`` (below the repository) means: no such repository, tag, digest, or no registry."""
        found = self.problem(response)
        kind, _, name = path.partition("/")
        if found.is_html:
            titled = f" titled {found.words!r}" if found.words else ""
            return RegistryError(
                f"{self.place}: {self.host} answered 404 with an HTML page{titled}, expected a registry's answer",
                hint=f"{self.host} does not look like a registry, or a proxy is in between; check the name",
                status=404,
            )
        if "NAME_UNKNOWN" in found.codes or kind == "tags" or "uploads/" in path:
            return NotFound(
                f"{self.place}: {self.host} has no repository {self.repository}",
                hint="check the spelling; some registries want a repository created before the first push",
            )
        if ":" in name:
            return NotFound(
                f"{self.place}: no content {name}",
                hint="it was never pushed here, or it has been deleted or garbage-collected",
            )
        return NotFound(
            f"{self.place}: no tag {name!r}", hint=f"`manyfest tags {self.place}` lists what is there"
        )
