# SPDX-License-Identifier: Apache-2.0
"""Runs of ordinary members are read as the walk reads them one by one: the same, or the same refusal."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyfest.emulate.programs import program
from manyfest.errors import Error, InvalidDocument, TooLarge
from manyfest.platforms import Platform
from manyfest.verify import runs, walk
from manyfest.verify.layers import Entry, Layer
from manyfest.verify.tape import Tape

S390X = program(Platform.parse("linux/s390x"))


def archive(*members: tuple[str, bytes, dict[str, Any]], format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of members with fields."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as file:
        for name, data, fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """The data as it may come."""
    return (data[at : at + size] for at in range(0, len(data), size))


def outcome(data: bytes, size: int, *, one_by_one: bool) -> object:
    """What a walk makes of an archive: all of it, or the error."""
    try:
        if not one_by_one:
            return walk.walk(pieces(data, size)).to_json()
        with mock.patch.object(walk, "ordinary_members", return_value=0):
            return walk.walk(pieces(data, size)).to_json()
    except Error as error:
        return type(error), str(error)


def in_runs(data: bytes) -> tuple[int, Tape, Layer]:
    """How many bytes of an archive a run takes, and the layer that it makes."""
    tape, layer = Tape(iter([b""])), Layer("")
    tape.piece = data
    runs.ordinary_members(tape, layer.entries)
    return tape.at, tape, layer


def summed(header: bytes | bytearray) -> bytes:
    """A header with its check sum right again."""
    blanked = bytearray(header)
    blanked[148:156] = b" " * 8
    blanked[148:156] = b"%06o\0 " % sum(blanked)
    return bytes(blanked)


def test_ordinary_members_are_taken_with_their_times() -> None:
    """Plain ones in folders, empty ones, and the extended headers that tell only when they were written."""
    data = archive(
        ("./usr/share/doc/a", b"text", {"mode": 0o640, "uid": 12}),
        ("./usr/share/doc/b", b"", {"mtime": 1.5}),
        ("c", b"x" * 2000, {"mtime": 2.25}),
        ("./d/", b"", {"type": tarfile.DIRTYPE, "mode": 0o700}),
        ("d/l", b"", {"type": tarfile.SYMTYPE, "linkname": "../../c"}),
        ("d/h", b"", {"type": tarfile.LNKTYPE, "linkname": "./d//l"}),
        ("var/lib/dpkg/info/e", b"text", {}),
        ("./" + "f/" * 100 + "f", b"text", {"mtime": 1.5}),
        ("g", b"", {"pax_headers": {"path": ""}}),
    )
    at, _, layer = in_runs(data)
    assert layer.entries == {
        "usr/share/doc/a": Entry("f", 0o640, 4, owner=12),
        "usr/share/doc/b": Entry("f", 0o644, 0),
        "c": Entry("f", 0o644, 2000),
        "d": Entry("d", 0o700),
        "d/l": Entry("l", 0o644, 0, "../../c"),
        "d/h": Entry("h", 0o644, 0, "d/l"),
        "var/lib/dpkg/info/e": Entry("f", 0o644, 4),
        "f/" * 100 + "f": Entry("f", 0o644, 4),
        "g": Entry("f", 0o644),
    }
    assert not data[at:].strip(b"\0")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_taken_however_they_are_written(format: int) -> None:
    """In the header's prefix, in GNU's header before it, in POSIX's."""
    data = archive(("a/" * 60 + "b" * 50, b"text", {}), ("n" * 100, b"", {}), ("c", b"", {}), format=format)
    at, _, layer = in_runs(data)
    assert list(layer.entries) == ["a/" * 60 + "b" * 50, "n" * 100, "c"]
    assert not data[at:].strip(b"\0")


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("../out", b"", {}),
        ("a/../../out", b"", {}),
        (".hidden", b"", {}),
        ("a/.wh.gone", b"", {}),
        ("folder//", b"", {"type": tarfile.DIRTYPE}),
        ("./", b"", {"type": tarfile.DIRTYPE}),
        ("hard", b"", {"type": tarfile.LNKTYPE, "linkname": "../first"}),
        ("pipe", b"", {"type": tarfile.FIFOTYPE}),
        ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "é"}),
        ("etc/passwd", b"root", {}),
        ("é" * 300, b"", {}),
        ("n/" * 600, b"", {}),
        ("a", b"x", {"pax_headers": {"path": "b\0c"}}),
        ("a", b"x", {"pax_headers": {"path": "b", "uid": "1"}}),
        ("a", b"x", {"pax_headers": {"size": "1"}}),
        ("a", b"x", {"pax_headers": {"GNU.sparse.major": "1"}}),
        ("a", b"x", {"pax_headers": {"comment": "c" * 1100}}),
        ("a", S390X, {}),
        ("a", b"#!", {}),
        ("a.jar", b"PK\3\4", {}),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value)[:12],
)
def test_what_is_out_of_the_ordinary_is_left(name: str, content: bytes, fields: dict[str, Any]) -> None:
    """On the tape, at its first header, with what was before it taken."""
    first = archive(("first", b"text", {}))[:1024]
    at, _, layer = in_runs(first + archive((name, content, fields), ("after", b"text", {})))
    assert list(layer.entries) == ["first"]
    assert at == 1024


