# SPDX-License-Identifier: Apache-2.0
"""Bytes and what they say: digests, descriptors, documents, media types. No I/O."""
