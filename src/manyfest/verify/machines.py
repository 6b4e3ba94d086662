# SPDX-License-Identifier: Apache-2.0
"""Machine, class, byte order and flags of a file, as a platform; and whether it runs in an image.

One table (:data:`TABLE`) names every combination that Linux or one of its relatives runs as a host; machines
that only ever execute inside something else are in :data:`FOREIGN`. ``docs/reference/elf.md`` prints it.

    >>> from manyfest.platforms import Platform
    >>> found = identify(40, 32, "little", 0x05000400)
    >>> found.architecture, found.variant, found.abi, found.float_abi
    ('arm', 'v6', 'eabi5', 'hard')
    >>> compatible(Platform.parse("linux/arm/v7"), Platform.parse("linux/arm/v6")).word
    'newer'
"""

from __future__ import annotations

from functools import lru_cache

from manyfest.platforms import Only, Platform, normalise
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FOREIGN",
    "SYSTEMS",
    "TABLE",
    "Identity",
    "Verdict",
    "compatible",
    "identify",
    "platform",
    "system",
]

# fmt: off
TABLE: dict[tuple[int, int, str], tuple[str, str, str]] = {
    # (e_machine, bits, byte order): (in words, architecture as Go says it, ABI when it is not the usual one)
    (62, 64, "little"): ("x86-64", "amd64", ""),
    (62, 32, "little"): ("x86-64", "amd64", "x32"),
    (3, 32, "little"): ("Intel 80386", "386", ""),
    (6, 32, "little"): ("Intel 80486", "386", ""),
    (183, 64, "little"): ("AArch64", "arm64", ""),
    (183, 64, "big"): ("AArch64", "arm64be", ""),
    (183, 32, "little"): ("AArch64", "arm64", "ilp32"),
    (183, 32, "big"): ("AArch64", "arm64be", "ilp32"),
    (40, 32, "little"): ("ARM", "arm", ""),
    (40, 32, "big"): ("ARM", "armbe", ""),
    (21, 64, "little"): ("PowerPC64", "ppc64le", ""),
    (21, 64, "big"): ("PowerPC64", "ppc64", ""),
    (20, 32, "big"): ("PowerPC", "ppc", ""),
    (20, 32, "little"): ("PowerPC", "ppcle", ""),
    (22, 64, "big"): ("S/390", "s390x", ""),
    (22, 32, "big"): ("S/390", "s390", ""),
    (0xA390, 64, "big"): ("S/390", "s390x", ""),
    (0xA390, 32, "big"): ("S/390", "s390", ""),
    (243, 64, "little"): ("RISC-V", "riscv64", ""),
    (243, 32, "little"): ("RISC-V", "riscv32", ""),
    (258, 64, "little"): ("LoongArch", "loong64", ""),
    (258, 32, "little"): ("LoongArch", "loong32", ""),
    (8, 32, "big"): ("MIPS", "mips", ""),
    (8, 32, "little"): ("MIPS", "mipsle", ""),
    (8, 64, "big"): ("MIPS", "mips64", ""),
    (8, 64, "little"): ("MIPS", "mips64le", ""),
    (10, 32, "little"): ("MIPS", "mipsle", ""),
    (43, 64, "big"): ("SPARC V9", "sparc64", ""),
    (2, 32, "big"): ("SPARC", "sparc", ""),
    (18, 32, "big"): ("SPARC V8+", "sparc", ""),
    (0x9026, 64, "little"): ("Alpha", "alpha", ""),
    (41, 64, "little"): ("Alpha", "alpha", ""),
    (15, 32, "big"): ("PA-RISC", "hppa", ""),
    (15, 64, "big"): ("PA-RISC", "hppa64", ""),
    (4, 32, "big"): ("Motorola 68000", "m68k", ""),
    (42, 32, "little"): ("SuperH", "sh4", ""),
    (42, 32, "big"): ("SuperH", "sh4eb", ""),
    (50, 64, "little"): ("IA-64", "ia64", ""),
    (92, 32, "big"): ("OpenRISC", "or1k", ""),
    (94, 32, "little"): ("Xtensa", "xtensa", ""),
    (94, 32, "big"): ("Xtensa", "xtensaeb", ""),
    (189, 32, "big"): ("MicroBlaze", "microblaze", ""),
    (189, 32, "little"): ("MicroBlaze", "microblazeel", ""),
    (113, 32, "little"): ("Nios II", "nios2", ""),
    (93, 32, "little"): ("ARC", "arc", ""),
    (195, 32, "little"): ("ARCv2", "arc", ""),
    (252, 32, "little"): ("C-SKY", "csky", ""),
    (164, 32, "little"): ("Hexagon", "hexagon", ""),
}

