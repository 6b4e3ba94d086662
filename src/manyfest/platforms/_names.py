# SPDX-License-Identifier: Apache-2.0
"""What else a platform is called: by the kernel, compilers, distributions and Docker's official images.

Every name here is one row of one table. Two words mean different things to different people, and are traps:

- ``armhf`` is arm/v7 for containerd and Debian, but arm/v6 for Alpine and Raspbian.
- ``armel`` is arm/v6 for containerd, but arm/v5 for Debian.

:func:`from_name` reads both as containerd does, :func:`from_debian` and :func:`from_alpine` as their owners.
A kernel of mips64 says ``mips64`` whatever its byte order; :func:`from_uname` takes the order as an argument.

    >>> names(Platform.parse("linux/arm/v7")).debian, str(from_name("armv6l")), str(from_alpine("armhf"))
    ('armhf', 'linux/arm/v6', 'linux/arm/v6')
"""

from __future__ import annotations

from manyfest.errors import InvalidPlatform
from manyfest.platforms._platform import _ARCHITECTURES, _SYSTEMS, Platform, normalise
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Names",
    "from_alpine",
    "from_debian",
    "from_name",
    "from_uname",
    "go_environment",
    "is_known",
    "names",
    "require_known",
    "suggest",
    "suggestion",
]


class Names(Value):
    """One architecture's names; empty where there is none."""

    __slots__ = ("architecture", "variant", "uname", "gnu", "debian", "alpine", "docker_library")  # noqa: RUF023
    architecture: str
    variant: str
    uname: str
    gnu: str
    debian: str
    alpine: str
    docker_library: str

    def __init__(
        self,
        architecture: str,
        variant: str = "",
        uname: str = "",
        gnu: str = "",
        debian: str = "",
        alpine: str = "",
        docker_library: str = "",
    ) -> None:
        self._set(
            architecture=architecture,
            variant=variant,
            uname=uname,
            gnu=gnu,
            debian=debian,
            alpine=alpine,
            docker_library=docker_library,
        )


# architecture, normalised variant, uname -m, GNU triple, Debian, Alpine, prefix of Docker's official images
_TABLE = tuple(
    Names(*row)
    for row in (
        ("amd64", "", "x86_64", "x86_64-linux-gnu", "amd64", "x86_64", "amd64"),
        ("386", "", "i686", "i686-linux-gnu", "i386", "x86", "i386"),
        ("arm64", "", "aarch64", "aarch64-linux-gnu", "arm64", "aarch64", "arm64v8"),
        ("arm", "v7", "armv7l", "arm-linux-gnueabihf", "armhf", "armv7", "arm32v7"),
        ("arm", "v6", "armv6l", "arm-linux-gnueabihf", "", "armhf", "arm32v6"),
        ("arm", "v5", "armv5tel", "arm-linux-gnueabi", "armel", "", "arm32v5"),
        ("ppc64le", "", "ppc64le", "powerpc64le-linux-gnu", "ppc64el", "ppc64le", "ppc64le"),
        ("s390x", "", "s390x", "s390x-linux-gnu", "s390x", "s390x", "s390x"),
        ("riscv64", "", "riscv64", "riscv64-linux-gnu", "riscv64", "riscv64", "riscv64"),
        ("loong64", "", "loongarch64", "loongarch64-linux-gnu", "loong64", "loongarch64", ""),
        ("mips64le", "", "mips64", "mips64el-linux-gnuabi64", "mips64el", "", "mips64le"),
        ("mips64", "", "mips64", "mips64-linux-gnuabi64", "mips64", "", ""),
        ("mipsle", "", "mips", "mipsel-linux-gnu", "mipsel", "", ""),
        ("mips", "", "mips", "mips-linux-gnu", "mips", "", ""),
        ("ppc64", "", "ppc64", "powerpc64-linux-gnu", "ppc64", "", ""),
        ("sparc64", "", "sparc64", "sparc64-linux-gnu", "sparc64", "", ""),
    )
)

# What ``uname -m`` says, lower case, on Linux, macOS, the BSDs, Solaris and Windows.
_UNAME = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "i86pc": "386",
    "x86": "386",
    "aarch64": "arm64",
    "arm64": "arm64",
    "aarch64_be": "arm64be",
    # A 32-bit program on a 64-bit kernel sees armv8l: what it can run is arm/v8.
    "armv8l": "arm/v8",
    "armv7": "arm/v7",
    "armv7l": "arm/v7",
    "armv7b": "armbe",
    "armv7hl": "arm/v7",
    "armv6": "arm/v6",
    "armv6l": "arm/v6",
    "armv6hl": "arm/v6",
    "armv5": "arm/v5",
    "armv5l": "arm/v5",
    "armv5tl": "arm/v5",
    "armv5tel": "arm/v5",
    "armv5tejl": "arm/v5",
    "ppc": "ppc",
    "ppc64": "ppc64",
    "ppc64le": "ppc64le",
    "s390": "s390",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
    "mips": "mips",
    "mips64": "mips64",
    "sparc64": "sparc64",
}

