# SPDX-License-Identifier: Apache-2.0
"""The kinds of machine there are: what QEMU calls each, and what Debian does.

>>> kind_of("s390x").qemu, kind_of("linux/arm/v7").debian
('s390x', 'armhf')
"""

from __future__ import annotations

import os

from manyfest.errors import InvalidPlatform
from manyfest.platforms import Platform, from_name, normalise
from manyfest.values import Value

__all__ = ["KINDS", "Kind", "kind_of"]

KVM = "/dev/kvm"


class Kind(Value):
    """One architecture.

    ``debian``, ``suite``, ``kernel``: Debian's architecture, release and package of the kernel; ``qemu``: as in
    ``qemu-system-NAME``; ``packages``: which Debian packages have it; ``options``: its machine and processor;
    ``bus``: of virtio devices; ``console``: the kernel's name of the serial line; ``hosts``: ``uname -m`` of
    processors that run it without emulation; ``resumes_since``: QEMU's first version whose saved memory goes on.
    """

    __slots__ = (
        "bus",
        "console",
        "debian",
        "hosts",
        "kernel",
        "options",
        "packages",
        "platform",
        "qemu",
        "resumes_since",
        "suite",
    )
    bus: str
    console: str
    debian: str
    hosts: tuple[str, ...]
    kernel: str
    options: tuple[str, ...]
    packages: str
    platform: Platform
    qemu: str
    resumes_since: tuple[int, int]
    suite: str

    def __init__(
        self,
        platform: Platform,
        debian: str,
        kernel: str,
        qemu: str,
        packages: str,
        options: tuple[str, ...],
        *,
        bus: str = "pci",
        console: str = "ttyAMA0",
        suite: str = "bookworm",
        hosts: tuple[str, ...] = (),
        resumes_since: tuple[int, int] = (0, 0),
    ) -> None:
        self._set(
            bus=bus,
            console=console,
            debian=debian,
            hosts=hosts,
            kernel=kernel,
            options=options,
            packages=packages,
            platform=platform,
            qemu=qemu,
            resumes_since=resumes_since,
            suite=suite,
        )

    @property
    def is_native(self) -> bool:
        """May KVM run it here?"""
        return os.uname().machine in self.hosts and os.access(KVM, os.R_OK | os.W_OK)


def _linux(architecture: str, variant: str = "") -> Platform:
    return Platform("linux", architecture, variant)


KINDS: tuple[Kind, ...] = (
    Kind(
        _linux("amd64"), "amd64", "linux-image-amd64", "x86_64", "qemu-system-x86",
        ("-M", "q35", "-cpu", "max,-arch-capabilities"), console="ttyS0", hosts=("x86_64",),
    ),
    Kind(
        _linux("386"), "i386", "linux-image-686-pae", "x86_64", "qemu-system-x86",
        ("-M", "q35", "-cpu", "max,-arch-capabilities"), console="ttyS0", hosts=("x86_64",),
    ),
    # Without pauth-impdef, pointer authentication alone halves the speed of emulation.
    Kind(
        _linux("arm64"), "arm64", "linux-image-arm64", "aarch64", "qemu-system-arm",
        ("-M", "virt", "-cpu", "max,pauth-impdef=on"), hosts=("aarch64",),
    ),
    # The kernel without LPAE sees nothing above 4 GB, which is where virt would put its buses.
    Kind(
        _linux("arm", "v7"), "armhf", "linux-image-armmp", "arm", "qemu-system-arm",
        ("-M", "virt,highmem=off", "-cpu", "cortex-a15"),
    ),
    # Before 8.2 a processor's timer (DEC) was not saved with it, and one that slept then may never wake:
    # "target/ppc: Migrate DECR SPR" of https://lists.nongnu.org/archive/html/qemu-devel/2023-09/. With 7.2 one
    # resumption in five stood still with two processors, one in twenty with one.
    Kind(
        _linux("ppc64le"), "ppc64el", "linux-image-powerpc64le", "ppc64", "qemu-system-ppc",
        ("-M", "pseries", "-cpu", "POWER9"), console="hvc0", resumes_since=(8, 2),
    ),
    # Debian 12 has no riscv64. Its timers were not saved before 10.2 ("hw/intc: Save timers array in RISC-V mtimer
    # VMState" of https://lists.nongnu.org/archive/html/qemu-devel/2025-09/): one resumption in ten stood still.
    Kind(
        _linux("riscv64"), "riscv64", "linux-image-riscv64", "riscv64", "qemu-system-misc",
        ("-M", "virt"), console="ttyS0", suite="trixie", hosts=("riscv64",), resumes_since=(10, 2),
    ),
    Kind(
        _linux("s390x"), "s390x", "linux-image-s390x", "s390x", "qemu-system-misc",
        ("-M", "s390-ccw-virtio", "-cpu", "max"), bus="ccw", console="ttysclp0", hosts=("s390x",),
    ),
)  # fmt: skip


def kind_of(text: str) -> Kind:
    """The kind of an architecture in anybody's spelling. Raises :class:`InvalidPlatform` naming those there are."""
    known = ", ".join(kind.debian if kind.debian == "armhf" else kind.platform.architecture for kind in KINDS)
    hint = f"machines can be {known}"
    try:
        wanted = normalise(from_name(text))
    except InvalidPlatform as error:
        raise InvalidPlatform(f"{text!r}: no architecture of a machine", hint=hint) from error
    for kind in KINDS:
        same = wanted.architecture == kind.platform.architecture
        if same and wanted.os == "linux" and wanted.variant in ("", kind.platform.variant):
            return kind
    raise InvalidPlatform(f"{wanted}: nobody here knows how to make such a machine", hint=hint)