# Code that an image may hold on purpose, whatever its platform: no kernel starts it as a program.
FOREIGN: dict[int, str] = {
    0: "no machine", 23: "Cell SPU", 46: "H8/300", 83: "AVR", 87: "V850", 105: "MSP430", 106: "Blackfin",
    140: "TI C6000", 144: "TI PRU", 165: "8051", 173: "RX", 190: "NVIDIA CUDA", 197: "RL78", 198: "VideoCore V",
    205: "Intel GPU", 224: "AMD GPU", 244: "Lanai", 247: "eBPF", 251: "NEC VE", 0x9080: "V850", 6502: "MOS 6502",
}
# fmt: on

SYSTEMS = {
    1: "hpux",
    2: "netbsd",
    3: "linux",
    4: "hurd",
    6: "solaris",
    7: "aix",
    8: "irix",
    9: "freebsd",
    12: "openbsd",
    13: "openvms",
}
"""``EI_OSABI``, where it names a system. 0 (System V) and what is not here leave it open."""

_STANDALONE = 255


class Identity(Value):
    """What the fixed header says. ``architecture`` is empty when no host runs the code by itself."""

    __slots__ = ("machine", "architecture", "variant", "abi", "words", "float_abi", "problem")  # noqa: RUF023
    machine: str
    architecture: str
    variant: str
    abi: str
    words: tuple[str, ...]
    float_abi: str
    problem: str

    def __init__(
        self,
        machine: str,
        architecture: str = "",
        variant: str = "",
        abi: str = "",
        words: tuple[str, ...] = (),
        float_abi: str = "",
        problem: str = "",
    ) -> None:
        self._set(
            machine=machine,
            architecture=architecture,
            variant=variant,
            abi=abi,
            words=words,
            float_abi=float_abi,
            problem=problem,
        )


class Verdict(Value):
    """May code for one platform run in an image for another, and why.

    ``word`` is ``"native"``; ``"older"``, code for a lower variant, which runs; ``"compat"``, code for the same
    processor in another mode, which runs only where kernel and processor offer it; ``"newer"``, code that asks
    for more than the image promises; ``"wrong"``, another machine or system.
    """

    __slots__ = ("word", "text")  # noqa: RUF023
    word: str
    text: str

    def __init__(self, word: str, text: str = "") -> None:
        self._set(word=word, text=text)

    @property
    def runs(self) -> bool:
        """Does it run on every machine that the image is for? ``False`` for ``"compat"``: it depends."""
        return self.word in ("native", "older")


@lru_cache(maxsize=1024)
def identify(machine: int, bits: int, order: str, flags: int = 0) -> Identity:
    """Read ``e_machine``, class (32 or 64), byte order (``"little"``, ``"big"``) and ``e_flags``."""
    row = TABLE.get((machine, bits, order))
    if row is not None:
        words, architecture, abi = row
        refine = _FLAGS.get(machine)
        found = Identity(words, architecture, abi=abi)
        return refine(found, flags) if refine else found
    if machine in FOREIGN:
        return Identity(FOREIGN[machine])
    known = next((value[0] for key, value in TABLE.items() if key[0] == machine), "")
    if known:
        return Identity(known, problem=f"says {known}, {bits}-bit, {order}-endian: there is no such machine")
    return Identity(f"machine {machine}")


