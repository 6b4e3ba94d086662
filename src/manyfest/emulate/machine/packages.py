# SPDX-License-Identifier: Apache-2.0
"""Debian's packages of any architecture, with all that they need: resolved and downloaded by apt, installed by nobody.

apt gets a state of its own: nothing of this machine's is read but how it reaches networks (``Acquire``), nothing
written. It checks the archive's signature as always; sizes and SHA-256 are checked here once more, for apt trusts a
file of the right size that is there already.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from manyfest.emulate.machine.outside import call, need
from manyfest.errors import EmulationError, InputError
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.emulate.machine.kinds import Kind

__all__ = ["MIRROR", "Package", "fetch", "mirror_of_this_machine"]

MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_UPDATE_TIMEOUT_S = 180.0
_DOWNLOAD_TIMEOUT_S = 1800.0
_LIMIT = 4 * 1024**3
"""Bytes; an archive that asks for more than this for a hundred packages is not Debian's."""

_LINE = re.compile(r"^'(\S+)' ([A-Za-z0-9][A-Za-z0-9.+~%_-]*\.deb) (\d+) SHA256:([0-9a-f]{64})$")
_REACHING = re.compile(r'Acquire::(https?::[\w:.-]+|ForceIPv[46]|Retries|Queue-Mode) "[^"\n]*";$')
_SOURCES = "/etc/apt/sources.list"
_SOURCE = re.compile(r"^(?:deb\b|URIs:).*?(https?://[^\s\]]+/debian)/?(?:\s|$)", re.MULTILINE)


class Package(Value):
    """A package's file. ``size`` in bytes, ``sha256`` in hexadecimal."""

    __slots__ = ("path", "sha256", "size")
    path: str
    sha256: str
    size: int

    def __init__(self, path: str, size: int, sha256: str) -> None:
        self._set(path=path, sha256=sha256, size=size)

    @property
    def name(self) -> str:
        """The package's name."""
        return os.path.basename(self.path).partition("_")[0]


def fetch(kind: Kind, names: Sequence[str], folder: str, mirror: str) -> list[Package]:
    """The packages of those names and all that they need, in ``folder``; what was there from earlier and is not
    needed any more goes.

    Raises :class:`EmulationError` for what apt says, and for a file that is not what the archive lists.
    """
    environment = {"APT_CONFIG": _configure(kind, folder, mirror)}
    apt = need("apt-get", "apt")
    words = [apt, "--quiet=2", "--yes"]
    try:
        call([*words, "update"], f"reading {mirror}", _UPDATE_TIMEOUT_S, environment=environment)
        # With no archives to look at, apt names every file, and not only those that it has not got yet.
        nothing = ["-o", f"Dir::Cache::archives={folder}/none"]
        told = call(
            [*words, *nothing, "--print-uris", "install", *names],
            f"choosing packages for {kind.debian}", _UPDATE_TIMEOUT_S, environment=environment,
        )  # fmt: skip
        packages = listed(told, os.path.join(folder, "archives"))
        _forget_others(folder, packages)
        call(
            [*words, "--download-only", "install", *names],
            f"downloading {len(packages)} packages for {kind.debian}", _DOWNLOAD_TIMEOUT_S, environment=environment,
        )  # fmt: skip
    except EmulationError as error:
        error.hint = error.hint or _hint(str(error), mirror)
        raise
    for package in packages:
        _check(package)
    return packages


def listed(text: str, folder: str) -> list[Package]:
    """The packages of ``apt-get --print-uris``, as files in ``folder``. Raises :class:`EmulationError`."""
    lines = [line for line in text.splitlines() if line.startswith("'")]
    found = []
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            raise EmulationError(f"apt: {line[:200]!r}: expected 'URI' FILE SIZE SHA256:DIGEST")
        found.append(Package(os.path.join(folder, match[2]), int(match[3]), match[4]))
    if not found:
        raise EmulationError("apt chose no packages", hint="nothing was made; try again later")
    if (total := sum(package.size for package in found)) > _LIMIT:
        raise EmulationError(f"the archive wants to send {total} bytes, expected at most {_LIMIT}")
    return found


