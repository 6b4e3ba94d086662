# SPDX-License-Identifier: Apache-2.0
"""Figures of whole processes, side by side with other tools in one run. ``README.md`` says how to read them."""
