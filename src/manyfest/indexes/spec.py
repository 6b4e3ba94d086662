# SPDX-License-Identifier: Apache-2.0
"""What a list should hold, as a value: the YAML that ``push -f`` reads and the draft that ``create`` keeps.

The keys are those of manifest-tool (https://github.com/estesp/manifest-tool, "YAML spec"), so its files work as they
are; the keys marked + are ours::

    image: reg/app:1.2.3            the target
    tags: ["1.2", latest]           more tags for the same index
    annotations: {k: v}             on the index
    type: oci                     + oci | docker; left out: docker if every entry is and nothing is annotated
    expect: [linux/amd64]         + never publish without these
    verify: true                  + never publish what `manyfest verify` finds errors in; strict: nor warnings
    manifests:
      - image: reg/app:arm          a reference, or any place (oci:…, docker-archive:…)
        platform: {architecture: arm, os: linux, variant: v7, os.version: "", os.features: []}
                                    may also be text: linux/arm/v7; osversion and osfeatures are read too
        digest: sha256:…          + what the image was when it was added
        annotations: {k: v}       + on the entry
        replaces: true            + it takes the place of entries before it that are for the same platform

Reading text is not this module's work (YAML lives in :mod:`manyfest.drafts`); it takes parsed mappings and says which
key is wrong. ``Spec.from_mapping(spec.to_mapping()) == spec`` for every spec.
"""

from __future__ import annotations

import re

from manyfest.content.digest import Digest
from manyfest.errors import InvalidDigest, InvalidPlatform, InvalidSpec
from manyfest.platforms import Platform, normalise
from manyfest.reference import is_tag
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["GATES", "TYPES", "Entry", "Override", "Spec", "expand_template"]

TYPES = ("", "oci", "docker")
GATES = ("", "yes", "strict")

# Keys of a project's manyfest.yaml that say how to build; a list spec may carry them along.
_PROJECT_KEYS = frozenset({"platforms", "compile", "build", "nodes", "smoke"})
_SPEC_KEYS = (
    frozenset({"image", "tags", "annotations", "type", "expect", "verify", "manifests"}) | _PROJECT_KEYS
)
_ENTRY_KEYS = frozenset({"image", "platform", "digest", "annotations", "replaces"})
_PLATFORM_KEYS = {
    "os": "os",
    "architecture": "architecture",
    "variant": "variant",
    "os.version": "os_version",
    "osversion": "os_version",
    "os.features": "os_features",
    "osfeatures": "os_features",
    "features": "features",
}


class Override(Value):
    """The parts of a platform that somebody set by hand; ``None`` leaves a part as the image says."""

    __slots__ = ("architecture", "features", "os", "os_features", "os_version", "variant")
    architecture: str | None
    features: tuple[str, ...] | None
    os: str | None
    os_features: tuple[str, ...] | None
    os_version: str | None
    variant: str | None

    def __init__(
        self,
        *,
        os: str | None = None,
        architecture: str | None = None,
        variant: str | None = None,
        os_version: str | None = None,
        os_features: tuple[str, ...] | None = None,
        features: tuple[str, ...] | None = None,
    ) -> None:
        self._set(
            os=os,
            architecture=architecture,
            variant=variant,
            os_version=os_version,
            os_features=os_features,
            features=features,
        )

    @classmethod
    def of(cls, platform: Platform) -> Override:
        """Everything that a platform says."""
        return cls(
            os=platform.os,
            architecture=platform.architecture,
            variant=platform.variant or None,
            os_version=platform.os_version or None,
            os_features=platform.os_features or None,
            features=platform.features or None,
        )

    def __bool__(self) -> bool:
        return any(value is not None for value in self._fields())

    def over(self, platform: Platform | None) -> Platform:
        """The platform with these parts set. A new architecture drops the old one's variant.

        Raises :class:`InvalidPlatform` when os or architecture is set by neither.
        """
        parts: dict[str, Any] = {"os": "", "architecture": ""}
        if platform is not None:
            parts = {name: getattr(platform, name) for name in self.__slots__}
        if self.architecture is not None and self.architecture != parts["architecture"]:
            parts["variant"] = ""
        parts.update((name, value) for name in self.__slots__ if (value := getattr(self, name)) is not None)
        if not parts["os"] or not parts["architecture"]:
            raise InvalidPlatform(
                f"no platform: os is {parts['os']!r}, architecture is {parts['architecture']!r}",
                hint="the image does not say what it is for; set both (annotate --os … --arch …, or platform: in YAML)",
            )
        return Platform(**parts)

    def merged(self, newer: Override) -> Override:
        """These parts with the newer ones set over them."""
        parts = {name: getattr(self, name) for name in self.__slots__}
        if newer.architecture is not None and newer.architecture != self.architecture:
            parts["variant"] = None
        parts.update((n, v) for n in self.__slots__ if (v := getattr(newer, n)) is not None)
        return Override(**parts)

    def selects(self, platform: Platform) -> bool:
        """Is a platform the one that these parts describe? Parts left out match anything."""
        want = self.over(platform)
        return normalise(want) == normalise(platform)


