# SPDX-License-Identifier: Apache-2.0
"""Full QEMU machines of other architectures, each with a Docker Engine inside.

:func:`~manyfest.emulate.machine.machines.create` makes one out of Debian's packages without running any of them,
:func:`~manyfest.emulate.machine.machines.start` gives back a machine whose ``engine`` is a URL for ``DOCKER_HOST``::

    from manyfest.emulate.machine import machines

    machines.create("z", "s390x")
    print(machines.start("z").engine)  # unix:///home/me/.local/share/manyfest/machines/z/docker.sock
    machines.stop("z")

The engine listens on no network: its socket is brought here by ssh, with a key made for the machine.
"""
