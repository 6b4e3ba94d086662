# SPDX-License-Identifier: Apache-2.0
"""Files for containers, and what an engine says while it pulls."""

from __future__ import annotations

import io
import tarfile

from manyfest.engines.runner import _archive, _problems


def test_files_for_a_container() -> None:
    """Below a folder of their own, root's, readable."""
    with tarfile.open(fileobj=io.BytesIO(_archive("manyfest", {"nginx.conf": b"x", "empty": b""}))) as tar:
        found = {entry.name: (entry.mode, entry.uid, entry.isdir(), entry.size) for entry in tar}
    assert found == {
        "manyfest": (0o755, 0, True, 0),
        "manyfest/nginx.conf": (0o644, 0, False, 1),
        "manyfest/empty": (0o644, 0, False, 0),
    }


def test_what_goes_wrong_while_pulling() -> None:
    """Lines that are no JSON, or no objects, say nothing."""
    lines = [b'{"status": "Pulling"}', b"", b"garbage", b"[]", b'{"error": "no space"}']
    assert list(_problems(iter(lines))) == ["no space"]