@lru_cache(maxsize=1024)
def platform(os: str, architecture: str, variant: str = "") -> Platform:
    """The platform, made once: thousands of files share a few."""
    return Platform(os, architecture, variant)


def _arm(found: Identity, flags: int) -> Identity:
    """EABI version in the top byte; the float bits are defined for version 5 alone.

    The flags do not say the processor's level. Hard float needs VFP, which arm/v6 processors have (Raspbian's
    and Alpine's armhf); everything else may be as old as v5, the oldest that the EABI's distributions serve.
    """
    version = flags >> 24
    words = [f"EABI{version}" if version else "OABI"]
    float_abi = ""
    if version == 5 and flags & 0x600:
        float_abi = "hard" if flags & 0x400 else "soft"
        words.append(f"{float_abi}-float")
    if flags & 0x00800000:
        words.append("BE8")
    return found.replace(
        variant="v6" if float_abi == "hard" else "v5",
        abi=words[0].lower(),
        words=tuple(words),
        float_abi=float_abi,
    )


_MIPS_LEVELS = (
    "mips1",
    "mips2",
    "mips3",
    "mips4",
    "mips5",
    "mips32",
    "mips64",
    "mips32r2",
    "mips64r2",
    "mips32r6",
    "mips64r6",
)
_MIPS_ABIS = {0x1000: "o32", 0x2000: "o64", 0x3000: "eabi32", 0x4000: "eabi64"}


def _mips(found: Identity, flags: int) -> Identity:
    """n32 is 64-bit code in 32-bit files: the processor and the image are mips64's."""
    architecture = found.architecture
    abi = "n64" if "64" in architecture else _MIPS_ABIS.get(flags & 0xF000, "o32")
    if abi != "n64" and flags & 0x20:
        abi, architecture = "n32", architecture.replace("mips", "mips64")
    level = flags >> 28
    words = [abi, _MIPS_LEVELS[level] if level < len(_MIPS_LEVELS) else f"level {level}"]
    words += [
        word for bit, word in ((0x400, "nan2008"), (0x200, "fp64"), (0x2000000, "micromips")) if flags & bit
    ]
    return found.replace(architecture=architecture, abi=abi, words=tuple(words))


_RISCV_FLOATS = {0: ("soft", ""), 2: ("single", "f"), 4: ("double", "d"), 6: ("quad", "q")}


def _riscv(found: Identity, flags: int) -> Identity:
    float_abi, letter = _RISCV_FLOATS[flags & 6]
    base = "lp64" if "64" in found.architecture else "ilp32"
    abi = f"{base}e" if flags & 8 else base + letter
    words = [abi, *(word for bit, word in ((1, "RVC"), (8, "RVE"), (16, "TSO")) if flags & bit)]
    return found.replace(abi=abi, words=tuple(words), float_abi=float_abi)


def _ppc64(found: Identity, flags: int) -> Identity:
    abi = {1: "elfv1", 2: "elfv2"}.get(flags & 3, "")
    return found.replace(abi=abi, words=(abi,) if abi else ())


_LOONG_FLOATS = {1: ("soft", "s"), 2: ("single", "f"), 3: ("double", "d")}


def _loongarch(found: Identity, flags: int) -> Identity:
    float_abi, letter = _LOONG_FLOATS.get(flags & 7, ("", ""))
    abi = ("lp64" if "64" in found.architecture else "ilp32") + letter if letter else ""
    version = "object ABI 1" if flags & 0xC0 == 0x40 else "object ABI 0"
    return found.replace(abi=abi, words=(abi, version) if abi else (version,), float_abi=float_abi)


