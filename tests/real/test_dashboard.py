# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser: Debian's Chromium, without a screen."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html import unescape
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests.real.parts import Host, Registry, need

from manyfest.content import mediatypes
from manyfest.content.document import Document
from manyfest.emulate.images import PROGRAM_PATH
from manyfest.emulate.programs import program
from manyfest.platforms import Platform
from manyfest.serve.exchange import Request, Response
from manyfest.serve.http import Server
from manyfest.stores.base import put_bytes
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image, make_index

pytestmark = [pytest.mark.real, pytest.mark.slow]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--timeout=30000"),
)
PICTURES = Path(os.environ.get("MANYFEST_SCREENSHOTS") or Path(__file__).parents[2] / "build" / "screenshots")
"""Where pictures stay after the tests. Read when this file is loaded: the environment of tests is cleared of such
names."""

EVIL = "<img src=x onerror=document.title='taken'>"


class Answers:
    """Another architecture each time, and once markup."""

    def __init__(self) -> None:
        self.count = 0

    def handle(self, request: Request, /) -> Response:
        self.count += 1
        words = ("linux/amd64", "linux/arm64", "linux/s390x", EVIL)
        return Response(200, {}, words[self.count % 4].encode())


@pytest.fixture
def lists(here: Host, embedded: Registry, tmp_path: Path) -> tuple[str, str]:
    """A list that is right, and one whose arm64 holds amd64."""
    store = Layout.create(str(tmp_path / "layout"), durable=False)
    make_index(store, ("linux/amd64", "linux/arm64", "linux/s390x"), attestations=True, tag="good")
    amd64 = (program(Platform("linux", "amd64")), 0o755)
    entries = [
        make_image(store, each, files={PROGRAM_PATH: amd64})
        .descriptor.with_platform(Platform.parse(each))
        .to_json()
        for each in ("linux/amd64", "linux/arm64")
    ]
    fields = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries}
    wrong = Document(mediatypes.OCI_INDEX, json.dumps(fields).encode())
    put_bytes(store, wrong.descriptor, wrong.raw)
    store.tag(wrong, "wrong")
    names = (f"{embedded.host}/shown/good:1", f"{embedded.host}/shown/wrong:1")
    for tag, name in zip(("good", "wrong"), names, strict=True):
        here.manyfest("copy", f"oci:{tmp_path}/layout:{tag}", name)
    return names


@pytest.fixture
def page(here: Host, lists: tuple[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of a dashboard on those lists and a service, once both lists were looked into."""
    with Server(Answers()) as service:
        command = [sys.executable, "-m", "manyfest", "dashboard", *lists, "--probe", f"{service.url}/"]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(here.home),
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        }
        with (tmp_path / "log").open("wb") as log:
            serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=env)
        try:
            assert serving.stdout is not None
            url = serving.stdout.readline().decode().strip()
            until_verified(url)
            yield url
        finally:
            serving.send_signal(signal.SIGINT)
            serving.communicate(timeout=90)
        assert serving.returncode == 0, (tmp_path / "log").read_text()


def until_verified(url: str) -> None:
    """Follow the events until no list waits for anything."""
    waits = (b'"state":"reading"', b'"state":"verifying"')
    until_told(
        url,
        lambda line: line.startswith(b"data: {") and not any(word in line for word in waits),
        "all verified",
    )


def until_told(url: str, is_it: Callable[[bytes], bool], what: str, seconds: float = 180) -> None:
    """Follow the events until one is what we wait for."""
    connection = HTTPConnection(url.split("/")[2], timeout=90)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    deadline, last = time.monotonic() + seconds, b""
    try:
        # A line comes at least every ten seconds.
        while not is_it(line := answer.readline()):
            last = line if line.startswith(b"data: ") else last
            assert line, f"the events ended, waiting for: {what}; the last: {last!r}"
            assert time.monotonic() < deadline, f"waited for: {what}; the last event: {last!r}"
    finally:
        connection.close()


def kept(name: str) -> Path:
    """A file for a picture, to be kept."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES / f"{name}.png"


def browse(tmp_path: Path, url: str, *flags: str) -> str:
    """What Chromium prints."""
    need("chromium")
    command = ["chromium", *FLAGS, f"--user-data-dir={tmp_path}/profile", *flags, url]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Content Security Policy" not in done.stderr
    return done.stdout


def words(html: str) -> str:
    """What is to be read, in a line."""
    body = re.sub(
        r"<script.*?</script>|<symbol.*?</symbol>", "", html.partition("<body>")[2], flags=re.DOTALL
    )
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_page_in_a_browser(page: str, lists: tuple[str, str], tmp_path: Path) -> None:
    """Lists, findings and answers, live, as text whatever a stranger says; and usable without seeing it."""
    html = browse(tmp_path, page, "--dump-dom", "--enable-logging=stderr")
    shown = words(html)
    for expected in (
        *lists,
        "linux/s390x",
        "provenance",
        "Would not start",
        "wrong-architecture",
        "Verified",
    ):
        assert expected in shown, expected
    assert re.search(r"Answered by Requests Share", shown)
    assert "taken" not in re.findall(r"<title>.*?</title>", html)[0]
    assert "<img src=x" not in html
    for landmark in ("<header", "<main", "<footer", 'role="status"', 'aria-live="polite"', 'class="skip"'):
        assert landmark in html, landmark
    tables = re.findall(r"<table.*?</table>", html, re.DOTALL)
    assert len(tables) == 3
    assert all("<caption" in table and 'scope="col"' in table and 'scope="row"' in table for table in tables)


@pytest.mark.parametrize(
    ("name", "flags"), [("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",))]
)
def test_screenshots(page: str, tmp_path: Path, name: str, flags: tuple[str, ...]) -> None:
    """A picture of each kind of light."""
    picture = kept(f"dashboard-{name}")
    browse(tmp_path, page, f"--screenshot={picture}", "--window-size=1400,900", *flags)
    raw = picture.read_bytes()
    assert struct.unpack(">II", raw[16:24]) == (1400, 900)
    assert len(raw) > 50_000, "an empty page is smaller"
