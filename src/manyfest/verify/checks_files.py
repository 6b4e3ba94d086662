# SPDX-License-Identifier: Apache-2.0
"""Checks of every file of an image: its machine, its loader and libraries, its page size, its permissions.

How bad a finding is depends on who would meet it: what the image starts is an error, a tool along PATH that cannot
run a warning, anything else a note. Code for a wrong machine along PATH is always an error: nobody puts it there on
purpose.
"""

from __future__ import annotations

from manyfest.platforms import Platform
from manyfest.verify.archives import Held, architectures_of, held_in, is_elsewhere
from manyfest.verify.checks import ERROR, NOTE, WARNING, Findings
from manyfest.verify.foreign import Fit, chooses_its_code, is_program_folder, purpose, windows_purpose
from manyfest.verify.siblings import Sibling, Siblings, addon_of, is_of_node, jar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.verify.entry import Start
    from manyfest.verify.facts import Facts
    from manyfest.verify.programs import Programs
    from manyfest.verify.tree import Node

__all__ = ["check_files"]

_KB16, _KB64 = 0x4000, 0x10000
# The largest pages that kernels for this architecture are commonly built with, and what distributions build for.
_PAGES = {
    "arm64": (_KB16, _KB64),
    "ppc64le": (_KB64, _KB64),
    "loong64": (_KB16, _KB64),
    "mips64le": (_KB16, _KB16),
}
_FEW = 3
_FOREIGN_HINT = "compile or download it for the image's platform, or allow it if it is meant to be there"
_WINDOWS_FOLDERS = ("files", "files/app")
_PROGRAMS = ("static", "static-pie", "dynamic")


def check_files(
    programs: Programs, start: Start, layers: Sequence[str], findings: Findings, *, complete: bool = True
) -> dict[str, int]:
    """Look at every file; add to ``findings``. ``layers`` are digests by position; where they are not ``complete``
    nothing is said to be missing. Returns counts for the report."""
    checker = _Checker(programs, start, layers, findings)
    checker.complete = complete
    files = 0
    for path, node in programs.tree.files():
        files += 1
        if node.entry.raw_facts is not None and (facts := node.entry.facts) is not None:
            checker.file(path, node, facts)
    checker.counts["files"] = files
    checker.finish()
    return checker.counts


