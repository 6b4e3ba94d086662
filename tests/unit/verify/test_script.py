# SPDX-License-Identifier: Apache-2.0
"""The first line of a script, as Linux splits it."""

from __future__ import annotations

import pytest

from manyfest.verify.facts import Shebang
from manyfest.verify.kinds import read_facts


@pytest.mark.parametrize(
    ("line", "interpreter", "argument", "program"),
    [
        (b"#!/bin/sh\n", "/bin/sh", "", "/bin/sh"),
        (b"#!/bin/sh", "/bin/sh", "", "/bin/sh"),
        (b"#! /bin/sh -e \nexit\n", "/bin/sh", "-e", "/bin/sh"),
        (b"#!\t/usr/bin/awk\t-f\t\n", "/usr/bin/awk", "-f", "/usr/bin/awk"),
        (b"#!/usr/bin/perl -w -T\n", "/usr/bin/perl", "-w -T", "/usr/bin/perl"),
        (b"#!/usr/bin/env python3\n", "/usr/bin/env", "python3", "python3"),
        (b"#!/usr/bin/env -S node --harmony\n", "/usr/bin/env", "-S node --harmony", "node"),
        (b"#!/usr/bin/env -Snode\n", "/usr/bin/env", "-Snode", "node"),
        (b"#!/usr/bin/env -i PATH=/bin sh\n", "/usr/bin/env", "-i PATH=/bin sh", "sh"),
        (b"#!/usr/bin/env -u HOME ruby\n", "/usr/bin/env", "-u HOME ruby", "ruby"),
        (b"#!/usr/bin/env\n", "/usr/bin/env", "", "/usr/bin/env"),
        (b"#!/opt/caf\xe9/run\n", "/opt/caf\\xe9/run", "", "/opt/caf\\xe9/run"),
    ],
)
def test_split(line: bytes, interpreter: str, argument: str, program: str) -> None:
    """Interpreter, at most one argument, and what ``env`` would start."""
    found = read_facts(line, len(line))
    assert found is not None
    assert found.shebang is not None
    assert (found.kind, found.interpreter, found.problem, found.platforms) == ("script", interpreter, "", ())
    assert (found.shebang.argument, found.shebang.program, found.shebang.crlf) == (argument, program, False)


@pytest.mark.parametrize("line", [b"#!/bin/sh\r\necho\r\n", b"#!/usr/bin/env bash\r\n"])
def test_windows_line_ends_are_seen(line: bytes) -> None:
    """The kernel would look for a name that ends in a carriage return."""
    found = read_facts(line, len(line))
    assert found is not None
    assert found.shebang is not None
    assert found.shebang.crlf
    assert found.shebang.program.endswith("\r")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"#!\n", "no interpreter"),
        (b"#!   \nx", "no interpreter"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
        (b"#!/" + b"a" * 300 + b"\n", "beyond the 255 bytes"),
        (b"#!/bin/sh " + b"a" * 300, ""),
    ],
)
def test_what_the_kernel_refuses(line: bytes, problem: str) -> None:
    """Said as a problem of the file."""
    found = read_facts(line, len(line))
    assert found is not None
    assert problem in found.problem
    assert bool(problem) == bool(found.problem)


def test_a_byte_order_mark_alone_is_text() -> None:
    """Many text files start with one."""
    assert read_facts(b"\xef\xbb\xbfplain", 8) is None


def test_shebang_is_a_value() -> None:
    """Equal by content."""
    assert Shebang("/bin/sh", "-e") == Shebang("/bin/sh", "-e", False)
