# SPDX-License-Identifier: Apache-2.0
"""Other architectures on this machine: tiny programs for each, images that hold them, and the kernel's emulators."""
