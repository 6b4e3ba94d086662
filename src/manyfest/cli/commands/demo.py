# SPDX-License-Identifier: Apache-2.0
"""``manyfest demo``: the whole way on this machine, with nothing else running.

Every ``manyfest`` line that is shown is run, in this process, through :func:`manyfest.cli.main.main`; what stands
below it is what it printed. All of it happens in one folder, drafts included, and on a registry of our own on a
free loopback port. ``docs/tutorial/first-steps.md`` walks through the same steps by hand.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import resource
import shlex
import shutil
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from manyfest.emulate.images import program_image, read_program
from manyfest.emulate.run import run as run_program
from manyfest.errors import EmulationError, Error, InputError, VerificationFailed
from manyfest.platforms import Platform
from manyfest.stores.base import load
from manyfest.stores.layout import Layout

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "the whole way on this machine, nothing else running"
EXAMPLES = """
manyfest demo
manyfest demo --keep tour
manyfest demo --app examples/qcon --serve
manyfest demo --json
"""

# The tag of each image, and what is in it.
IMAGES = {
    "amd64": "linux/amd64",
    "386": "linux/386",
    "arm64": "linux/arm64",
    "armhf": "linux/arm/v7",
    "armv6": "linux/arm/v6",
    "ppc64le": "linux/ppc64le",
    "s390x": "linux/s390x",
    "riscv64": "linux/riscv64",
}
# Many real images for armhf say only "arm" in their config; so does ours, and annotate has something to do.
CLAIMS = {"armhf": Platform("linux", "arm")}

LINE = 96
"""Characters of a command line before it goes on in the next."""

ENGINE_TIMEOUT_S = 10.0
ENGINE_RUNS = 3
PODMAN_FILES = 2**20
"""Open files that Podman lets containers have, unless it is told otherwise."""

"""How many platforms are tried in an engine: each costs about half a second."""


def configure(parser: CommandParser) -> None:
    """Names and options."""
    parser.description = (
        "Start a registry on a free port, make images for eight architectures, ship them under one name, inspect and "
        "resolve it, copy it to a folder and back, and run what this machine can run: natively, under QEMU, or in "
        "docker or podman. Every command is shown with what it prints. Works in a temporary folder and removes it. "
        "With --app also build an application from source for all its platforms, and see which of them answers."
    )
    parser.add_argument(
        "--keep", metavar="DIR", default="", help="work in this folder, new or empty, and keep it"
    )
    parser.add_argument(
        "--app", metavar="DIR", default="",
        help="also build this application, examples/qcon of a clone: needs Go, and minutes the first time",
    )  # fmt: skip
    parser.add_argument(
        "--serve", action="store_true", help="at the end leave the application and the registry running"
    )
    parser.add_argument("--no-engine", action="store_true", help="do not run the images in docker or podman")


def run(args: argparse.Namespace, console: Console) -> int:
    """Make, ship, inspect and run. Returns 0, or raises what says which step failed."""
    from manyfest.cli.demoapp import AppTour, checked, wait

    started = time.monotonic()
    project = checked(args.app) if args.app else None
    app = None
    with _folder(args.keep) as folder, _inside(folder), _registry(folder) as host:
        tour = Tour(console, host)
        tour.make_images()
        tour.ship()
        tour.ship_again()
        tour.look()
        tour.prove()
        tour.travel()
        tour.run_programs()
        if not args.no_engine:
            tour.run_in_engine()
        if project is not None:
            app = AppTour(tour, project)
            if app.build():
                app.answer(serve=args.serve)
        if args.serve and (app is None or app.summary["skipped"]):
            tour.chapter("Still running")
            wait(tour, f"The registry at {host}, with hello:1.0 in it.")
    kept = os.path.abspath(args.keep) if args.keep else ""
    tour.end(time.monotonic() - started, kept, app.summary if app is not None else None)
    return 0


class Tour:
    """The steps in order, what they printed, and what the summary of ``--json`` needs."""

    def __init__(self, console: Console, host: str) -> None:
        self.console = console
        self.host = host
        self.target = f"{host}/hello:1.0"
        self.digest = ""
        self.steps: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self._chapters = 0

    # --- the steps ---

    def make_images(self) -> None:
        """One image for each architecture, in a folder, then in the registry."""
        self.chapter(
            "Images for eight architectures",
            "Each holds one static program of about 200 bytes that prints its platform. They were written into the",
            "folder ./images (an OCI layout); now each goes to a registry that listens for this demo only.",
        )
        with Layout.create("images", durable=False) as layout:
            for tag, name in IMAGES.items():
                layout.tag(program_image(layout, Platform.parse(name), claims=CLAIMS.get(tag)), tag)
        for tag in IMAGES:
            self.command("copy", f"oci:images:{tag}", self.image(tag))

    def ship(self) -> None:
        """Create, annotate, push."""
        self.chapter(
            "One name for all of them",
            "The armhf image says only that it is for arm, so the list has to say which one.",
        )
        self.command("create", self.target, *(self.image(tag) for tag in IMAGES))
        self.command(
            "annotate", self.target, self.image("armhf"), "--os", "linux", "--arch", "arm", "--variant", "v7"
        )
        self.digest = _last_line(self.command("push", self.target))

    def ship_again(self) -> None:
        """The same list from a file."""
        self.chapter(
            "The same from a file", "A list is a file that can be committed. This one is ./hello.yaml:"
        )
        text = self.spec()
        with open("hello.yaml", "w", encoding="utf-8") as file:
            file.write(text)
        self.show(text)
        again = _last_line(self.command("push", "-f", "hello.yaml"))
        self.expect("the digest of the list from the file", again, self.digest)
        self.tell("The same platforms in the same order: the same digest.")

    def look(self) -> None:
        """Inspect, and resolve each platform."""
        self.chapter("What is behind the name")
        self.command("inspect", self.target)
        self.tell("What an engine on each machine would pull:")
        for name in IMAGES.values():
            self.command("resolve", self.target, "--platform", name)

    def prove(self) -> None:
        """Look inside every platform."""
        self.chapter(
            "Is inside what the labels say?", "verify reads every platform's programs, and runs none of them."
        )
        self.command("verify", "--no-cache", self.target)

    def travel(self) -> None:
        """To a folder and back into another repository."""
        self.chapter("To a folder and back", "Copies keep every byte, so the digest stays the same.")
        back = f"{self.host}/back:1.0"
        self.command("copy", self.target, "oci:shelf:1.0")
        self.command("copy", "oci:shelf:1.0", back)
        raw = self.command("inspect", "--raw", back, pipe="sha256sum")
        self.expect(
            "the digest of the copy", f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}", self.digest
        )

    def run_programs(self) -> None:
        """Take the program out of every image of the copy and run it, natively or emulated."""
        self.chapter(
            "Does each do what it says?", "The programs from the copy in ./shelf, run by this machine:"
        )
        os.mkdir("programs")
        with Layout("shelf") as layout:
            for entry in layout.resolve("1.0").index.manifests:
                platform = entry.platform
                if platform is not None:
                    self.run_one(platform, read_program(layout, load(layout, entry).manifest))
        if not all(run["ok"] for run in self.runs):
            self.tell("With qemu-user-static (apt-get install qemu-user-static) the others run too.")

    def run_one(self, platform: Platform, content: bytes) -> None:
        """Run one program and hold what it prints against its platform."""
        path = os.path.join("programs", str(platform).replace("/", "-"))
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o700)
        try:
            outcome = run_program(path, platform)
        except EmulationError as error:
            self.runs.append({"platform": str(platform), "how": "", "output": "", "ok": None})
            self.tell(f"{platform!s:<15} not run: {error}")
            return
        output = outcome.output.decode("utf-8", "replace").strip()
        self.runs.append({"platform": str(platform), "how": outcome.how, "output": output, "ok": True})
        self.expect(f"what the image for {platform} prints", output, str(platform))
        self.tell(f"{platform!s:<15} {outcome.how:<20} prints {output}")

    def run_in_engine(self) -> None:
        """Run some platforms of the one name in docker or podman, if one answers."""
        engine = _engine()
        able = [run["platform"] for run in self.runs if run["how"] in ("native", "binfmt_misc")]
        if engine is None or not able:
            return
        self.chapter(f"In {engine}", "One name; the engine picks the image of the platform it is asked for.")
        own = ["--tls-verify=false", *_limits()] if engine == "podman" else []
        for platform in able[:ENGINE_RUNS]:
            words = [engine, "run", "--rm", "--pull=always", *own, "--platform", platform, self.target]
            try:
                self.runs.append(self.foreign(words, platform))
            finally:
                # At once, while the tag still names this platform's image: nothing of the demo stays in the engine.
                _call([engine, "image", "rm", "--force", self.target])

    def end(self, seconds: float, kept: str, app: dict[str, Any] | None = None) -> None:
        """The summary, and what to try next."""
        platforms = list(IMAGES.values())
        summary = {
            "name": self.target,
            "digest": self.digest,
            "platforms": platforms,
            "steps": self.steps,
            "runs": self.runs,
            "app": app,
            "kept": kept,
            "seconds": round(seconds, 3),
        }
        if self.console.json:
            self.console.document(summary)
            return
        ran = len({run["platform"] for run in self.runs if run["ok"]})
        self.chapter(
            f"Done: {len(self.steps)} commands in {seconds:.1f} s",
            f"{len(platforms)} platforms under one name, {ran} of them run here.",
            f"All of it is in {kept}. Try next:" if kept else "Everything was removed again. Try next:",
        )
        self.show("\n".join(_next(kept)))
        if self.console.quiet:
            self.console.print(self.digest)

    # --- telling ---

    def image(self, tag: str) -> str:
        """The name of one architecture's image."""
        return f"{self.host}/hello:{tag}"

    def spec(self) -> str:
        """The list as manifest-tool's YAML."""
        lines = [f"image: {self.target}", "manifests:"]
        for tag, name in IMAGES.items():
            lines.append(f"  - image: {self.image(tag)}")
            if tag in CLAIMS:
                lines.append(f"    platform: {name}")
        return "\n".join(lines) + "\n"

    def command(self, *argv: str, pipe: str = "", live: bool = False) -> str:
        """Show a command line, run it, show what it printed and return its standard output.

        ``pipe`` names the command that a person would pipe it into; then only its shape is shown. ``live`` shows
        messages as they come, for what takes long. Raises
        :class:`~manyfest.errors.Error` when it fails.
        """
        line = shlex.join(["manyfest", *argv])
        self.prompt(["manyfest", *argv], f" | {pipe}" if pipe else "")
        started = time.monotonic()
        code, out, err = _in_process(argv, self.progress) if live else _in_process(argv)
        self.steps.append(
            {"command": line, "exit_code": code, "seconds": round(time.monotonic() - started, 3)}
        )
        shown = f"{hashlib.sha256(out.encode()).hexdigest()}  -" if pipe else out
        told = "" if live else err.rstrip("\n")
        self.show("\n".join(text for text in (told, shown.rstrip("\n")) if text))
        if code:
            if self.console.json or self.console.quiet:
                self.console.tell(err.rstrip("\n"))
            raise Error(f"the demo stopped: exit code {code} from {line}")
        return out

    def foreign(self, words: list[str], platform: str) -> dict[str, Any]:
        """Run an engine's command; a failure is told and counted as not run, for engines have their own reasons."""
        self.prompt(words)
        code, out, err = _call(words)
        output = out.strip()
        if code:
            reason = (err.strip().splitlines() or [f"exit code {code}"])[-1]
            self.show(f"could not: {reason}")
            return {"platform": platform, "how": words[0], "output": output, "ok": None}
        self.show(output)
        self.expect(f"what {words[0]} ran for {platform}", output, platform)
        return {"platform": platform, "how": words[0], "output": output, "ok": True}

    def prompt(self, words: list[str], tail: str = "") -> None:
        """A command line as a person would type it, long ones over several lines."""
        lines = [""]
        for word in map(shlex.quote, words):
            if len(lines[-1]) + len(word) > LINE:
                lines.append("   ")
            lines[-1] += f" {word}" if lines[-1] else word
        self.show("$ " + " \\\n".join(lines) + tail, indent="")

    def expect(self, what: str, got: str, wanted: str) -> None:
        """Raises :class:`~manyfest.errors.VerificationFailed` unless the two are equal."""
        if got != wanted:
            raise VerificationFailed(f"{what}: expected {wanted}, got {got}")

    def chapter(self, title: str, *lines: str) -> None:
        """A heading with a few words."""
        self._chapters += 1
        self.show(f"\n{self._chapters}. {title}", indent="")
        for line in lines:
            self.tell(line)

    def progress(self, line: str) -> None:
        """A line of what takes long: part of the narration, or where there is none a message."""
        if self.console.json:
            self.console.say(line)
        else:
            self.show(line)

    def tell(self, text: str) -> None:
        """A line of the narration."""
        self.show(text, indent="   ")

    def show(self, text: str, indent: str = "  ") -> None:
        """Lines on standard output, at once; not under ``--json`` and ``--quiet``."""
        if self.console.json or self.console.quiet:
            return
        for line in text.splitlines():
            self.console.print(f"{indent}{line}".rstrip())
        self.console.flush()


