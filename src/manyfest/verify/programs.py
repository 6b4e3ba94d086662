# SPDX-License-Identifier: Apache-2.0
"""What the kernel and the loader would make of a program: script, interpreter, machine, loader, libraries, versions.

:meth:`Programs.judge` follows one program down that chain and says where it breaks: the check, a sentence, and what
``docker run`` would say. It does not say how bad that is; a broken entrypoint and a broken tool nobody calls differ.
"""

from __future__ import annotations

from manyfest.verify.foreign import Fit, chooses_its_code
from manyfest.verify.libraries import Closure, Libraries
from manyfest.verify.tree import MAX_LINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.platforms import Platform
    from manyfest.verify.facts import Facts, Shebang
    from manyfest.verify.libraries import Lack
    from manyfest.verify.tree import Found, Node, Tree

__all__ = ["DEFAULT_PATH", "Problem", "Programs", "Verdict"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What engines set when the image says nothing."""

MAX_SCRIPTS = 5
"""How many interpreters deep Linux goes."""

_LACKS = 3


class Problem:
    """``check`` is its id, ``path`` the file to blame (real, no slash in front), ``says`` what the engine says."""

    __slots__ = ("check", "hint", "message", "path", "says", "severity")

    def __init__(
        self, check: str, path: str, message: str, says: str = "", hint: str = "", severity: str = ""
    ) -> None:
        self.check = check
        self.path = path
        self.message = message
        self.says = says
        self.hint = hint
        self.severity = severity


class Verdict:
    """``chain`` tells the way in words, ``problems`` where it breaks; ``second`` is whether it runs only on those
    processors of the platform that also run its older code."""

    def __init__(self) -> None:
        self.chain: list[str] = []
        self.problems: list[Problem] = []
        self.second = False

    def fail(self, check: str, path: str, message: str, says: str = "", hint: str = "") -> None:
        """Note a break."""
        self.problems.append(Problem(check, path, message, says, hint))


class Programs:
    """The programs of one image for one platform."""

    def __init__(self, tree: Tree, platform: Platform, environment: dict[str, str]) -> None:
        self.tree = tree
        self.platform = platform
        self.fit = Fit(platform)
        self.search = tuple(
            part for part in environment.get("PATH", DEFAULT_PATH).split(":") if part.startswith("/")
        )
        if platform.os == "windows":
            self.search = _windows_search(environment)
        self.libraries = Libraries(tree, environment.get("LD_LIBRARY_PATH", ""))

    def look_up(self, name: str) -> Found | None:
        """A bare name along PATH: the first that may be executed."""
        for folder in self.search:
            found = self.tree.find(f"{folder}/{name}")
            if found.file is not None and found.file.is_executable:
                return found
        return None

    def judge(self, found: Found, name: str) -> Verdict:
        """Follow a file that is there; ``name`` is what it was called by."""
        verdict = Verdict()
        self._judge(found, name, verdict, 0)
        return verdict

    def _judge(self, found: Found, name: str, verdict: Verdict, depth: int) -> None:
        node = found.file
        if node is None:
            return
        facts = node.entry.facts
        verdict.chain += [str(link) for link in found.links]
        verdict.chain.append(_shown(found.path, facts))
        if facts is None or facts.kind in ("class", "jar", "wheel", "ar", "other"):
            self._no_format(found, node, name, verdict, depth)
        elif facts.kind == "script":
            self._script(found, facts, name, verdict, depth)
        else:
            self._binary(found, facts, name, verdict)

    def _no_format(self, found: Found, node: Node, name: str, verdict: Verdict, depth: int) -> None:
        kind = (
            "is empty"
            if not node.entry.size
            else "is neither a binary nor a script with #! in its first line"
        )
        message = f"/{found.path} {kind}"
        if depth:
            message = f"the interpreter {message}"
        verdict.fail("MF309", found.path, message, f"exec {name}: exec format error", _format_hint(node))

    def _script(self, found: Found, facts: Facts, name: str, verdict: Verdict, depth: int) -> None:
        shebang = facts.shebang
        if shebang is None:
            return
        if depth >= MAX_SCRIPTS:
            message = f"/{found.path} is interpreted by a script that is interpreted by a script, and so on"
            verdict.fail("MF310", found.path, message, f"exec {name}: too many levels of symbolic links")
            return
        if shebang.crlf:
            message = (
                f"the first line of /{found.path} ends with a carriage return, so {shebang.interpreter!r} is "
            )
            message += "looked for with one at its end"
            hint = "save it with Unix line ends: sed -i 's/\\r$//' FILE, or a .gitattributes with eol=lf"
            verdict.fail("MF308", found.path, message, f"exec {name}: no such file or directory", hint)
            return
        if facts.problem or not shebang.interpreter:
            message = (
                f"the first line of /{found.path} names no interpreter: {facts.problem or 'nothing after #!'}"
            )
            verdict.fail("MF309", found.path, message, f"exec {name}: exec format error")
            return
        self._interpreter(found, shebang, name, verdict, depth)

    def _interpreter(self, found: Found, shebang: Shebang, name: str, verdict: Verdict, depth: int) -> None:
        interpreter = self.tree.find(shebang.interpreter)
        if interpreter.file is None:
            message = f"/{found.path} wants {shebang.interpreter}, {_why(interpreter)}"
            hint = f"install what brings {shebang.interpreter}, or change the first line"
            verdict.fail("MF307", found.path, message, f"exec {name}: no such file or directory", hint)
            return
        if not interpreter.file.is_executable:
            message = f"/{found.path} wants {shebang.interpreter}, which may not be executed"
            verdict.fail("MF303", interpreter.path, message, f"exec {name}: permission denied")
            return
        self._judge(interpreter, name, verdict, depth + 1)
        program = shebang.program
        if program == shebang.interpreter or verdict.problems or program.startswith("/"):
            return
        asked = self.look_up(program)
        if asked is None:
            message = f"/{found.path} runs {program} through env, and no folder of PATH has it"
            says = f"{shebang.interpreter.rpartition('/')[2]}: {program!r}: No such file or directory"
            verdict.fail("MF307", found.path, message, says, f"install {program}, or fix PATH")
            return
        self._judge(asked, name, verdict, depth + 1)

    def _binary(self, found: Found, facts: Facts, name: str, verdict: Verdict) -> None:
        self._machine(found, facts, name, verdict)
        if verdict.problems or facts.kind != "elf":
            return
        if facts.type == "rel" or (facts.linking == "shared" and not facts.interpreter and not facts.needed):
            if facts.type == "rel":
                message = f"/{found.path} is an object file, not a program"
                verdict.fail("MF309", found.path, message, f"exec {name}: exec format error")
            return
        loader = ""
        if facts.interpreter:
            loader = self._loader(found, facts, name, verdict)
            if not loader:
                return
        if facts.needed:
            self._libraries(found, facts, loader, verdict)

    def _machine(self, found: Found, facts: Facts, name: str, verdict: Verdict) -> None:
        if facts.problem:
            message = f"/{found.path} is damaged: {facts.problem}"
            verdict.fail("MF207", found.path, message, f"exec {name}: exec format error")
            return
        fit = self.fit.of(facts)
        if fit in (Fit.NATIVE, Fit.ARM_PARTS):
            return
        if fit == Fit.SECOND:
            verdict.second = True
            return
        says = f"exec {name}: exec format error"
        is_for = ", ".join(map(str, facts.platforms)) or facts.machine or "no machine that engines know"
        message = f"/{found.path} is for {is_for}, and the image for {self.platform}"
        if fit == Fit.ARM_LEVEL:
            hint = "compile for the older level (GOARM, -march=armv6), or say the higher one in the image's platform"
            verdict.fail("MF204", found.path, message, "exit code 132 or 139 (illegal instruction)", hint)
        elif fit == Fit.X86_LEVEL:
            hint = "compile for x86-64 (GOAMD64=v1), or publish it under the variant it needs"
            says = "CPU ISA level is lower than required"
            verdict.fail("MF205", found.path, message, says, hint)
        else:
            hint = "compile for the image's platform; an emulator, where one is set up, hides the mistake"
            verdict.fail("MF201", found.path, message, says, hint)

    def _loader(self, found: Found, facts: Facts, name: str, verdict: Verdict) -> str:
        loader = self.tree.find(facts.interpreter)
        if loader.file is None:
            message = f"/{found.path} needs the loader {facts.interpreter}, {_why(loader)}"
            said = f"exec {name}: no such file or directory"
            verdict.fail("MF304", found.path, message, said, _loader_hint(self.tree, facts.interpreter))
            return ""
        other = loader.file.entry.facts
        if other is None or (other.elf_class, other.machine_code) != (facts.elf_class, facts.machine_code):
            message = f"the loader {facts.interpreter} of /{found.path} is for another machine"
            verdict.fail("MF201", loader.path, message, f"exec {name}: exec format error")
            return ""
        if not loader.file.is_executable:
            message = f"the loader {facts.interpreter} of /{found.path} may not be executed"
            verdict.fail("MF303", loader.path, message, f"exec {name}: permission denied")
            return ""
        verdict.chain += [str(link) for link in loader.links]
        verdict.chain.append(_shown(loader.path, other))
        return loader.path

    def _libraries(self, found: Found, facts: Facts, loader: str, verdict: Verdict) -> None:
        closure = self.libraries.closure(found.path, facts, loader)
        names = [loaded.path.rpartition("/")[2] for loaded in closure.objects[1:]]
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            verdict.chain.append(f"libraries {', '.join(names[:8])}{more}")
        self._levels(closure, verdict)
        for kind, check in (("library", "MF305"), ("version", "MF306"), ("cache", "MF313")):
            lacks = [lack for lack in closure.lacks if lack.kind == kind]
            if lacks:
                verdict.problems.append(_lacking(check, found.path, lacks))

    def _levels(self, closure: Closure, verdict: Verdict) -> None:
        """A library may ask for a newer processor than the program does."""
        for loaded in closure.objects[1:]:
            fit = self.fit.of(loaded.facts)
            if fit not in (Fit.ARM_LEVEL, Fit.X86_LEVEL) or chooses_its_code(loaded.path):
                continue
            needs = ", ".join(map(str, loaded.facts.platforms))
            message = (
                f"/{loaded.path}, which /{closure.objects[0].path} loads, is for {needs}, and the image for "
            )
            message += str(self.platform)
            check = "MF204" if fit == Fit.ARM_LEVEL else "MF205"
            verdict.fail(check, loaded.path, message, "it may die of an illegal instruction")
            return


def _windows_search(environment: dict[str, str]) -> tuple[str, ...]:
    """The folders of PATH as layers have them, in small letters."""
    found = next((value for name, value in environment.items() if name.upper() == "PATH"), "")
    parts = (part.strip(' "').lower().replace("\\", "/").rstrip("/") for part in found.split(";"))
    return tuple(f"/files{part[2:]}" for part in parts if part.startswith("c:/"))


def _lacking(check: str, path: str, lacks: list[Lack]) -> Problem:
    first = lacks[0]
    more = f" (and {len(lacks) - _LACKS} more)" if len(lacks) > _LACKS else ""
    shown = ", ".join(dict.fromkeys(lack.name for lack in lacks[:_LACKS])) + more
    asks = f"/{path}" if first.by == path else f"/{first.by}, which /{path} loads,"
    if check == "MF305":
        wrong = first.detail if first.detail.startswith("/") else ""
        message = f"{asks} needs {shown}, {'but ' + wrong if wrong else 'which is nowhere its loader looks'}"
        says = f"error while loading shared libraries: {first.name}: cannot open shared object file"
        hint = "install the package that has it, for this platform" + ("" if wrong else f" ({first.detail})")
        return Problem(check, path, message, says, hint)
    if check == "MF306":
        message = f"{asks} was linked against a newer {shown}: {first.detail}"
        says = f"{first.name}: version `{first.detail.rpartition('no ')[2].partition(',')[0]}' not found"
        return Problem(check, path, message, says, "use a newer base image, or compile against an older one")
    message = f"{asks} needs {shown} in /{first.detail.rpartition('/')[0]}, which is searched only through "
    message += "/etc/ld.so.cache, and that is not there"
    says = f"error while loading shared libraries: {first.name}: cannot open shared object file"
    return Problem(check, path, message, says, "run ldconfig in the image after the libraries are in place")


def _why(found: Found) -> str:
    if found.node is not None:
        return "which is a directory" if found.node.is_directory else "which is no regular file"
    shown = {
        "loop": "whose links lead in a circle",
        "too many links": f"which is behind more than {MAX_LINKS} links",
        "not a directory": f"but /{found.path} is in no directory",
    }
    if found.why in shown:
        return shown[found.why]
    if found.links:
        return f"a link ({found.links[-1]}) that leads nowhere: /{found.path} is not in the image"
    return "which is not in the image"


def _loader_hint(tree: Tree, loader: str) -> str:
    musl = any(name.startswith("ld-musl-") for name in tree.names("/lib"))
    if musl and "musl" not in loader:
        return "the image has musl and the program needs glibc: link it statically, against musl, or use another base"
    if "ld-musl" in loader:
        return "the program needs musl: link it statically, or against the image's own libc"
    return "the image lacks the C library for this program: link it statically (CGO_ENABLED=0), or use a base with it"


def _format_hint(node: Node) -> str:
    return "add #!/bin/sh (or what it is written in) as its first line" if node.entry.size else ""


def _shown(path: str, facts: Facts | None) -> str:
    if facts is None:
        return f"/{path}"
    if facts.kind == "script" and facts.shebang is not None:
        return f"/{path} (script for {facts.shebang.interpreter})"
    words = [str(facts.platform) if facts.platform is not None else facts.machine or facts.kind]
    if facts.linking in ("static", "static-pie"):
        words.append("static")
    if facts.go:
        words.append(f"{facts.go}" if facts.go != "go" else "Go")
    return f"/{path} ({', '.join(words)})"