class _Checker:
    def __init__(self, programs: Programs, start: Start, layers: Sequence[str], findings: Findings) -> None:
        self.programs = programs
        self.findings = findings
        self.layers = layers
        self.complete = True
        self.platform = str(programs.platform)
        self.blamed = {(problem.check, problem.path) for problem in start.problems}
        self.counts = {"files": 0, "programs": 0, "libraries": 0}
        self.foreign: dict[tuple[str, str], list[str]] = {}
        self.strangers: list[tuple[str, Node, str, str]] = []
        self.jars = Siblings()
        self.addons = Siblings()
        self.natives = 0
        self.pages: dict[tuple[int, bool], list[str]] = {}

    def file(self, path: str, node: Node, facts: Facts) -> None:
        """One file that is some kind of program."""
        if facts.kind == "elf":
            self._elf(path, node, facts)
        elif facts.kind == "script":
            self._script(path, node, facts)
        elif facts.kind in ("jar", "wheel") and node.entry.text:
            self._archive(path, node, facts)
        elif facts.kind == "pe" and self.programs.platform.os == "windows":
            self._windows(path, node, facts)
        elif facts.kind in ("pe", "macho") and self.programs.fit.of(facts) == Fit.FOREIGN:
            self._count_foreign(path, facts, purpose(path, facts, is_program=False))
            if is_of_node(path):  # a package for several systems, of which Linux is one
                kinds = {str(each) for each in facts.platforms}
                self.addons.add(addon_of(path), Sibling(path, node, kinds, fits=False))

    def _elf(self, path: str, node: Node, facts: Facts) -> None:
        is_program = facts.linking in _PROGRAMS
        self.counts["programs" if is_program else "libraries"] += 1
        started_from = is_program and is_program_folder(path, self.programs.search)
        if facts.problem:
            self._add("MF207", path, node, f"/{path} is damaged: {facts.problem}", WARNING)
            return
        fit = self.programs.fit.of(facts)
        if fit == Fit.FOREIGN:
            self._foreign(path, node, facts, started_from=started_from and node.is_executable)
        elif fit in (Fit.ARM_LEVEL, Fit.X86_LEVEL):
            self._level(path, node, facts, fit, is_program=is_program)
        elif fit in (Fit.NATIVE, Fit.ARM_PARTS):
            if fit == Fit.ARM_PARTS:
                message = (
                    f"/{path} has parts for linux/arm/v8, and the image is for {self.platform}; it runs if it"
                )
                self._add("MF204", path, node, f"{message} chooses them at run time", NOTE)
            self.natives += is_program
            if is_of_node(path):
                self.addons.add(addon_of(path), Sibling(path, node, set(), fits=True))
            self._pages(path, facts, started_from=started_from)
            if is_program and self.complete:
                self._native(path, node, started_from=started_from)

    def _foreign(self, path: str, node: Node, facts: Facts, *, started_from: bool) -> None:
        is_module = _is_module(path, facts)
        reason = purpose(path, facts, is_program=started_from)
        if "architecture" in reason and is_of_node(path) and not is_elsewhere(path):
            kinds = {str(each) for each in facts.platforms}
            self.addons.add(addon_of(path), Sibling(path, node, kinds, fits=False))
            return
        if is_module and "architecture" in reason and not is_of_node(path) and not self._has_sibling(path):
            reason = ""
        if reason:
            self._count_foreign(path, facts, reason)
            return
        is_for = ", ".join(map(str, facts.platforms))
        message = f"/{path} is for {is_for}, and the image for {self.platform}"
        if is_module:
            self._add(
                "MF208", path, node, message, ERROR, "install it for the image's platform, not the builder's"
            )
            return
        severity = ERROR if facts.linking in _PROGRAMS and node.is_executable else WARNING
        if severity == ERROR:
            self.strangers.append((path, node, message, is_for))
            return
        self._add("MF201", path, node, message, severity, _FOREIGN_HINT)

    def _has_sibling(self, path: str) -> bool:
        """Does the module lie beside others, for other machines, of which the right one is chosen at run time?"""
        folder, _, name = path.rpartition("/")
        stem = name.partition(".")[0]
        for other in self.programs.tree.names(f"/{folder}"):
            node = self.programs.tree.find(f"/{folder}/{other}").file
            theirs = node.entry.facts if node is not None else None
            if other != name and other.partition(".")[0] == stem and theirs is not None:
                return self.programs.fit.of(theirs) == Fit.NATIVE
        return False

    def _count_foreign(self, path: str, facts: Facts, reason: str) -> None:
        is_for = str(facts.platform) if facts.platform is not None else facts.machine
        self.foreign.setdefault((is_for, reason), []).append(path)

    def _level(self, path: str, node: Node, facts: Facts, fit: str, *, is_program: bool) -> None:
        if chooses_its_code(path) and not is_program:
            return
        check = "MF204" if fit == Fit.ARM_LEVEL else "MF205"
        is_for = ", ".join(map(str, facts.platforms))
        message = f"/{path} is for {is_for}, and the image for {self.platform}"
        self._add(check, path, node, message, ERROR if is_program else WARNING)

    def _native(self, path: str, node: Node, *, started_from: bool) -> None:
        if not node.is_executable:
            if (
                started_from
                and node.entry.facts is not None
                and f"/{path.rpartition('/')[0]}" in self.programs.search
                and ("MF303", path) not in self.blamed  # said already, as what the image starts
            ):
                message = f"/{path} is a program without execute permission (mode {node.entry.mode:04o})"
                self._add("MF312", path, node, message, WARNING, "chmod +x")
            return
        verdict = self.programs.judge(self.programs.tree.find(f"/{path}"), f"/{path}")
        for problem in verdict.problems:
            blamed = problem.path
            if problem.check in ("MF204", "MF205", "MF207"):
                continue  # said of the library itself
            severity = WARNING if started_from else NOTE
            self._add(problem.check, blamed, node, problem.message, severity, problem.hint)

    def _script(self, path: str, node: Node, facts: Facts) -> None:
        shebang = facts.shebang
        if shebang is None or not node.is_executable:
            return
        if shebang.crlf:
            message = (
                f"the first line of /{path} ends with a carriage return, so its interpreter is not found"
            )
            self._add("MF308", path, node, message, WARNING, "save it with Unix line ends")
            return
        folder = is_program_folder(path, self.programs.search)
        if not (shebang.interpreter and folder and self.complete):
            return
        if self.programs.tree.find(shebang.interpreter).node is None:
            message = f"/{path} wants {shebang.interpreter}, which is not in the image"
            self._add("MF307", path, node, message, NOTE)

    def _archive(self, path: str, node: Node, facts: Facts) -> None:
        """An archive with native code: for many platforms on purpose, and the image's should be one of them."""
        system = f"{self.programs.platform.os}/"
        held = [
            each for each in held_in(node.entry.text) if any(p.startswith(system) for p in each.platforms)
        ]
        if not held:
            return
        fits = any(self._fits(each) for each in held)
        if self._mislabelled(path, node, held):
            return
        if facts.kind == "jar":
            kinds = {name for each in held_in(node.entry.text) for name in each.platforms}
            self.jars.add(jar_of(path), Sibling(path, node, kinds, fits=fits))
        elif not fits:
            self._wheel(path, node, held)

    def _fits(self, held: Held) -> bool:
        kinds = tuple(Platform.parse(name) for name in held.platforms)
        return self.programs.fit.of_platforms(kinds) not in (Fit.FOREIGN, Fit.SECOND)

    def _mislabelled(self, path: str, node: Node, held: list[Held]) -> bool:
        """Is there code whose name promises the image's architecture and whose content is for another?"""
        here = self.programs.fit.platform.architecture
        for each in held:
            if architectures_of([each.name]) == {here} and not self._fits(each):
                is_for = ", ".join(each.platforms)
                message = f"{each.name} in /{path} is for {is_for}, although its name says {here}"
                self._add("MF209", path, node, message, WARNING, "report it to those who made the archive")
                return True
        return False

    def _wheel(self, path: str, node: Node, held: list[Held]) -> None:
        """A wheel says its platform in its name, so one for another is there on purpose."""
        is_for = ", ".join(sorted({name for each in held for name in each.platforms}))
        said = architectures_of([path.rpartition("/")[2]])
        if said and self.programs.fit.platform.architecture not in said:
            self.foreign.setdefault((is_for, "a wheel for another platform"), []).append(path)
            return
        message = f"/{path} holds {held[0].name} for {is_for}, and the image is for {self.platform}"
        self._add("MF208", path, node, message, WARNING, "build the wheel for the image's platform")

    def _siblings(self) -> None:
        """Jars and addons of which there is one for each platform, and none for this one."""
        here = self.programs.fit.platform.architecture
        system = f"{self.programs.platform.os}/"
        for group, fits in self.jars.groups():
            if not fits:
                kinds = set().union(*(each.kinds for each in group))
                architectures = sorted({kind.split("/")[1] for kind in kinds if kind.startswith(system)})
                more = f" and {len(group) - 1} beside it bring" if len(group) > 1 else " brings"
                message = f"/{group[0].path}{more} native libraries for {', '.join(architectures)}, and none for {here}"
                hint = "use a release of it that supports the platform"
                self._add("MF209", group[0].path, group[0].node, message, _lonely(kinds), hint)
        for group, fits in self.addons.groups():
            foreign = [each for each in group if any(kind.startswith(system) for kind in each.kinds)]
            kinds = set().union(*(each.kinds for each in group))
            if fits or len(kinds) > 1 or not foreign:
                for each in foreign:
                    where = (", ".join(sorted(each.kinds)), "in a folder named after its architecture")
                    self.foreign.setdefault(where, []).append(each.path)
                continue
            is_for = ", ".join(sorted(kinds))
            message = f"/{foreign[0].path} is for {is_for}, and its package has none for {self.platform}"
            hint = "install it for the image's platform (npm install --cpu), not the builder's"
            self._add("MF208", foreign[0].path, foreign[0].node, message, WARNING, hint)

    def _windows(self, path: str, node: Node, facts: Facts) -> None:
        small = path.lower()
        if facts.type == "exec" and facts.platforms:
            self.counts["programs"] += 1
            self.natives += self.programs.fit.of(facts) == Fit.NATIVE
        elif facts.type == "dyn":
            self.counts["libraries"] += 1
        if small.startswith("files/windows/") or self.programs.fit.of(facts) != Fit.FOREIGN:
            return
        folder = small.rpartition("/")[0]
        started_from = folder in _WINDOWS_FOLDERS or f"/{folder}" in self.programs.search
        reason = windows_purpose(path, facts, is_program=started_from)
        if reason:
            self._count_foreign(path, facts, reason)
            return
        is_for = ", ".join(map(str, facts.platforms))
        message = f"/{path} is for {is_for}, and the image for {self.platform}"
        severity = ERROR if small.endswith(".exe") and started_from else WARNING
        self._add("MF201", path, node, message, severity, _FOREIGN_HINT)

    def _pages(self, path: str, facts: Facts, *, started_from: bool) -> None:
        limits = _PAGES.get(self.programs.fit.platform.architecture)
        if limits is None or not facts.page_align_min:
            return
        for limit in limits:
            if facts.page_align_min < limit:
                self.pages.setdefault((limit, started_from), []).append(path)
                return

    def _strangers(self) -> None:
        """Programs of another machine: one by one, or in one sentence when all are."""
        if self.natives or len(self.strangers) <= _FEW:
            for path, node, message, _ in self.strangers:
                self._add("MF201", path, node, message, ERROR, _FOREIGN_HINT)
            return
        path, node, _, _ = min(self.strangers, key=lambda stranger: stranger[0])
        kinds = ", ".join(sorted({is_for for _, _, _, is_for in self.strangers}))
        message = f"none of its {len(self.strangers)} programs is for {self.platform}; they are for {kinds}"
        hint = (
            "build the image for its platform; a last stage with FROM --platform=$BUILDPLATFORM is often why"
        )
        self._add("MF201", path, node, message, ERROR, hint)

    def finish(self) -> None:
        """What is said once for many files."""
        self._strangers()
        self._siblings()
        if self.programs.libraries.is_spent:
            message = "there are too many programs and libraries to follow them all; some were not looked at"
            self.findings.add("MF314", message, platform=self.platform)
        for (is_for, reason), paths in sorted(self.foreign.items()):
            few = ", ".join(f"/{path}" for path in sorted(paths)[:3])
            many = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            message = f"{len(paths)} for {is_for} ({reason}): {few}{many}"
            self.findings.add("MF202", message, NOTE, platform=self.platform, path=f"/{min(paths)}")
        for (limit, started_from), paths in sorted(self.pages.items()):
            few = ", ".join(f"/{path}" for path in sorted(paths)[:3])
            many = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            message = f"kernels with pages of {limit // 1024} kB cannot load {few}{many}"
            hint = f"link with -Wl,-z,max-page-size={limit}"
            first = _PAGES[self.programs.fit.platform.architecture][0]
            severity = WARNING if started_from and limit <= first else NOTE
            path = f"/{min(paths)}"
            self.findings.add("MF206", message, severity, platform=self.platform, path=path, hint=hint)

    def _add(self, check: str, path: str, node: Node, message: str, severity: str, hint: str = "") -> None:
        if (check, path) in self.blamed:
            return
        self.blamed.add((check, path))
        layer = self.layers[node.layer] if 0 <= node.layer < len(self.layers) else ""
        self.findings.add(
            check, message, severity, platform=self.platform, path=f"/{path}", layer=layer, hint=hint
        )


def _lonely(kinds: set[str]) -> str:
    """How bad it is that none fits. What is for several was made so, and mostly has a way without; what is for one
    platform was made on another machine."""
    return NOTE if len(kinds) > 1 else WARNING


def _is_module(path: str, facts: Facts) -> bool:
    """A Python extension or a Node addon?"""
    if path.endswith(".node"):
        return True
    if facts.linking != "shared" or not path.endswith(".so"):
        return False
    name = path.rpartition("/")[2]
    return ".cpython-" in name or ".abi3." in name or "/site-packages/" in path or "/dist-packages/" in path
