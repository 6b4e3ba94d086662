# SPDX-License-Identifier: Apache-2.0
"""For every test: nothing of the machine's proxies, credentials, registries or home reaches it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Without its clock and its dice: a busy machine is not a bug, and what is tried here is the same every time. New
# examples are looked for in tests/fuzz.
settings.register_profile(
    "manyfest", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("manyfest")

_NAMES = (
    "CONTAINERS_REGISTRIES_CONF",
    "DOCKER_AUTH_CONFIG",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "REGISTRY_AUTH_FILE",
    "SOURCE_DATE_EPOCH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
)
_ENDINGS = ("_proxy", "_token", "_password")
_STARTS = ("manyfest_", "xdg_")
_KEPT = ("MANYFEST_NO_SKIPS", "MANYFEST_TEST_CACHE")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden`` writes the golden files anew; look at the difference before you commit it."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


def pytest_configure() -> None:
    """A shell's background jobs, and all they start, ignore Ctrl-C; the tests of it need what a terminal gives."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With MANYFEST_NO_SKIPS a test that skips has failed: in CI every part it needs must be there."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("MANYFEST_NO_SKIPS"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"no skip is allowed here (MANYFEST_NO_SKIPS): {reason}"
    return report


@pytest.fixture(autouse=True)
def _own_environment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # What is drawn on a terminal must not depend on the one that the tests are started from.
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for name in os.environ:
        small = name.lower()
        leaks = name in _NAMES or small.endswith(_ENDINGS) or small.startswith(_STARTS)
        if leaks and name not in _KEPT:
            monkeypatch.delenv(name)
    if request.node.get_closest_marker("real"):
        return  # engines and emulators have homes of their own, made by tests/real
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(home / name.lower()))
    # An empty text: no registries.conf at all, neither the user's nor the system's.
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", "")
    monkeypatch.setenv("MANYFEST_CERTS_D", "")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)`` compares text with ``tests/golden/NAME``, or writes it with ``--update-golden``."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is not there; write it with: pytest --update-golden"
        assert text == path.read_text(encoding="utf-8")

    return check
