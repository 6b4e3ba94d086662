# SPDX-License-Identifier: Apache-2.0
"""From a folder with a Dockerfile to one index for all its platforms, without a daemon.

``project`` finds what is in the folder, ``toolchains`` compiles for every platform, ``dockerfile`` and ``expand`` read
Dockerfiles, ``assemble`` carries one out for a platform, ``layer`` writes the layers, ``plan`` joins it all.
"""
