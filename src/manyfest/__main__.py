# SPDX-License-Identifier: Apache-2.0
"""``python -m manyfest``."""

from manyfest.cli.main import entry

if __name__ == "__main__":
    entry()
