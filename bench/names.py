# SPDX-License-Identifier: Apache-2.0
"""What the jobs work on, by name."""

from __future__ import annotations

__all__ = ["LAYER_REPOSITORY", "PLATFORMS", "REPOSITORY", "tag_of"]

PLATFORMS = ("linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/ppc64le", "linux/s390x", "linux/riscv64")
REPOSITORY = "bench/app"
LAYER_REPOSITORY = "bench/layer"


def tag_of(platform: str) -> str:
    """``amd64``, ``arm-v7``, …: the tag of one platform's image."""
    return platform.partition("/")[2].replace("/", "-")