@contextlib.contextmanager
def _folder(keep: str) -> Iterator[str]:
    """A folder to work in: the one to keep, or a temporary one that is removed however this ends."""
    if not keep:
        with tempfile.TemporaryDirectory(prefix="manyfest-demo-") as folder:
            yield folder
        return
    try:
        os.makedirs(keep, exist_ok=True)
        if os.listdir(keep):
            raise InputError(f"--keep {keep}: the folder is not empty", hint="name a new one")
    except OSError as error:
        raise InputError(
            f"--keep {keep}: {error.strerror}", hint="name a new folder, or an empty one"
        ) from error
    yield os.path.abspath(keep)


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    """Short paths in the commands, and drafts that are not the user's."""
    before, data = os.getcwd(), os.environ.get("MANYFEST_DATA")
    os.chdir(folder)
    os.environ["MANYFEST_DATA"] = os.path.join(folder, "data")
    try:
        yield
    finally:
        os.chdir(before)
        if data is None:
            del os.environ["MANYFEST_DATA"]
        else:
            os.environ["MANYFEST_DATA"] = data


@contextlib.contextmanager
def _registry(folder: str) -> Iterator[str]:
    """The embedded registry on a free port; gives its host and port."""
    from manyfest.serve.http import Server
    from manyfest.serve.registry import RegistryApp

    with Server(RegistryApp(os.path.join(folder, "registry"))) as server:
        yield f"127.0.0.1:{server.port}"


