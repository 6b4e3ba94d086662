# SPDX-License-Identifier: Apache-2.0
"""The whole way on one Debian machine: a swarm of an x86_64 and an i686 node, and one name that runs on both.

``make demo-swarm`` as root installs what it needs and runs this. It builds ``examples/qcon``, ships it, looks inside,
deploys it on every node, balances, asks who answers, takes a node out and back, and takes a picture of the dashboard
and of the page. Everything it started is gone at the end, after Ctrl-C and after a failure too; the pictures stay.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.mixed_swarm import CannotBe, Swarm, free_port, mixed_swarm, wait_until  # noqa: E402

EXAMPLE = ROOT / "examples" / "qcon"
PORT = 8082
PLATFORMS = "linux/amd64,linux/386,linux/arm64"
ASKED = 12
CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--timeout=5000"),
)


class Failed(Exception):
    """A step did not work; what it said stands above."""


class Tour:
    """Runs our command as a user does, and shows it."""

    def __init__(self, folder: Path, swarm: Swarm) -> None:
        self.folder, self.swarm = folder, swarm
        # The user's caches help; nothing else of the user's is read or written.
        self._env = {
            **os.environ,
            "DOCKER_HOST": swarm.x86.docker_host,
            "DOCKER_CONFIG": str(folder / "docker"),
        }
        self._env |= {"PYTHONPATH": str(ROOT / "src"), "MANYFEST_DATA": str(folder / "drafts")}

    def say(self, text: str) -> None:
        print(f"\n== {text}", flush=True)

    def manyfest(self, *words: str, ends: int = 0) -> None:
        """To its end, with that exit code."""
        print(f"$ manyfest {shlex.join(words)}", flush=True)
        done = subprocess.run([sys.executable, "-m", "manyfest", *words], check=False, env=self._env)
        if done.returncode != ends:
            raise Failed(f"manyfest {words[0]} ended with exit code {done.returncode}")

    @contextlib.contextmanager
    def running(self, *words: str) -> Iterator[str]:
        """Until the block ends; yields its first line."""
        print(f"$ manyfest {shlex.join(words)} &", flush=True)
        # Ctrl-C is for this program, which then ends what it started, in order.
        process = subprocess.Popen(
            [sys.executable, "-m", "manyfest", *words],
            env=self._env, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            line = process.stdout.readline().strip()
            if not line:
                raise Failed(f"manyfest {words[0]} did not start")
            print(line, flush=True)
            yield line
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()

    def picture(self, url: str, name: str, size: str) -> None:
        """What a browser shows; a machine without one goes on without."""
        if shutil.which("chromium") is None:
            print("there is no chromium, so there is no picture")
            return
        path = ROOT / "build" / "demo-swarm" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = f"--user-data-dir={self.folder}/profile"
        command = [*CHROMIUM, profile, f"--screenshot={path}", f"--window-size={size}", url]
        subprocess.run(command, check=False, capture_output=True, timeout=60, env=self._env)
        if not path.exists():
            raise Failed("chromium made no picture")
        print(f"see {path.relative_to(ROOT)}", flush=True)


def tour(folder: Path, swarm: Swarm) -> None:
    """Every step."""
    it, name, port = Tour(folder, swarm), f"{swarm.registry}/qcon:1", free_port()
    it.say("a swarm of two architectures")
    it.manyfest("nodes")
    it.say("build for both and one more, without an engine, and push one name (the first time takes minutes)")
    it.manyfest("build", str(EXAMPLE), "-t", name, "--platform", PLATFORMS)
    it.say("is inside what the name says?")
    it.manyfest("verify", name)
    it.say(
        "will it run here? as docker service create has it: no; deploy tells Swarm what nodes call themselves"
    )
    it.manyfest("check", name, "--swarm", ends=1)
    it.say("one task on every node")
    where = ("-p", f"{PORT}:8080", "--publish-mode", "host")
    it.manyfest(
        "deploy", "qcon", name, *where, "--env", "QCON_NODE={{.Node.Hostname}}", "--env", f"QCON_IMAGE={name}"
    )
    it.say("one address in front of them")
    with it.running("balance", "qcon", "--listen", f"127.0.0.1:{port}", "--run", "--interval", "0.5"):
        show_answers(port)
        with it.running(
            "dashboard", name, "--swarm", "--probe", f"http://127.0.0.1:{port}/json", "-q"
        ) as url:
            wait_until(lambda: len(answers(port, 4)) == 2, "both to answer")
            time.sleep(3)  # The picture shows who answered the last requests, one a second.
            it.picture(url, "dashboard", "1400,1100")
            it.picture(f"http://127.0.0.1:{port}/", "qcon", "1000,800")
            it.say("take the i686 node out, and back")
            swarm.x86.docker("node", "update", "--availability", "drain", "old")
            wait_until(lambda: set(answers(port, 4)) == {"linux/amd64"}, "the drained node to leave")
            show_answers(port)
            swarm.x86.docker("node", "update", "--availability", "active", "old")
            wait_until(lambda: len(answers(port, 4)) == 2, "it to come back")
            show_answers(port)
    it.say("and away with it")
    it.manyfest("deploy", "--remove", "qcon")


def show_answers(port: int) -> None:
    """Who answers how often."""
    counted = ", ".join(f"{count} times {who}" for who, count in sorted(answers(port, ASKED).items()))
    print(f"{ASKED} requests to http://127.0.0.1:{port}/: {counted}", flush=True)


def answers(port: int, count: int) -> Counter[str]:
    """Who answers so many requests."""
    return Counter(_ask(port) for _ in range(count))


def _ask(port: int) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/json")
        text = connection.getresponse().read().decode()
    except (OSError, HTTPException) as error:
        return repr(error)
    finally:
        connection.close()
    return next((each for each in ("linux/amd64", "linux/386") if each in text), text.strip()[:80])


def main() -> int:
    """0 if every step worked, 130 after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    print(
        "Starting two engines, one of them a whole i386 Debian (its packages are fetched once) …", flush=True
    )
    try:
        with (
            tempfile.TemporaryDirectory(prefix="manyfest-swarm-") as folder,
            mixed_swarm(Path(folder)) as swarm,
        ):
            tour(Path(folder), swarm)
    except CannotBe as error:
        print(f"The swarm cannot be here: {error}", file=sys.stderr)
        return 3
    except (Failed, RuntimeError, TimeoutError) as error:
        print(f"It did not work: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started is gone.", file=sys.stderr)
        return 130
    print(f"\nAll of it took {time.monotonic() - began:.0f} s; everything that was started is gone.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
