# SPDX-License-Identifier: Apache-2.0
"""Values as people read them, and the count of a transfer."""

from __future__ import annotations

import io

import pytest

from manyfest.cli.console import Console
from manyfest.cli.progress import BAR_FROM, Transfer
from manyfest.cli.render import duration, fields, media_name, plural, printable, size, table
from manyfest.content.descriptor import Descriptor
from manyfest.stores.copy import Event, Plan


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1536, "1.5 kB"),
        (99_949, "99.9 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (3_200_000, "3.2 MB"),
        (2**63, "9.2 EB"),
        (10**22, "10000 EB"),
    ],
)
def test_size(count: int, text: str) -> None:
    """At most three digits up to what an int64 can say."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (185, "3 min 05 s")]
)
def test_duration(seconds: float, text: str) -> None:
    """Rounded to what matters."""
    assert duration(seconds) == text


def test_a_value_cannot_pass_for_another_field() -> None:
    """Further lines of a stranger's text stand below its own first."""
    shown = fields([("name", "app"), ("annotations", "a=b\ndigest: forged")])
    assert shown == "name:        app\nannotations: a=b\n             digest: forged"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é ü 漢", "plain é ü 漢"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb\tc", "a\\r\nb\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\x9bb\x00", "a\\x9bb\\x00"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    """Control characters and direction marks are spelled out; lines and tabs stay."""
    assert printable(text) == shown


def test_table_stays_a_table() -> None:
    """A cell with a line end does not break it."""
    assert table(("A", "B"), [("x\ny", "1"), ("z", "22")], right=(1,)) == "A     B\nx y   1\nz    22"


def test_fields_leave_out_what_is_empty() -> None:
    """And align the rest."""
    assert fields((("a", "1"), ("long", ""), ("bcd", "2")), indent=" ") == " a:   1\n bcd: 2"


def test_words() -> None:
    """One and many; known media types and others."""
    assert (plural(1, "blob"), plural(2, "blob")) == ("1 blob", "2 blobs")
    assert media_name("application/vnd.oci.image.index.v1+json") == "OCI index"
    assert media_name("text/plain") == "text/plain"


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def events() -> list[Event]:
    """A blob that moved in two pieces, one that was mounted, one that was there."""
    one, two, three = (Descriptor.of(bytes(n), "text/plain") for n in (10, 20, 30))
    return [
        Event("sent", one, 4),
        Event("sent", one, 6),
        Event("done", one, 10),
        Event("mounted", two),
        Event("there", three),
        Event("document", one),
        Event("tagged", one, name="1"),
    ]


def test_transfer_counts() -> None:
    """Bytes as they move, blobs as they arrive."""
    transfer = Transfer(Console(err=io.StringIO()))
    with transfer:
        transfer.on_plan(Plan())
        for event in events():
            transfer.on_event(event)
    assert transfer.to_json() == {
        "bytes_sent": 10,
        "blobs_sent": 1,
        "blobs_mounted": 1,
        "blobs_there": 1,
        "blobs_skipped": 0,
        "documents": 1,
    }
    assert transfer.summary().startswith("sent 1 blob (10 B), mounted 1, 1 there already, in ")


class Planned(Plan):
    """A plan of so many bytes."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    @property
    def size(self) -> int:
        """As said."""
        return self._count


@pytest.mark.parametrize(
    ("count", "err", "quiet", "drawn"),
    [
        (BAR_FROM, Terminal(), False, True),
        (BAR_FROM, Terminal(), True, False),
        (BAR_FROM, io.StringIO(), False, False),
        (BAR_FROM - 1, Terminal(), False, False),
    ],
)
def test_a_bar_only_for_big_copies_on_terminals(
    count: int, err: io.StringIO, quiet: bool, drawn: bool
) -> None:
    """Anything else stays silent until the summary."""
    with Transfer(Console(err=err, quiet=quiet)) as transfer:
        transfer.on_plan(Planned(count))
        for event in events():
            transfer.on_event(event)
    assert bool(err.getvalue()) == drawn