class _Lines(io.StringIO):
    """Gives each line to somebody as soon as it is whole, and keeps all of them."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self._on_line = on_line
        self._begun = ""

    def write(self, text: str, /) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._on_line(line)
        return super().write(text)


def _in_process(argv: tuple[str, ...], on_line: Callable[[str], None] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one of our own commands; error's lines also as they come."""
    from manyfest.cli.main import main

    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.StringIO() if on_line is None else _Lines(on_line)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    if code == 130:
        raise KeyboardInterrupt  # it was ours to obey; main had taken it for its own
    out.seek(0)
    return code, out.read(), err.getvalue()


def _engine() -> str | None:
    """Docker or Podman, whichever answers first."""
    for name, question in (("docker", "{{.Server.Version}}"), ("podman", "{{.Client.Version}}")):
        if shutil.which(name) and _call([name, "version", "--format", question])[0] == 0:
            return name
    return None


def _limits() -> list[str]:
    """Options without which Podman asks for more open files than it may have here."""
    from manyfest.engines.containers import own_limits

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return [] if hard == resource.RLIM_INFINITY or hard >= PODMAN_FILES else own_limits()


def _call(words: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of another program; 124 when it took too long."""
    try:
        done = subprocess.run(
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ENGINE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {ENGINE_TIMEOUT_S:g} s"
    except OSError as error:
        return 126, "", f"{words[0]}: {error.strerror}"
    return done.returncode, done.stdout, done.stderr


def _last_line(text: str) -> str:
    return text.rstrip("\n").rpartition("\n")[2]


def _next(kept: str) -> list[str]:
    """Commands that work as they stand."""
    if not kept:
        return [
            "manyfest demo --app examples/qcon --serve   # in a clone, with Go: an application from source, to look at",
            "manyfest demo --keep tour        # the same, and the images, the registry's folder and the list stay",
            "manyfest inspect debian:stable   # the platforms behind any name",
            "manyfest help                    # every command",
        ]
    folder = shlex.quote(kept)
    return [
        f"manyfest inspect oci:{folder}/shelf:1.0",
        f"manyfest registry {folder}/registry",
        f"manyfest create localhost:5000/hello:mine oci:{folder}/images:amd64 oci:{folder}/images:s390x --push",
        "manyfest help",
    ]