def test_a_name_that_came_before_is_left() -> None:
    """The walk says so."""
    at, _, layer = in_runs(archive(("a", b"1", {}), ("./a", b"2", {}), ("b", b"", {})))
    assert list(layer.entries) == ["a"]
    assert at == 1024


@pytest.mark.parametrize("at", [0, 110, 124, 135, 148, 156, 257, 345])
def test_a_header_with_a_wrong_sum_is_left(at: int) -> None:
    """Whichever byte it is that was changed."""
    data = bytearray(archive(("first", b"", {}), ("second", b"", {})))
    data[512 + at] ^= 1
    taken, _, layer = in_runs(bytes(data))
    assert (taken, list(layer.entries)) == (512, ["first"])


def test_sums_that_adler_wraps() -> None:
    """A header may add up to twice what Adler-32 counts to: what looks right then is looked at more closely."""
    header = bytearray(archive(("a", b"", {}))[:512])
    header[0:99] = b"\xff" * 99
    header[157:345] = b"\xff" * 188
    header[346:512] = b"\xff" * 166
    right = summed(header)
    assert sum(right) > 65521
    assert list(walk.walk([right, bytes(1024)]).entries) == ["\udcff" * 99]
    wrong = right[:148] + b"%06o\0 " % (int(right[148:154], 8) - 65521) + right[156:]
    with pytest.raises(InvalidDocument, match="check sum"):
        walk.walk([wrong, bytes(1024)])


def test_bounds_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of how many there are and of their names; and none is longer than the archive."""
    data = archive(*((f"file-{i}", b"", {}) for i in range(10)))
    monkeypatch.setattr(walk, "MAX_ENTRIES", 9)
    with pytest.raises(TooLarge, match="more than 9 entries"):
        walk.walk([data])
    monkeypatch.undo()
    monkeypatch.setattr(walk, "MAX_NAMES", 59)
    with pytest.raises(TooLarge, match="59 bytes of names"):
        walk.walk([data])
    monkeypatch.undo()
    with pytest.raises(InvalidDocument, match="ends inside a file"):
        walk.walk([archive(("a", b"x", {}), ("b", b"x" * 5000, {}))[:4000]])


_PARTS = st.sampled_from(
    ["a", "b", "usr", "etc", "lib", "..", ".", "", ".wh.a", "é", "\udcff", "x" * 60, "y" * 60, "os-release"]
)
_NAMES = st.builds(
    "".join, st.tuples(st.sampled_from(["", "./", "/"]), st.lists(_PARTS, max_size=4).map("/".join))
)
_CONTENT = st.sampled_from(
    [
        b"",
        b"M",
        b"MZ",
        b"#!/bin/sh\n",
        b"# text",
        b"text",
        S390X,
        b"PK\3\4",
        b"\x7fELF",
        b"\xca\xfe\xba\xbe" * 9,
        bytes(1500),
    ]
)
_PAX = st.dictionaries(
    st.sampled_from(["path", "uid", "size", "linkpath", "comment", "GNU.sparse.major"]),
    st.sampled_from(["1", "12", "usr/c", "", "a\0b", "x" * 700]),
    max_size=2,
)
_FIELDS = st.fixed_dictionaries(
    {
        "mtime": st.sampled_from([0, 1.5, 2.25]),
        "mode": st.integers(0, 0o7777),
        "uid": st.sampled_from([0, 1000, 1 << 30]),
        "type": st.sampled_from(
            [*[tarfile.REGTYPE] * 9, *[b"5", b"2"] * 3, b"\0", b"1", b"3", b"7", b"S", b"g", b"?"]
        ),
        "linkname": st.sampled_from(["", "a", "../../b"]),
        "pax_headers": st.one_of(st.just({}), _PAX),
    }
)
_FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
_CHANGES = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.one_of(st.integers(0, 511), st.integers(100, 160)),
        st.sampled_from(b"\0 0179AMSx.\x80\xff"),
        st.booleans(),
    ),
    max_size=2,
)


@pytest.mark.property
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(_NAMES, _CONTENT, _FIELDS), max_size=6),
    _FORMATS,
    _CHANGES,
    st.integers(0, 2000),
    st.sampled_from([1, 100, 512, 1000, 1024, 4096, 100_000]),
)
def test_a_run_is_read_as_one_by_one(
    members: list[tuple[str, bytes, dict[str, Any]]],
    format: int,
    changes: list[tuple[int, int, int, bool]],
    cut: int,
    size: int,
) -> None:
    """Odd names, kinds and extended headers, changed bytes with the sum right or wrong, an end that is cut."""
    try:
        data = bytearray(archive(*members, format=format))
    except ValueError:  # a name that ustar cannot hold
        data = bytearray(archive(*members, format=tarfile.GNU_FORMAT))
    for record, at, value, right in changes:
        begin = record * 512 % len(data)
        data[begin + at] = value
        if right:
            data[begin : begin + 512] = summed(data[begin : begin + 512])
    whole = bytes(data[: len(data) - cut if cut < 1000 else len(data)])
    assert outcome(whole, size, one_by_one=False) == outcome(whole, size, one_by_one=True)
