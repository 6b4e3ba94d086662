# SPDX-License-Identifier: Apache-2.0
"""The command: arguments in, rendering out. Nothing here knows how anything is done."""
