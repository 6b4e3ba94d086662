# SPDX-License-Identifier: Apache-2.0
"""From source to images: projects, compilers, and the embedded builder. Reads and judges projects, too (``lint``)."""
