# SPDX-License-Identifier: Apache-2.0
"""What this machine's engine would run: the platform that commands mean when none is given."""

from __future__ import annotations

import os
import re

from manyfest.platforms import Platform, from_uname

__all__ = ["host_platform"]


def host_platform(machine: str = "", cpuinfo: str = "/proc/cpuinfo") -> Platform:
    """``linux`` and the architecture of the kernel: engines on other systems run Linux too, in a machine of theirs.

    A kernel of 32-bit ARM may say v7 where the processor is v6 (the first Raspberry Pi), so ``cpuinfo`` is asked as
    containerd does.
    """
    platform = from_uname(machine or os.uname().machine).replace(os="linux")
    if platform.architecture != "arm":
        return platform
    variant = _arm_variant(cpuinfo)
    return platform.replace(variant=variant) if variant else platform


def _arm_variant(cpuinfo: str) -> str:
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as file:
            text = file.read(65536)
    except OSError:
        return ""
    number = re.search(r"^CPU architecture\s*:\s*([5-8])", text, re.MULTILINE)
    if number is None:
        return ""
    model = re.search(r"^model name\s*:\s*(\S.*)$", text, re.MULTILINE)
    is_v6 = model is not None and model[1].lower().startswith("armv6-compatible")
    return "v6" if number[1] == "7" and is_v6 else f"v{number[1]}"