def _superh(found: Identity, flags: int) -> Identity:
    level = flags & 0x1F
    names = {
        1: "sh1",
        2: "sh2",
        3: "sh3",
        8: "sh3e",
        9: "sh4",
        11: "sh2e",
        12: "sh4a",
        13: "sh2a",
        18: "sh4-nofpu",
    }
    words = [names.get(level, f"level {level}")] + (["fdpic"] if flags & 0x8000 else [])
    return found.replace(words=tuple(words))


def _hppa(found: Identity, flags: int) -> Identity:
    name = {0x20B: "pa-risc 1.0", 0x210: "pa-risc 1.1", 0x214: "pa-risc 2.0"}.get(flags & 0xFFFF, "")
    return found.replace(words=(name,) if name else ())


def _m68k(found: Identity, flags: int) -> Identity:
    """ColdFire shares the number, but not the instructions that a 68000 Linux needs."""
    if flags & 0xFF and not flags & 0x1000000:
        return found.replace(words=("coldfire",), abi="coldfire")
    return found


_FLAGS: dict[int, Callable[[Identity, int], Identity]] = {
    4: _m68k,
    8: _mips,
    10: _mips,
    15: _hppa,
    21: _ppc64,
    40: _arm,
    42: _superh,
    243: _riscv,
    258: _loongarch,
}

# (the file's architecture, the image's): the same processor in another mode, and what that takes.
_COMPATIBLE = {
    ("386", "amd64"): "32-bit code, which an amd64 kernel runs only with IA-32 emulation",
    ("arm", "arm64"): "32-bit code, which many arm64 processors and kernels no longer run",
    ("armbe", "arm64be"): "32-bit code, which many arm64 processors and kernels no longer run",
    ("s390", "s390x"): "31-bit code, which an s390x kernel runs only with 31-bit emulation",
    ("ppc", "ppc64"): "32-bit code, which a ppc64 kernel runs only with 32-bit support",
    ("mips", "mips64"): "o32 code, which a mips64 kernel runs only with o32 support",
    ("mipsle", "mips64le"): "o32 code, which a mips64le kernel runs only with o32 support",
    ("sparc", "sparc64"): "32-bit code, which a sparc64 kernel runs only with 32-bit support",
    ("hppa", "hppa64"): "32-bit code, which an hppa64 kernel runs only with 32-bit support",
    ("riscv32", "riscv64"): "32-bit code, which almost no riscv64 processor runs",
}
_OTHER_ABIS = {
    "x32": "x32 code, which most amd64 kernels refuse",
    "ilp32": "ILP32 code, which mainline arm64 kernels refuse",
    "n32": "n32 code, which a mips64 kernel runs only with n32 support",
}


@lru_cache(maxsize=4096)
def compatible(file: Platform, image: Platform, abi: str = "") -> Verdict:
    """May a file that needs at least ``file`` (and has ``abi``) run in an image for ``image``?

    An operating system that the file leaves open (empty) is no reason against it.
    """
    wanted, promised = normalise(file), normalise(image)
    if wanted.os and wanted.os != promised.os:
        return Verdict("wrong", f"code for {file.os} in an image for {image}")
    wanted = wanted.replace(os=promised.os, os_version="", os_features=())
    if wanted.architecture != promised.architecture:
        reason = _COMPATIBLE.get((wanted.architecture, promised.architecture), "")
        if reason:
            return Verdict("compat", reason)
        return Verdict("wrong", f"code for {file} in an image for {image}")
    if not Only(promised.replace(os_version="", os_features=())).matches(wanted):
        return Verdict("newer", f"needs {file}, more than {image} promises")
    if abi in _OTHER_ABIS:
        return Verdict("compat", _OTHER_ABIS[abi])
    return Verdict("native" if wanted.variant == promised.variant else "older")


def system(osabi: int) -> str | None:
    """``EI_OSABI`` as an operating system: empty when it leaves that open, ``None`` for code without one."""
    return None if osabi == _STANDALONE else SYSTEMS.get(osabi, "")
