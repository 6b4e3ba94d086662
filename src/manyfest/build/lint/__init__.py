# SPDX-License-Identifier: Apache-2.0
"""What in a project's files will go wrong on another architecture, found by reading them.

``inspect_tree(folder)`` gives findings with file and line, why it matters, and the line as it should be. Each kind of
file has a module of its own; :mod:`.tree` knows which module reads which file.
"""

from __future__ import annotations

from manyfest.build.lint.finding import RULES, Finding, Rule
from manyfest.build.lint.tree import inspect_tree

__all__ = ["RULES", "Finding", "Rule", "inspect_tree"]
