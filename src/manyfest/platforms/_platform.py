# SPDX-License-Identifier: Apache-2.0
"""The value: an operating system, an architecture and how they are written. See the package's docstring."""

from __future__ import annotations

from manyfest.errors import InvalidPlatform
from manyfest.values import Value, brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Platform", "normalise"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_OS_CHARACTERS = frozenset(_LETTERS + "_-")
_WORD_CHARACTERS = frozenset(_LETTERS + "_.-")
_MAX_WORD = 128

# fmt: off
_SYSTEMS = frozenset((
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl",
    "netbsd", "openbsd", "plan9", "solaris", "wasi", "wasip1", "windows", "zos",
))

_ARCHITECTURES = frozenset((
    "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "ppc64", "ppc64le", "loong64", "mips",
    "mipsle", "mips64", "mips64le", "mips64p32", "mips64p32le", "ppc", "riscv", "riscv64", "s390", "s390x",
    "sparc", "sparc64", "wasm",
))
# fmt: on

# Spellings that every engine of Docker's family reads: name -> (architecture, variant that it implies).
_SPELLINGS = {
    "i386": ("386", ""),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_VARIANTS = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"},
    "arm": {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"},
}


class Platform(Value):
    """What an image is for, or what a machine is. Fields stay as they were written; see :func:`normalise`.

    ``os_version`` and ``os_features`` are Windows' in practice; ``features`` is reserved by the specification
    and kept. Empty text means "not said". Raises :class:`InvalidPlatform` for characters that none has.
    """

    __slots__ = ("os", "architecture", "variant", "os_version", "os_features", "features")  # noqa: RUF023
    os: str
    architecture: str
    variant: str
    os_version: str
    os_features: tuple[str, ...]
    features: tuple[str, ...]

    def __init__(
        self,
        os: str,
        architecture: str,
        variant: str = "",
        os_version: str = "",
        os_features: Iterable[str] = (),
        features: Iterable[str] = (),
    ) -> None:
        _check_word("os", os, _OS_CHARACTERS)
        _check_word("architecture", architecture, _WORD_CHARACTERS)
        _check_word("variant", variant, _WORD_CHARACTERS)
        _check_option("os.version", os_version)
        os_features, features = tuple(os_features), tuple(features)
        for feature in os_features:
            _check_option("os.features", feature)
        for feature in features:
            _check_option("features", feature)
        self._set(
            os=os,
            architecture=architecture,
            variant=variant,
            os_version=os_version,
            os_features=os_features,
            features=features,
        )

    @classmethod
    def parse(cls, text: str, *, host: Platform | None = None) -> Platform:
        """Read ``os``, ``arch``, ``os/arch[/variant]``, with any of three ways to add a system's version.

        A lone word is completed from ``host``; without one, an architecture means ``linux``, a system alone
        is an error. Names are read as containerd reads them: ``linux/aarch64`` is ``linux/arm64``, and
        ``linux/arm64/v8`` keeps its variant. Raises :class:`InvalidPlatform`, saying which character is
        wrong.
        """
        from manyfest.platforms._parse import parse

        return parse(text, host)

    @classmethod
    def from_json(cls, fields: object) -> Platform:
        """Read the ``platform`` of an index's entry. Missing or null fields are empty.

        Raises :class:`InvalidPlatform` for wrong types; ``386`` as a number is one (YAML's readers fix that).
        """
        if not isinstance(fields, dict):
            raise InvalidPlatform(f"a platform must be a JSON object, got {type(fields).__name__}")
        return cls(
            _text(fields, "os"),
            _text(fields, "architecture"),
            _text(fields, "variant"),
            _text(fields, "os.version"),
            _texts(fields, "os.features"),
            _texts(fields, "features"),
        )

    @classmethod
    def from_config(cls, config: object) -> Platform:
        """Read the platform out of an image config, whose fields have the same names. Same errors."""
        if not isinstance(config, dict):
            raise InvalidPlatform(f"an image config must be a JSON object, got {type(config).__name__}")
        return cls.from_json({key: value for key, value in config.items() if key != "features"})

    def to_json(self) -> dict[str, Any]:
        """The object of an index's entry, keys in the order in which Go writes them, empty ones left out."""
        fields: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        optional = {
            "os.version": self.os_version,
            "os.features": list(self.os_features),
            "variant": self.variant,
            "features": list(self.features),
        }
        return {**fields, **{key: value for key, value in optional.items() if value}}

    @property
    def is_complete(self) -> bool:
        """Does it say both operating system and architecture?"""
        return bool(self.os and self.architecture)

    @property
    def is_unknown(self) -> bool:
        """Is it the ``unknown/unknown`` of an attestation?"""
        return self.os == "unknown" and self.architecture == "unknown"

    @property
    def is_known(self) -> bool:
        """Do engines somewhere run this pair? The list is open: ``False`` means "look twice", not "no"."""
        from manyfest.platforms._names import is_known

        return is_known(self)

    @property
    def suggestion(self) -> str:
        """What was probably meant, when it is not known: ``linux/arm/v7`` for ``linux/armv7``; else empty."""
        from manyfest.platforms._names import suggestion

        return suggestion(self)

    def __str__(self) -> str:
        if not self.os:
            return "/".join(part for part in ("unknown", self.architecture, self.variant) if part)
        options = _encoded(self.os_version) + "".join(f"+{_encoded(feature)}" for feature in self.os_features)
        system = f"{self.os}({options})" if options else self.os
        return "/".join(part for part in (system, self.architecture, self.variant) if part)


def normalise(platform: Platform) -> Platform:
    """The form to compare: lower case, Go's names, variants that mean nothing dropped. Idempotent.

    https://github.com/containerd/platforms: ``linux/x86_64/v1`` is ``linux/amd64``, ``linux/arm64/v8`` is
    ``linux/arm64``, ``linux/arm`` is ``linux/arm/v7``. Operating system features are sorted, doubles dropped.
    """
    system = platform.os.lower()
    architecture, variant = normal_architecture(platform.architecture, platform.variant)
    return Platform(
        "darwin" if system == "macos" else system,
        architecture,
        variant,
        platform.os_version,
        sorted(set(platform.os_features)),
        platform.features,
    )


def normal_architecture(architecture: str, variant: str) -> tuple[str, str]:
    """Architecture and variant in the form to compare."""
    architecture, variant = architecture.lower(), variant.lower()
    architecture, implied = _SPELLINGS.get(architecture, (architecture, None))
    if implied is not None:
        return architecture, implied
    return architecture, _VARIANTS.get(architecture, {}).get(variant, variant)


def _check_word(field: str, value: str, allowed: frozenset[str]) -> None:
    if not isinstance(value, str):
        raise InvalidPlatform(f"{field} must be text, got {brief(value)}")
    if len(value) > _MAX_WORD:
        raise InvalidPlatform(f"{field} has {len(value)} characters, expected at most {_MAX_WORD}")
    if value in (".", ".."):
        # Platforms become names of files and folders.
        raise InvalidPlatform(f"{field} is {value!r}, expected a name")
    wrong = next((i for i, c in enumerate(value) if c not in allowed), None)
    if wrong is not None:
        expected = (
            "a letter, digit, '_' or '-'" if allowed is _OS_CHARACTERS else "a letter, digit, '_', '.' or '-'"
        )
        raise InvalidPlatform(
            f"{field} {value!r}: character {wrong + 1} is {value[wrong]!r}, expected {expected}"
        )


def _check_option(field: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidPlatform(f"{field} must be text, got {brief(value)}")
    if len(value) > _MAX_WORD:
        raise InvalidPlatform(f"{field} has {len(value)} characters, expected at most {_MAX_WORD}")
    wrong = next((i for i, c in enumerate(value) if not c.isprintable()), None)
    if wrong is not None:
        raise InvalidPlatform(
            f"{field} {value!r}: character {wrong + 1} is {value[wrong]!r}, expected printable text"
        )


def _encoded(option: str) -> str:
    """Percent-encoded where the text form needs its characters, as containerd does."""
    if all(c in _WORD_CHARACTERS for c in option):
        return option
    return "".join(
        c if c in _WORD_CHARACTERS else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "replace"))
        for c in option
    )


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidPlatform(f"{key} must be text, got {brief(value)}")
    return value


def _texts(fields: dict[str, Any], key: str) -> tuple[str, ...]:
    value = fields.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidPlatform(f"{key} must be a list of texts, got {brief(value)}")
    return tuple(value)