def mirror_of_this_machine(sources: str = _SOURCES) -> str:
    """Debian's archive where this machine's apt finds it, else :data:`MIRROR`."""
    text = ""
    for path in (sources, *sorted(glob.glob(f"{sources}.d/*.list") + glob.glob(f"{sources}.d/*.sources"))):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text += f"{file.read()}\n"
        except OSError:
            continue  # what apt cannot read here is nothing that it uses
    found = _SOURCE.search(text)
    return found[1] if found else MIRROR


def _configure(kind: Kind, folder: str, mirror: str) -> str:
    """Write apt's settings; returns the file's path."""
    if urlsplit(mirror).scheme not in ("http", "https") or re.search(r"[\s\[\]\"]", mirror):
        raise InputError(f"{mirror!r}: expected the URL of a Debian archive, such as {MIRROR}")
    if not os.path.exists(KEYRING):
        raise EmulationError(f"no {KEYRING} here", hint="apt-get install debian-archive-keyring")
    for part in ("etc/parts", "lists/partial", "archives/partial", "none/partial"):
        os.makedirs(os.path.join(folder, part), exist_ok=True)
    with open(os.path.join(folder, "etc", "sources.list"), "w", encoding="utf-8") as file:
        # The main suite alone: an index of security updates may lack an architecture for days.
        file.write(f"deb [signed-by={KEYRING}] {mirror} {kind.suite} main\n")
    path = os.path.join(folder, "etc", "apt.conf")
    settings = {
        "Acquire::ForceHash": "SHA256",  # else --print-uris tells MD5, for programs of old
        "Acquire::Languages": "none",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "APT::Architecture": kind.debian,
        "APT::Architectures": kind.debian,
        "APT::Install-Recommends": "false",
        "APT::Update::Error-Mode": "any",  # else an archive that does not answer is one that has nothing
        "Dir::Cache": folder,
        "Dir::Cache::archives": f"{folder}/archives",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": f"{folder}/etc/parts",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": f"{folder}/etc/parts",
        "Dir::Etc::sourcelist": f"{folder}/etc/sources.list",
        "Dir::Etc::sourceparts": f"{folder}/etc/parts",
        "Dir::State": folder,
        "Dir::State::lists": f"{folder}/lists",
        "Dir::State::status": "/dev/null",
        "Debug::NoLocking": "true",
    }
    if os.geteuid() == 0:
        # apt's own user may not write below a folder that is root's alone.
        settings["APT::Sandbox::User"] = "root"
    with open(path, "w", encoding="utf-8") as file:
        file.write(_reaching())
        file.writelines(f'{key} "{value}";\n' for key, value in settings.items())
    return path


def _reaching() -> str:
    """How this machine's apt reaches networks: proxies, time-outs, certificates. Nothing of what it trusts."""
    told = call([need("apt-config", "apt"), "dump", "Acquire"], "asking apt for its proxies", 60)
    return "".join(f"{line}\n" for line in told.splitlines() if _REACHING.match(line))


def _forget_others(folder: str, packages: Sequence[Package]) -> None:
    wanted = {package.path for package in packages}
    for path in glob.glob(os.path.join(glob.escape(folder), "archives", "*.deb")):
        if path not in wanted or os.path.getsize(path) not in {p.size for p in packages if p.path == path}:
            os.unlink(path)


def _check(package: Package) -> None:
    """Raises :class:`EmulationError`, and removes the file, unless it is what the archive lists."""
    try:
        with open(package.path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise EmulationError(f"{package.path}: {error.strerror}, though apt ended well") from error
    if (size, found) != (package.size, package.sha256):
        os.unlink(package.path)
        raise EmulationError(
            f"{os.path.basename(package.path)}: {size} bytes with SHA-256 {found}, "
            f"the archive lists {package.size} bytes with {package.sha256}",
            hint="it was removed: the same command downloads it again",
        )


def _hint(said: str, mirror: str) -> str:
    if "NO_PUBKEY" in said or "not signed" in said:
        return "the archive's signature could not be checked: apt-get install debian-archive-keyring, newer than it is"
    if "No space left" in said:
        return "make room, or choose another place with MANYFEST_CACHE"
    return f"check the network, and that {mirror} is a Debian archive (--mirror names another)"