# Spellings met in file names, recipes and package names that none of the tables has.
_OTHER = {
    "x64": "amd64",
    "x86-64": "amd64",
    "ia32": "386",
    "arm32": "arm/v7",
    "arm64v8": "arm64",
    "arm64v9": "arm64/v9",
    "armv8": "arm64",
    "arm-v5": "arm/v5",
    "arm-v6": "arm/v6",
    "arm-v7": "arm/v7",
    "armv5te": "arm/v5",
    "armv7a": "arm/v7",
    "armv7-a": "arm/v7",
    "ppc64el": "ppc64le",
    "powerpc64le": "ppc64le",
    "power": "ppc64le",
    "systemz": "s390x",
    "riscv": "riscv64",
    "mipsel": "mipsle",
    "mips64el": "mips64le",
    "loong": "loong64",
}

# What Go compiles for (go tool dist list), Docker's list for annotate, and WebAssembly as engines name it.
_KNOWN_PAIRS = {
    "aix": "ppc64",
    "android": "386 amd64 arm arm64",
    "darwin": "386 amd64 arm arm64",
    "dragonfly": "amd64",
    "freebsd": "386 amd64 arm arm64 riscv64",
    "illumos": "amd64",
    "ios": "amd64 arm64",
    "js": "wasm",
    "linux": "386 amd64 arm arm64 loong64 mips mipsle mips64 mips64le ppc64 ppc64le riscv64 s390x sparc64",
    "netbsd": "386 amd64 arm arm64",
    "openbsd": "386 amd64 arm arm64 mips64 ppc64 riscv64",
    "plan9": "386 amd64 arm",
    "solaris": "amd64",
    "wasi": "wasm wasm32",
    "wasip1": "wasm",
    "windows": "386 amd64 arm arm64",
    "zos": "s390x",
}

_GO_VARIABLES = {"amd64": "GOAMD64", "arm64": "GOARM64", "ppc64le": "GOPPC64", "riscv64": "GORISCV64"}


def names(platform: Platform) -> Names:
    """The row of a platform's architecture; all names but Go's are empty when there is none.

    A variant without a row of its own has its architecture's: ``amd64/v3`` is ``x86_64`` too.
    """
    normal = normalise(platform)
    fallback = "v7" if normal.architecture == "arm" and normal.variant not in ("v5", "v6", "v7") else ""
    for variant in (normal.variant, fallback):
        for row in _TABLE:
            if (row.architecture, row.variant) == (normal.architecture, variant):
                return row
    return Names(normal.architecture, normal.variant)


def go_environment(platform: Platform) -> dict[str, str]:
    """What ``go build`` needs: GOOS, GOARCH, and GOARM, GOAMD64, … where the variant says so."""
    normal = normalise(platform)
    environment = {"GOOS": normal.os, "GOARCH": normal.architecture}
    if normal.architecture == "arm":
        # Go knows up to 7; code for it runs on the 32-bit side of v8.
        environment["GOARM"] = str(min(int(normal.variant[1:]), 7)) if normal.variant[1:].isdigit() else "7"
    elif normal.variant and normal.architecture in _GO_VARIABLES:
        environment[_GO_VARIABLES[normal.architecture]] = _go_level(normal.architecture, normal.variant)
    return environment


def _go_level(architecture: str, variant: str) -> str:
    if architecture == "arm64" and "." not in variant:
        return f"{variant}.0"
    return variant


def from_uname(machine: str, *, little_endian: bool = False, os: str = "linux") -> Platform:
    """What ``uname -m`` says. ``little_endian`` decides mips, whose kernels do not tell.

    Raises :class:`InvalidPlatform` for a machine nobody here knows.
    """
    found = _UNAME.get(machine.strip().lower())
    if found is None:
        raise InvalidPlatform(
            f"machine {machine!r}: expected a word of uname -m such as x86_64, aarch64 or armv7l"
        )
    if found in ("mips", "mips64") and little_endian:
        found += "le"
    return _platform(found, os)


def from_debian(name: str) -> Platform:
    """A Debian architecture, by Debian's meaning: ``armel`` is arm/v5, ``armhf`` arm/v7."""
    return _from_column(name, "Debian", {row.debian: row for row in _TABLE})


def from_alpine(name: str) -> Platform:
    """An Alpine architecture, by Alpine's meaning: ``armhf`` is arm/v6, ``armv7`` arm/v7."""
    return _from_column(name, "Alpine", {row.alpine: row for row in _TABLE})


