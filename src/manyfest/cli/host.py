# SPDX-License-Identifier: Apache-2.0
"""The platform that commands mean when none is given."""

from __future__ import annotations

from manyfest.engines.host import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.platforms import Platform

__all__ = ["host_platform"]

_WITH_ENGINES = ("freebsd", "linux", "windows")


def host_platform() -> Platform:
    """What this machine's engine runs; on systems without one of their own, Linux in a virtual machine."""
    platform = host()
    return platform if platform.os in _WITH_ENGINES else platform.replace(os="linux", os_version="")
