# SPDX-License-Identifier: Apache-2.0
"""What runs inside a machine first: which network card is which."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from manyfest.emulate.machine.guest import FILES, OWN_MAC

CARDS = {"eth0": "52:54:aa:bb:cc:dd", "eth1": OWN_MAC}


def found(folder: Path, cards: dict[str, str], address: str) -> str:
    """The script's own words for the cards, of a kernel that shows these."""
    (folder / "lo").mkdir()
    (folder / "lo" / "address").write_text("00:00:00:00:00:00\n")
    for name, mac in cards.items():
        (folder / name / "device").mkdir(parents=True)
        (folder / name / "address").write_text(f"{mac}\n")
    script = FILES["usr/sbin/machine"][1]
    functions = script[script.index("find_cards() {") : script.index("stop() {")]
    functions = functions.replace("/sys/class/net", str(folder)).replace("busybox usleep", ":")
    lines = f'{functions}\naddress={address}\nwait_for_cards && echo "$own $bridged"\n'
    return subprocess.run(["sh", "-euc", lines], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("cards", "address", "told"),
    [
        (CARDS, "10.99.0.7/24", "eth1 eth0\n"),
        ({"eth0": OWN_MAC, "eth1": CARDS["eth0"]}, "10.99.0.7/24", "eth0 eth1\n"),
        ({"eth0": OWN_MAC}, "''", "eth0 \n"),
    ],
)
def test_cards_are_known_by_their_address(
    tmp_path: Path, cards: dict[str, str], address: str, told: str
) -> None:
    """The kernel's names go by which card it found first, which is not always QEMU's first."""
    assert found(tmp_path, cards, address) == told


@pytest.mark.parametrize("cards", [{"eth0": OWN_MAC}, {"eth0": CARDS["eth0"]}, {}])
def test_cards_that_are_late_are_waited_for(tmp_path: Path, cards: dict[str, str]) -> None:
    """For a minute."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        found(tmp_path, cards, "10.99.0.7/24")
    assert (caught.value.returncode, caught.value.stderr) == (1, "")
