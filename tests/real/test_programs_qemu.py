# SPDX-License-Identifier: Apache-2.0
"""Every tiny program runs under QEMU and prints exactly its platform (Debian: qemu-user-static)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from manyfest.emulate.programs import MAX_TEXT, PLATFORMS, program
from manyfest.platforms import Platform

pytestmark = pytest.mark.real

# Where QEMU's name for an architecture is not Go's.
QEMU_NAMES = {
    "amd64": "x86_64",
    "386": "i386",
    "arm64": "aarch64",
    "loong64": "loongarch64",
    "mips64le": "mips64el",
}


def run(path: Path, platform: Platform, content: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``content`` under the static QEMU of the platform; skips when there is none."""
    name = f"qemu-{QEMU_NAMES.get(platform.architecture, platform.architecture)}-static"
    qemu = shutil.which(name)
    if qemu is None:
        pytest.skip(f"no {name}; apt-get install qemu-user-static")
    path.write_bytes(content)
    path.chmod(0o755)
    return subprocess.run([qemu, *options, str(path)], check=False, capture_output=True, timeout=90)


@pytest.mark.parametrize("platform", PLATFORMS, ids=str)
def test_prints_its_platform(tmp_path: Path, platform: Platform) -> None:
    """One line, nothing on standard error, exit code 0."""
    done = run(tmp_path / "program", platform, program(platform))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{platform}\n".encode(), b"")


@pytest.mark.parametrize("platform", PLATFORMS, ids=str)
@pytest.mark.parametrize("text", ["", "x" * MAX_TEXT], ids=["empty", "longest"])
def test_any_text_and_exit_code(tmp_path: Path, platform: Platform, text: str) -> None:
    """The extremes of what fits."""
    done = run(tmp_path / "program", platform, program(platform, text, 255))
    assert (done.returncode, done.stdout) == (255, text.encode())


@pytest.mark.parametrize(
    ("processor", "runs"),
    [("arm926", {"v5"}), ("arm1176", {"v5", "v6"}), ("cortex-a8", {"v5", "v6", "v7"})],
)
def test_arm_variants_need_the_processor_they_name(tmp_path: Path, processor: str, runs: set[str]) -> None:
    """A program runs exactly where its variant says: ARMv5, ARMv6 (Raspberry Pi 1) and ARMv7 processors."""
    outcome = {}
    for variant in ("v5", "v6", "v7"):
        platform = Platform.parse(f"linux/arm/{variant}")
        outcome[variant] = run(tmp_path / variant, platform, program(platform), "-cpu", processor).returncode
    assert {variant for variant, code in outcome.items() if code == 0} == runs
    assert {code for code in outcome.values() if code} <= {-4}, "the others stop with SIGILL"
