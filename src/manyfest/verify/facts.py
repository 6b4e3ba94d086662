# SPDX-License-Identifier: Apache-2.0
"""What one file's bytes say about where it runs: the result type of every reader of this room.

Facts are what is written in the file, not what to think of it. Three fields say how far to trust them:

- ``problem`` is a lie or a break in the headers, as a sentence; it is a finding, never an exception.
- ``incomplete`` names the parts that the caller did not hand over, so that "not there" and "not seen" differ.
- ``os_assumed`` is true where the format leaves the operating system open and ``linux`` is the usual guess.

``platform`` is the **least** that the file needs: ``linux/arm/v5`` for ARM code that says nothing of its level,
``linux/amd64/v3`` only where a note in the file demands it. It is ``None`` for code that no host runs by itself
(eBPF, GPU kernels, firmware of microcontrollers, EFI programs, portable .NET and Java).

    >>> from manyfest.platforms import Platform
    >>> facts = Facts("elf", platforms=(Platform("linux", "amd64"),), interpreter="/lib64/ld-linux-x86-64.so.2")
    >>> str(facts.platform), facts.linking, Facts.from_json(facts.to_json()) == facts
    ('linux/amd64', '', True)
"""

from __future__ import annotations

from manyfest.platforms import Platform
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    More = Callable[[int, int], bytes]
    """``more(offset, length)``: the bytes there, or as many of them (from ``offset`` on) as the caller has."""

__all__ = ["ArmAttributes", "Facts", "Kept", "Shebang"]

_set = object.__setattr__


class Shebang(Value):
    """The first line of a script, as the kernel splits it: at most one argument, blanks and all."""

    __slots__ = ("interpreter", "argument", "crlf")  # noqa: RUF023
    interpreter: str
    argument: str
    crlf: bool

    def __init__(self, interpreter: str, argument: str = "", crlf: bool = False) -> None:
        self._set(interpreter=interpreter, argument=argument, crlf=crlf)

    @property
    def program(self) -> str:
        """What runs in the end: a path, or for ``env`` the bare name that is looked for along ``PATH``."""
        if self.interpreter.rpartition("/")[2] != "env":
            return self.interpreter
        words = iter(self.argument.replace("\t", " ").split(" "))
        for word in words:
            if word in ("-u", "--unset", "-C", "--chdir"):
                next(words, "")
            elif word.startswith("-S") and len(word) > 2:
                return word[2:]
            elif word and not word.startswith("-") and "=" not in word:
                return word
        return self.interpreter


class ArmAttributes(Value):
    """The build attributes of 32-bit ARM code (https://github.com/ARM-software/abi-aa, addenda32).

    ``architecture`` is ``"v5"`` to ``"v9"``, empty when not said; ``cpu`` the compiler's name for it;
    ``profile`` ``"A"``, ``"R"``, ``"M"`` or empty; ``hard_float`` says whether arguments travel in VFP
    registers, ``None`` when the code does not care or does not say.
    """

    __slots__ = ("architecture", "cpu", "profile", "hard_float", "floating_point", "simd")  # noqa: RUF023
    architecture: str
    cpu: str
    profile: str
    hard_float: bool | None
    floating_point: str
    simd: bool

    def __init__(
        self,
        architecture: str = "",
        cpu: str = "",
        profile: str = "",
        hard_float: bool | None = None,
        floating_point: str = "",
        simd: bool = False,
    ) -> None:
        self._set(
            architecture=architecture,
            cpu=cpu,
            profile=profile,
            hard_float=hard_float,
            floating_point=floating_point,
            simd=simd,
        )


# Every field with the value it has when nothing is said, in the order of the reference page.
_DEFAULTS: dict[str, Any] = {
    "kind": "other",
    "platforms": (),
    "machine": "",
    "machine_code": 0,
    "elf_class": 0,
    "order": "",
    "type": "",
    "linking": "",
    "abi": "",
    "flags": 0,
    "flag_words": (),
    "float_abi": "",
    "interpreter": "",
    "needed": (),
    "soname": "",
    "rpath": (),
    "runpath": (),
    "version_needs": (),
    "version_defs": (),
    "arm_attributes": None,
    "x86_level": "",
    "aarch64_features": (),
    "page_align_max": 0,
    "page_align_min": 0,
    "kernel": "",
    "os_assumed": False,
    "go": "",
    "go_settings": (),
    "shebang": None,
    "java": 0,
    "problem": "",
    "incomplete": (),
}


