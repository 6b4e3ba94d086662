# SPDX-License-Identifier: Apache-2.0
"""Go and C sources: files that exist for one architecture only, headers of one architecture without a guard.

Go's rules are https://pkg.go.dev/cmd/go#hdr-Build_constraints.
"""

from __future__ import annotations

import os
import re

from manyfest.build.lint.finding import RULES, Finding
from manyfest.build.lint.words import lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["inspect_c", "inspect_go"]

_GO_ARCHES = (
    *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle"),
    *("ppc64", "ppc64le", "riscv64", "s390x", "wasm"),
)
_GO_FILE = re.compile(rf"^(?P<stem>.+)_(?P<arch>{'|'.join(_GO_ARCHES)})\.go$")
_DECLARED = re.compile(r"^(?:func|var|const|type)\s+(?:\([^)]*\)\s*)?(\w+)", re.MULTILINE)
_INTRINSICS = re.compile(
    r"^\s*#\s*include\s*[<\"]((?:[a-z]*mmintrin|x86intrin|cpuid|arm_neon|arm_sve|altivec|vecintrin)\.h)[>\"]"
)
_GUARD = re.compile(
    r"__x86_64|__i386|__SSE|__AVX|_M_X64|_M_IX86|__ARM|__arm|__aarch64|__ALTIVEC|__VEC__|__s390|__has_include"
)


def inspect_go(files: Mapping[str, str]) -> Iterator[Finding]:
    """Findings in the Go files of one folder (path → text): files for one architecture whose names no other has."""
    for path, text in files.items():
        arch = _only_for(path, text)
        if not arch or path.endswith("_test.go"):
            continue
        others = {name for other, body in files.items() if other != path for name in _DECLARED.findall(body)}
        lonely = [
            name for name in _DECLARED.findall(text) if name not in others and name not in ("init", "_")
        ]
        used = [name for name in lonely if _is_used(name, path, files)]
        if used:
            names = ", ".join(used[:3]) + (" and more" if len(used) > 3 else "")
            yield Finding(
                RULES["go-file-without-counterpart"],
                path,
                1,
                f"{names} exist on {arch} only, and files for every architecture use them",
                f"//go:build !{arch}    (in a new file beside it, with a portable version)",
            )


def inspect_c(path: str, text: str) -> Iterator[Finding]:
    """Headers of one architecture's instructions that no ``#if`` guards."""
    depth_guarded: list[bool] = []
    for number, line in enumerate(lines_of(text), 1):
        directive = re.match(r"\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b(.*)", line)
        if directive is not None:
            _step(depth_guarded, directive[1], directive[2])
            continue
        match = _INTRINSICS.match(line)
        if match is not None and not any(depth_guarded):
            guard = "__ARM_NEON" if match[1].startswith("arm_") else "__x86_64__"
            yield Finding(
                RULES["unguarded-intrinsics"],
                path,
                number,
                f"{match[1]} is included on every architecture",
                f"#ifdef {guard}\n{line}\n#endif",
            )


def _step(guarded: list[bool], word: str, condition: str) -> None:
    if word in ("if", "ifdef", "ifndef"):
        guarded.append(bool(_GUARD.search(condition)))
    elif word == "endif" and guarded:
        guarded.pop()
    elif word == "elif" and guarded:
        guarded[-1] = guarded[-1] or bool(_GUARD.search(condition))


def _only_for(path: str, text: str) -> str:
    named = _GO_FILE.match(os.path.basename(path))
    if named is not None:
        return named["arch"]
    head = text.partition("\npackage ")[0]
    constraint = re.search(r"^//go:build\s+(.+)$", head, re.MULTILINE)
    if constraint is None:
        return ""
    words = re.findall(r"!?\w+", constraint[1])
    arches = [word for word in words if word.lstrip("!") in _GO_ARCHES]
    return (
        arches[0] if len(arches) == 1 and not arches[0].startswith("!") and "||" not in constraint[1] else ""
    )


def _is_used(name: str, path: str, files: Mapping[str, str]) -> bool:
    """Does a file that every architecture compiles use the name?"""
    word = re.compile(rf"\b{re.escape(name)}\b")
    return any(
        word.search(body) for other, body in files.items() if other != path and not _only_for(other, body)
    )