def _from_column(name: str, owner: str, rows: dict[str, Names]) -> Platform:
    row = rows.get(name) if name else None
    if row is None:
        known = ", ".join(sorted(key for key in rows if key))
        raise InvalidPlatform(f"{name!r} is no architecture of {owner}'s, expected one of {known}")
    return Platform("linux", row.architecture, row.variant)


def from_name(text: str, *, os: str = "linux") -> Platform:
    """Any known spelling: ``arm64``, ``aarch64``, ``armhf``, ``arm32v7``, ``linux-arm-v7``, a GNU triple.

    For names of files and tags such as ``Dockerfile.armhf``. Case does not matter; ambiguous words mean what
    containerd says. Raises :class:`InvalidPlatform` with a suggestion.
    """
    word = text.strip().lower()
    found = _look_up(word, os)
    if found is None:
        near = suggest(word)
        raise InvalidPlatform(
            f"{text!r}: not the name of an architecture, expected one such as arm64, x86_64 or linux-arm-v7",
            hint=f"did you mean {near}?" if near else "",
        )
    return found


def _look_up(word: str, os: str) -> Platform | None:
    known = _spellings().get(word)
    if known is not None:
        return _platform(known, os)
    for separator in ("/", "-", "_", "."):
        system, found, rest = word.partition(separator)
        if found and system in (_SYSTEMS | {"macos"}) and rest:
            return _look_up(rest, "darwin" if system == "macos" else system)
    for separator in ("/", "-", "_", "."):
        architecture, found, variant = word.partition(separator)
        if found and architecture in _spellings() and _is_level(variant):
            return normalise(_platform(_spellings()[architecture], os).replace(variant=variant))
    return None


def _is_level(variant: str) -> bool:
    return variant[:1] == "v" and variant[1:].replace(".", "", 1).isdigit()


def _spellings() -> dict[str, str]:
    """Every word -> ``arch[/variant]``. Later sources win: containerd's meaning comes last."""
    found: dict[str, str] = {name: name for name in _ARCHITECTURES}
    for row in reversed(_TABLE):
        value = f"{row.architecture}/{row.variant}" if row.variant else row.architecture
        for word in _words_of(row):
            found[word] = value
    found.update(_OTHER)
    found.update(_UNAME)
    found.update({"arm": "arm/v7", "armhf": "arm/v7", "armel": "arm/v6"})
    return found


def _words_of(row: Names) -> Iterator[str]:
    for word in (
        row.alpine,
        row.debian,
        row.docker_library,
        row.gnu,
        row.gnu.replace("-linux-gnu", "-linux-musl"),
    ):
        if word:
            yield word
    if row.variant:
        yield f"{row.architecture}{row.variant}"


def _platform(text: str, os: str) -> Platform:
    architecture, _, variant = text.partition("/")
    return Platform(os, architecture, variant)


def is_known(platform: Platform) -> bool:
    """See :attr:`Platform.is_known`."""
    normal = normalise(platform)
    return normal.architecture in _KNOWN_PAIRS.get(normal.os, "").split()


def require_known(platform: Platform) -> Platform:
    """The same platform. Raises :class:`InvalidPlatform` in Docker's words if nobody runs it."""
    if is_known(platform):
        return platform
    near = suggestion(platform)
    raise InvalidPlatform(
        f"unsupported os/arch combination: {platform.os}/{platform.architecture}",
        hint=f"did you mean {near}?" if near else "platforms are named as Go names them: go tool dist list",
    )


def suggestion(platform: Platform) -> str:
    """See :attr:`Platform.suggestion`."""
    if is_known(platform) or platform.is_unknown or not platform.is_complete:
        return ""
    system = _nearest(platform.os.lower(), sorted(_KNOWN_PAIRS)) or "linux"
    near = suggest(f"{system}/{platform.architecture}")
    return near if near and "/" in near else ""


def suggest(text: str) -> str:
    """The nearest platform or word to a mistyped one, or the empty string."""
    system, slash, word = text.lower().rpartition("/")
    words = _spellings()
    exact = _look_up(word, system or "linux")
    if exact is not None:
        return str(exact)
    near = _nearest(word, sorted(words))
    if near:
        return str(_platform(words[near], system or "linux"))
    return "" if slash else _nearest(word, sorted(_KNOWN_PAIRS))


def _nearest(word: str, candidates: list[str]) -> str:
    """The most alike, swapped letters (``arm46``) before all others; empty when nothing is near."""
    swapped = [candidate for candidate in candidates if sorted(candidate) == sorted(word)]
    if word in candidates or swapped:
        return word if word in candidates else swapped[0]
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, candidates, n=1, cutoff=0.7)), "")
