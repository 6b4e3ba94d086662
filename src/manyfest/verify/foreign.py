# SPDX-License-Identifier: Apache-2.0
"""Whose machine a file is for: the image's, one its processors run besides, or another; and if that is on purpose.

Real images hold code for other machines: firmware, cross compilers' libraries, test data of Go, prebuilt modules of
Node for every system, emulators, programs for graphics processors. None of that is a mistake, and most of it says what
it is by where it lies.
"""

from __future__ import annotations

import re
from functools import lru_cache

from manyfest.platforms import Only, Platform, names, normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.verify.facts import Facts

__all__ = ["PROGRAM_FOLDERS", "Fit", "chooses_its_code", "is_program_folder", "purpose", "windows_purpose"]

PROGRAM_FOLDERS = frozenset(
    (
        "bin",
        "sbin",
        "usr/bin",
        "usr/sbin",
        "usr/local/bin",
        "usr/local/sbin",
        "usr/games",
        "usr/libexec",
        "app",
        "",
    )
)

# Folders, and parts of folders' names. Not "modules", "kernel", "boot", "debug" or "cuda": those of web servers,
# Jupyter, Spring and Rust are full of code that has to run, and what else is in them says what it is by itself.
_FIRMWARE = frozenset(
    [
        "firmware",
        "grub",
        "efi",
        "syslinux",
        "isolinux",
        "u-boot",
        "uboot",
        "seabios",
        "openbios",
        "opensbi",
        "qemu",
        "ipxe",
        "vgabios",
        "coreboot",
        "memtest",
        "bpf",
        "ebpf",
        "wine",
        "wine64",
        "box64",
        "box86",
        "rosetta",
        "fex",
        "msys",
        "mingw",
    ]
)
_FIRMWARE_ROOTS = ("boot/", "usr/share/", "usr/src/", "usr/include/", "usr/lib/debug/")
_TESTS = frozenset(
    [
        "test",
        "tests",
        "testdata",
        "test-data",
        "testing",
        "fixtures",
        "__tests__",
        "__fixtures__",
        "samples",
        "sample",
    ]
)
_EMULATORS = ("qemu-", "qemu_", "box64", "box86", "wine", "rosetta", "FEX")
# Folders of processor levels, and GCC's libatomic: one library with code for several, chosen when it is loaded.
_LEVELS = (
    "hwcaps",
    "haswell",
    "x86-64-v",
    "x86_64_v",
    "avx",
    "sse4",
    "neon",
    "vfp",
    "v7l",
    "simd",
    "/libatomic.so.",
)
# distlib's and setuptools' launchers lie there for all processors.
_LAUNCHER = re.compile(r"[tw](32|64)(-arm)?\.exe|(cli|gui)(-32|-64|-arm64)?\.exe")
_SPLIT = re.compile(r"[/_.+\-]+")
_WORDS = {
    "amd64": "amd64 x64 x86_64 x8664 x86 64bit win64 linux64",
    "386": "386 i386 i486 i586 i686 ia32 x86 32bit win32 linux32 lib32",
    "arm64": "arm64 aarch64 armv8 arm64v8 arm",
    "arm": "arm armhf armel armv5 armv6 armv7 armv7l armv6l arm32 arm32v7 arm32v6 gnueabi gnueabihf eabi thumb",
    "ppc64le": "ppc64le ppc64el powerpc64le powerpc ppc64 ppc",
    "riscv64": "riscv64 riscv rv64 rv32",
    "mips": "mips mipsel mips64 mips64el",
}