class Facts(Value):
    """What a file's bytes say. Fields that a kind of file does not have keep their empty value."""

    __slots__ = tuple(_DEFAULTS)
    kind: str
    """``"elf"``, ``"pe"``, ``"macho"``, ``"script"``, ``"class"``, ``"jar"``, ``"wheel"``, ``"ar"`` or ``"other"``."""
    platforms: tuple[Platform, ...]
    """What it runs on, at least; several for universal Mach-O; empty when no host runs it by itself."""
    machine: str
    """The machine in words, for people: ``"x86-64"``, ``"ARM"``, ``"eBPF"``."""
    machine_code: int
    """ELF ``e_machine``, PE ``Machine``, Mach-O ``cputype``."""
    elf_class: int
    """32 or 64 (also said for PE and Mach-O); 0 unknown."""
    order: str
    """``"little"`` or ``"big"``."""
    type: str
    """``"exec"``, ``"dyn"``, ``"rel"`` or ``"core"``."""
    linking: str
    """``"static"``, ``"static-pie"``, ``"dynamic"`` (a program that needs its loader), ``"shared"`` (a library),
    ``"object"`` (relocatable, kernel modules too), ``"debug"`` (separated debug information) or empty."""
    abi: str
    """``"x32"``, ``"ilp32"``, ``"o32"``, ``"n32"``, ``"n64"``, ``"eabi5"``, ``"lp64d"``, ``"elfv2"`` …"""
    flags: int
    """``e_flags``, as stored."""
    flag_words: tuple[str, ...]
    """The meanings of ``flags``, most telling first: ``("EABI5", "hard-float")``."""
    float_abi: str
    """``"hard"``, ``"soft"``, ``"single"``, ``"double"``, ``"quad"`` or empty where the format does not say."""
    interpreter: str
    """ELF ``PT_INTERP`` (the loader), or a script's interpreter."""
    needed: tuple[str, ...]
    soname: str
    rpath: tuple[str, ...]
    """``DT_RPATH``, split at colons, ``$ORIGIN`` as written."""
    runpath: tuple[str, ...]
    version_needs: tuple[tuple[str, tuple[str, ...]], ...]
    """``(("libc.so.6", ("GLIBC_2.34", …)), …)``; ``dict()`` makes a mapping of it. Weak ones are left out."""
    version_defs: tuple[str, ...]
    """The versions that a library defines, its own name left out."""
    arm_attributes: ArmAttributes | None
    x86_level: str
    """``"baseline"``, ``"v2"``, ``"v3"`` or ``"v4"`` when a GNU property note says what is needed; else empty."""
    aarch64_features: tuple[str, ...]
    """``"BTI"``, ``"PAC"``, ``"GCS"``."""
    page_align_max: int
    """The largest alignment of a loaded segment, in bytes: what the linker allowed for."""
    page_align_min: int
    """The smallest: on a kernel with larger pages than this the file cannot be mapped."""
    kernel: str
    """The oldest kernel that the file's ABI note accepts: ``"3.2.0"``."""
    os_assumed: bool
    go: str
    """Go's version (``"go1.26.1"``), ``"go"`` when it is Go of unknown version, empty when it is not, or not seen."""
    go_settings: tuple[tuple[str, str], ...]
    """The architecture settings Go records: ``(("GOARCH", "arm"), ("GOARM", "6"))``."""
    shebang: Shebang | None
    java: int
    """The oldest Java release that reads a class file; 0 unknown."""
    problem: str
    incomplete: tuple[str, ...]
    """Which of ``"segments"``, ``"interpreter"``, ``"dynamic"``, ``"strings"``, ``"versions"``, ``"notes"``,
    ``"attributes"``, ``"go"``, ``"members"`` were not handed over."""

    def __init__(self, kind: str = "other", **fields: Any) -> None:
        merged = {**_DEFAULTS, **fields, "kind": kind}
        if len(merged) != len(_DEFAULTS):
            raise TypeError(f"Facts has no field {', '.join(sorted(merged.keys() - _DEFAULTS.keys()))}")
        for name, value in merged.items():
            _set(self, name, value)

    @property
    def platform(self) -> Platform | None:
        """The first of ``platforms``, or ``None``."""
        return self.platforms[0] if self.platforms else None

    @property
    def is_go(self) -> bool:
        """Is it known to be a Go program?"""
        return bool(self.go)

    def to_json(self) -> dict[str, Any]:
        """The fields that say something, platforms as text; :meth:`from_json` reads it back."""
        shown: dict[str, Any] = {"kind": self.kind}
        for name, empty in _DEFAULTS.items():
            value = getattr(self, name)
            if name == "kind" or value == empty:
                continue
            if name == "platforms":
                value = [str(platform) for platform in value]
            elif isinstance(value, Value):
                value = {field: getattr(value, field) for field in value.__slots__}
            shown[name] = value
        return shown

    @classmethod
    def from_json(cls, shown: dict[str, Any]) -> Facts:
        """What :meth:`to_json` wrote. Raises TypeError for other fields, InvalidPlatform for other platforms."""
        fields = {name: _tuples(value) for name, value in shown.items()}
        fields["platforms"] = tuple(Platform.parse(text) for text in fields.get("platforms", ()))
        if "shebang" in fields:
            fields["shebang"] = Shebang(**fields["shebang"])
        if "arm_attributes" in fields:
            fields["arm_attributes"] = ArmAttributes(**fields["arm_attributes"])
        return cls(**fields)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


class Kept:
    """Collects chosen ranges of a file that streams by once, and answers for them as ``more``.

    ::

        kept = Kept(wanted(head, size))
        for chunk in content:          # from the first byte of the file on
            kept.feed(chunk)
            if kept.done: ...          # the rest can be skipped
        facts = read_facts(head, size, kept)
    """

    __slots__ = ("_held", "_last", "_position", "_ranges")

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._ranges = tuple(ranges)
        self._held = [bytearray() for _ in self._ranges]
        self._last = max((offset + length for offset, length in self._ranges), default=0)
        self._position = 0

    @property
    def done(self) -> bool:
        """Has everything passed that was wanted?"""
        return self._position >= self._last

    def feed(self, chunk: bytes | memoryview) -> None:
        """The next bytes of the file, in order."""
        start, end = self._position, self._position + len(chunk)
        self._position = end
        if start >= self._last:
            return
        for (offset, length), held in zip(self._ranges, self._held, strict=True):
            low, high = max(start, offset), min(end, offset + length)
            if low < high:
                held += chunk[low - start : high - start]

    def __call__(self, offset: int, length: int) -> bytes:
        """As many of the bytes from ``offset`` on as one range holds; empty when none does."""
        best = b""
        for (start, _), held in zip(self._ranges, self._held, strict=True):
            if start <= offset < start + len(held):
                part = bytes(held[offset - start : offset - start + length])
                if len(part) > len(best):
                    best = part
        return best