class Entry(Value):
    """One source of a list: an image, or an index whose entries are all taken.

    With ``replaces`` it takes the place of earlier entries for the same platform, where two would be refused.
    """

    __slots__ = ("annotations", "digest", "image", "override", "replaces")
    image: str
    override: Override
    digest: str
    annotations: tuple[tuple[str, str], ...]
    replaces: bool

    def __init__(
        self,
        image: str,
        override: Override | None = None,
        digest: str = "",
        annotations: tuple[tuple[str, str], ...] = (),
        *,
        replaces: bool = False,
    ) -> None:
        self._set(
            image=image,
            override=override or Override(),
            digest=digest,
            annotations=annotations,
            replaces=replaces,
        )


class Spec(Value):
    """A list: where it goes and what it is made of. Entries keep the order they were given in."""

    __slots__ = ("annotations", "entries", "expect", "image", "project", "tags", "type", "verify")
    image: str
    entries: tuple[Entry, ...]
    tags: tuple[str, ...]
    annotations: tuple[tuple[str, str], ...]
    type: str
    expect: tuple[Platform, ...]
    project: tuple[tuple[str, Any], ...]
    verify: str

    def __init__(
        self,
        image: str,
        entries: tuple[Entry, ...] = (),
        *,
        tags: tuple[str, ...] = (),
        annotations: tuple[tuple[str, str], ...] = (),
        type: str = "",
        expect: tuple[Platform, ...] = (),
        project: tuple[tuple[str, Any], ...] = (),
        verify: str = "",
    ) -> None:
        if type not in TYPES:
            raise InvalidSpec(f"type: {type!r}, expected oci or docker")
        if verify not in GATES:
            raise InvalidSpec(f"verify: {verify!r}, expected true, false or strict")
        wrong = next((tag for tag in tags if not is_tag(tag)), None)
        if wrong is not None:
            # Found out at the registry it would be too late: the tags before it would be written.
            raise InvalidSpec(
                f"tags: {wrong[:140]!r} is not a tag, expected up to 128 of A-Z a-z 0-9 _ . -",
                hint="only what follows the colon: the list's repository is the one of its image",
            )
        self._set(
            image=image,
            entries=entries,
            tags=tags,
            annotations=annotations,
            type=type,
            expect=expect,
            project=project,
            verify=verify,
        )

    @classmethod
    def from_mapping(cls, value: object) -> Spec:
        """Read a parsed YAML document. Raises :class:`InvalidSpec` naming the key."""
        fields = _mapping(value, "the spec")
        _known(fields, _SPEC_KEYS, "the spec")
        if not fields.get("image"):
            raise InvalidSpec("the spec lacks image:", hint="add the name that the list is published under")
        manifests = fields.get("manifests") or []
        if not isinstance(manifests, list):
            raise InvalidSpec(f"manifests: must be a list, got {_kind(manifests)}")
        return cls(
            _text(fields["image"], "image"),
            tuple(_entry(item, f"manifests[{i}]") for i, item in enumerate(manifests)),
            tags=_texts(fields.get("tags"), "tags"),
            annotations=_annotations(fields.get("annotations"), "annotations"),
            type=_text(fields.get("type") or "", "type"),
            expect=tuple(_platform(text, "expect") for text in _texts(fields.get("expect"), "expect")),
            project=tuple((key, fields[key]) for key in fields if key in _PROJECT_KEYS),
            verify=_gate(fields.get("verify")),
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain values in the order a person would write them, without empty ones."""
        fields: dict[str, Any] = {
            "image": self.image,
            "tags": list(self.tags),
            "annotations": dict(self.annotations),
            "type": self.type,
            "expect": [str(platform) for platform in self.expect],
            "verify": True if self.verify == "yes" else self.verify,
            **dict(self.project),
        }
        written = {key: value for key, value in fields.items() if value}
        written["manifests"] = [_entry_to_mapping(entry) for entry in self.entries]
        return written

    def entry(self, image: str) -> Entry | None:
        """The entry of an image, by the name it was given."""
        return next((entry for entry in self.entries if entry.image == image), None)

    def with_entry(self, entry: Entry) -> Spec:
        """The spec with the entry of that image replaced where it stands, or added at the end."""
        entries = [entry if known.image == entry.image else known for known in self.entries]
        if entry not in entries:
            entries.append(entry)
        return self.replace(entries=tuple(entries))

    def __hash__(self) -> int:
        return hash((self.image, self.entries, self.tags))


def expand_template(template: str, platform: Platform) -> str:
    """Fill ``OS``, ``ARCH`` and ``VARIANT`` in a name such as ``reg/app-ARCHVARIANT:1.0`` or ``reg/app:1.0-OS-ARCH``.

    A placeholder counts wherever it stands by itself or in a run of placeholders; one that never does is
    filled at its first occurrence, as manifest-tool does. So ``app:OSS-OS-ARCH`` keeps its ``OSS``.
    """
    values = {"OS": platform.os, "ARCH": platform.architecture, "VARIANT": platform.variant}
    alone = re.compile(r"(?<![A-Za-z0-9])(?:OS|ARCH|VARIANT)+(?![A-Za-z0-9])")
    seen: set[str] = set()

    def fill(run: re.Match[str]) -> str:
        names = re.findall("OS|ARCH|VARIANT", run[0])
        seen.update(names)
        return "".join(values[name] for name in names)

    filled = alone.sub(fill, template)
    for name, value in values.items():
        if name not in seen and name in template:
            filled = filled.replace(name, value, 1)
    return filled


def _entry(value: object, where: str) -> Entry:
    fields = _mapping(value, where)
    _known(fields, _ENTRY_KEYS, where)
    if not fields.get("image"):
        raise InvalidSpec(f"{where} lacks image:", hint="every entry names the image it is made from")
    digest = _text(fields.get("digest") or "", f"{where}.digest")
    if digest:
        try:
            Digest.parse(digest)
        except InvalidDigest as error:
            raise InvalidSpec(f"{where}.digest: {error}") from error
    return Entry(
        _text(fields["image"], f"{where}.image"),
        _override(fields.get("platform"), f"{where}.platform"),
        digest,
        _annotations(fields.get("annotations"), f"{where}.annotations"),
        replaces=_yes(fields.get("replaces"), f"{where}.replaces"),
    )


def _override(value: object, where: str) -> Override:
    if value is None:
        return Override()
    if isinstance(value, str):
        return Override.of(_platform(value, where))
    fields = _mapping(value, where)
    _known(fields, frozenset(_PLATFORM_KEYS), where)
    parts: dict[str, Any] = {}
    for key, part in fields.items():
        name = _PLATFORM_KEYS[key]
        if name in ("os_features", "features"):
            features = _texts(part, f"{where}.{key}")
            # manifest-tool's files carry an empty osfeatures that means nothing; ours says that there are none.
            parts[name] = None if not features and key == "osfeatures" else features
        else:
            # YAML reads 386 as a number; people write it without quotes.
            parts[name] = (
                str(part) if isinstance(part, int) else _text(part or "", f"{where}.{key}")
            ) or None
    return Override(**parts)


def _platform(text: str, where: str) -> Platform:
    try:
        return Platform.parse(text)
    except InvalidPlatform as error:
        raise InvalidSpec(f"{where}: {error}", hint=error.hint) from error


def _entry_to_mapping(entry: Entry) -> dict[str, Any]:
    override = entry.override
    platform = {
        "architecture": override.architecture,
        "os": override.os,
        "variant": override.variant,
        "os.version": override.os_version,
        "os.features": list(override.os_features) if override.os_features is not None else None,
        "features": list(override.features) if override.features is not None else None,
    }
    fields: dict[str, Any] = {
        "image": entry.image,
        "platform": {key: value for key, value in platform.items() if value is not None},
        "digest": entry.digest,
        "annotations": dict(entry.annotations),
        "replaces": entry.replaces,
    }
    return {key: value for key, value in fields.items() if value}


def _gate(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else ""
    return _text(value, "verify")


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSpec(f"{where} must be a mapping of keys to values, got {_kind(value)}")
    return value


def _known(fields: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for key in fields:
        if key not in known:
            raise InvalidSpec(
                f"{where}: unknown key {key!r}", hint=f"it may have: {', '.join(sorted(known))}"
            )


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidSpec(f"{where} must be text, got {_kind(value)} {value!r}", hint="put it in quotes")
    return value


def _yes(value: object, where: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise InvalidSpec(f"{where} must be true or false, got {_kind(value)}")
    return bool(value)


def _texts(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidSpec(f"{where} must be a list, got {_kind(value)}")
    # YAML reads a tag such as 1 or 1.2 as a number. 1.10 would lose its zero, so numbers with a point are refused.
    return tuple(
        str(item) if isinstance(item, int) and not isinstance(item, bool) else _text(item, where)
        for item in value
    )


def _annotations(value: object, where: str) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    return tuple((_text(k, where), _text(v, f"{where}.{k}")) for k, v in _mapping(value, where).items())


def _kind(value: object) -> str:
    names: Iterable[tuple[type, str]] = (
        (bool, "a yes/no value"),
        (str, "text"),
        (int, "a number"),
        (float, "a number"),
    )
    known = next((name for kind, name in names if isinstance(value, kind)), None)
    return known or {list: "a list", dict: "a mapping", type(None): "nothing"}.get(
        type(value), type(value).__name__
    )