class Fit:
    """How a file's machine goes with a platform. Remembers: images have few kinds of files."""

    NATIVE, SECOND, ARM_LEVEL, X86_LEVEL, FOREIGN, NONE = "native", "second", "arm", "x86", "foreign", "none"
    ARM_PARTS = "parts"
    """32-bit ARM code with parts for v8. A program says the highest level of all that it was linked of, and what is
    built for v7 with one v8 routine that is chosen at run time (PostgreSQL, libgcrypt, NumPy) says v8."""

    def __init__(self, platform: Platform) -> None:
        self.platform = normalise(platform)
        self._matcher = Only(platform)
        self._known: dict[tuple[Platform, ...], str] = {}

    def of(self, facts: Facts) -> str:
        """One of the words above; ``NONE`` for code that no host runs by itself."""
        return self.of_platforms(facts.platforms)

    def of_platforms(self, platforms: tuple[Platform, ...]) -> str:
        """The same for code that is for any one of several."""
        if not platforms:
            return self.NONE
        known = self._known.get(platforms)
        if known is None:
            known = self._known[platforms] = self._judge(platforms)
        return known

    def _judge(self, platforms: tuple[Platform, ...]) -> str:
        here = self.platform
        normal = [normalise(each.replace(os_version="", os_features=())) for each in platforms]
        same = [each for each in normal if (each.os, each.architecture) == (here.os, here.architecture)]
        if any(self._matcher.matches(each) for each in same):
            return self.NATIVE
        if any(self._matcher.matches(each) for each in normal):
            return self.SECOND
        if same and here.architecture == "arm":
            return self.ARM_PARTS if all(each.variant == "v8" for each in same) else self.ARM_LEVEL
        if same and here.architecture == "amd64":
            return self.X86_LEVEL
        return self.NATIVE if same else self.FOREIGN


def is_program_folder(path: str, search: tuple[str, ...]) -> bool:
    """Is the file in a folder that people start programs from?"""
    folder = path.rpartition("/")[0]
    return folder in PROGRAM_FOLDERS or f"/{folder}" in search


def chooses_its_code(path: str) -> bool:
    """Is the library one that looks at the processor first, and so may hold code that the platform does not promise?"""
    return any(word in f"/{path}" for word in _LEVELS)


def purpose(path: str, facts: Facts, *, is_program: bool) -> str:
    """Why a file for another machine is no mistake, in a few words; empty when it may be one."""
    name = path.rpartition("/")[2]
    if name.startswith(_EMULATORS):
        return "an emulator"
    if facts.kind != "elf":
        return f"a {facts.kind} file"
    if facts.linking == "object" or facts.type in ("rel", "core"):
        return "an object to link, or a kernel module"
    if is_program:
        return ""
    folders = _words_of(path.rpartition("/")[0])
    if facts.linking == "debug" or "/.debug/" in path:
        return "debug information"
    if folders & _FIRMWARE or "firmware" in name.lower() or path.startswith(_FIRMWARE_ROOTS):
        return "firmware, or data of another program"
    if folders & _TESTS:
        return "test data"
    words = _words_of(path)
    if any(words & _spellings(platform.architecture) for platform in facts.platforms):
        return "in a folder named after its architecture"
    return ""


def windows_purpose(path: str, facts: Facts, *, is_program: bool) -> str:
    """The same for Windows' programs in an image for Windows."""
    name = path.lower().rpartition("/")[2]
    if _LAUNCHER.fullmatch(name):
        return "a launcher that an installer of Python packages copies"
    words = _words_of(path)
    if is_program:
        return ""
    if _words_of(path.rpartition("/")[0]) & _TESTS:
        return "test data"
    if any(words & _spellings(platform.architecture) for platform in facts.platforms):
        return "in a folder named after its architecture"
    return ""


def _words_of(path: str) -> frozenset[str]:
    folder = path.lower()
    # x86_64 and its like have a separator in them.
    whole = set(folder.split("/"))
    words = {word for word in _SPLIT.split(folder) if word}
    if "x86_64" in folder or "x86-64" in folder:
        words.add("x86_64")
    return frozenset(words | whole)


@lru_cache(maxsize=64)
def _spellings(architecture: str) -> frozenset[str]:
    row = names(Platform("linux", architecture))
    found = set(_WORDS.get(architecture, architecture).split())
    found |= {row.uname, row.debian, row.alpine, row.gnu.partition("-")[0], architecture}
    return frozenset(word for word in found if word)
