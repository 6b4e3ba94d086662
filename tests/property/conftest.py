# SPDX-License-Identifier: Apache-2.0
"""Hypothesis without its clock: a busy machine is not a bug."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("manyfest", deadline=None)
settings.load_profile("manyfest")
