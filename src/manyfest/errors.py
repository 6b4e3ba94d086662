# SPDX-License-Identifier: Apache-2.0
"""Every error that manyfest raises on purpose.

::

    Error                         .hint (what to do next)  .exit_code
    ├─ InputError            2    InvalidReference InvalidPlatform InvalidDigest InvalidSpec InvalidProject
    ├─ ContentError          3    DigestMismatch SizeMismatch InvalidDocument TooLarge
    ├─ StoreError            3    NotFound Unsupported ReadOnly
    │  └─ RegistryError      3    AuthRequired Forbidden RateLimited Unreachable
    ├─ CopyError             3    .side "source" or "target"
    ├─ BuildError EngineError DeployError EmulationError   3
    └─ Refused, VerificationFailed                         1   the check ran and the answer is no

Foreign exceptions are translated once, at the boundary where they enter. Messages name what was received and
what was expected; ``hint`` says what to do next. Neither ever holds a credential.
"""

from __future__ import annotations

__all__ = [
    "AuthRequired",
    "BuildError",
    "ContentError",
    "CopyError",
    "DeployError",
    "DigestMismatch",
    "EmulationError",
    "EngineError",
    "Error",
    "Forbidden",
    "InputError",
    "InvalidDigest",
    "InvalidDocument",
    "InvalidPlatform",
    "InvalidProject",
    "InvalidReference",
    "InvalidSpec",
    "NotFound",
    "RateLimited",
    "ReadOnly",
    "Refused",
    "RegistryError",
    "SizeMismatch",
    "StoreError",
    "TooLarge",
    "Unreachable",
    "Unsupported",
    "VerificationFailed",
]


class Error(Exception):
    """The root. ``str()`` is the message, ``hint`` the next step (may be empty)."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputError(Error):
    """What the user gave cannot be used: usage, names, files."""

    exit_code = 2


class InvalidReference(InputError):
    """Text that is not the name of an image."""


class InvalidPlatform(InputError):
    """Text or JSON that is not a platform."""


class InvalidDigest(InputError):
    """Text that is not a digest, or an algorithm nobody here computes."""


class InvalidSpec(InputError):
    """A list spec or draft that breaks its schema."""


class InvalidProject(InputError):
    """A project folder that cannot be built."""


class ContentError(Error):
    """Bytes that are not what they claim to be."""


class DigestMismatch(ContentError):
    """Content whose hash is not the digest it was asked for by."""


class SizeMismatch(ContentError):
    """Content longer or shorter than its descriptor says."""


class InvalidDocument(ContentError):
    """A manifest, index or config that breaks the specification."""


class TooLarge(ContentError):
    """A document beyond the limit a reader is willing to hold in memory."""


class StoreError(Error):
    """A place that holds content could not do what was asked."""


class NotFound(StoreError):
    """The place answered, and the thing is not there."""


class Unsupported(StoreError):
    """The place cannot do this at all, or holds a kind of content that manyfest does not read."""


class ReadOnly(StoreError):
    """The place can be read but not written."""


class RegistryError(StoreError):
    """A registry's answer that is an error.

    ``status`` is the HTTP status (0 when there was none), ``codes`` the distribution specification's error
    codes from the body (https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes).
    """

    def __init__(self, message: str, *, hint: str = "", status: int = 0, codes: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.codes = codes


class AuthRequired(RegistryError):
    """401: no credentials, or credentials the registry does not accept."""


class Forbidden(RegistryError):
    """403: known, and not allowed."""


class RateLimited(RegistryError):
    """429, still after the retries that the deadline allowed."""


class Unreachable(RegistryError):
    """No usable HTTP conversation: name look-up, connection, TLS, time-out, or cut too often."""


class CopyError(Error):
    """Moving content failed; ``side`` says where: ``"source"`` or ``"target"``. The cause is ``__cause__``."""

    def __init__(self, message: str, *, side: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.side = side


class BuildError(Error):
    """A build step failed."""


class EngineError(Error):
    """A container engine could not be reached, or refused."""


class DeployError(Error):
    """A cluster did not reach the state that was asked for."""


class EmulationError(Error):
    """binfmt_misc or QEMU could not do what was asked."""


class Refused(Error):
    """A gate said no: the tag would shrink, a platform is missing, content would be overwritten."""

    exit_code = 1


class VerificationFailed(Error):
    """The check ran and the image is not what it says."""

    exit_code = 1
