# SPDX-License-Identifier: Apache-2.0
"""Logging in and out: credentials are kept only after the registry has accepted them."""

from __future__ import annotations

from manyfest.errors import AuthRequired, InputError, NotFound, Unsupported
from manyfest.stores.registry.credentials import Credentials, Keychain
from manyfest.stores.registry.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.stores.registry.settings import Settings
    from manyfest.stores.registry.transport import Transport

__all__ = ["login", "logout"]


def login(
    settings: Settings, host: str, username: str, password: str, *, transport: Transport | None = None
) -> str:
    """Try the credentials at ``host``, then keep them as Docker does; gives the words for where they are.

    Raises :class:`~manyfest.errors.AuthRequired` when the registry does not accept them,
    :class:`~manyfest.errors.InputError` when one of them is missing, and what
    :meth:`~manyfest.stores.registry.credentials.Keychain.store` raises. Nothing is kept then.
    """
    if not username or not password:
        raise InputError(f"log-in to {host}: expected a user name and a password, got an empty one")
    if ":" in username:
        raise InputError(f"log-in to {host}: a user name cannot hold a colon")
    given = settings.replace(username=username, password=password)
    with Session(given, transport) as session:
        try:
            session.send(host, "GET", "/v2/").close()
        except AuthRequired as error:
            raise AuthRequired(
                f"{host} does not accept this user name and password",
                hint="many registries want an access token in place of the password",
                status=error.status,
                codes=error.codes,
            ) from error
        except (NotFound, Unsupported) as error:
            raise type(error)(
                f"{host} does not answer as a registry: {error}", hint="check the name; nothing was stored"
            ) from error
    return Keychain(settings.docker_config).store(host, Credentials(username, password))


def logout(settings: Settings, host: str) -> bool:
    """Forget the credentials of ``host``; ``False`` when there were none."""
    return Keychain(settings.docker_config).erase(host)
