# SPDX-License-Identifier: Apache-2.0
"""``manyfest verify``."""

from __future__ import annotations

from manyfest.cli.arguments import platforms
from manyfest.cli.plain import Plain
from manyfest.cli.render import plural, printable, size, table
from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.verify.checks import Finding
    from manyfest.verify.report import ImageReport, Report

SUMMARY = "tell whether an image is what it says, and would start"
EXAMPLES = (
    "manyfest verify ghcr.io/acme/app:1.2",
    "manyfest verify oci:build/out:1.2 --expect linux/amd64,linux/arm64 --strict",
    "manyfest verify ghcr.io/acme/app:1.2 --platform linux/arm64 --json",
    "manyfest verify ghcr.io/acme/app:1.2 --sarif > verify.sarif",
)

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SHOWN = 5
_WORDS = {"starts": "yes", "fails": "NO", "second": "not everywhere", "nothing": "no command"}

PLAIN = Plain(
    ("place",),
    platform=None,
    expect=None,
    strict=False,
    sarif=False,
    no_cache=False,
    notes=False,
    allow="",
    max_bytes="64G",
)


def configure(parser: CommandParser) -> None:
    """A place, and how hard to look."""
    parser.description = (
        "Look into every platform's image without running it: are its programs for the platform it claims, are their "
        "loader, libraries and interpreters there, and what would its command do? Exit 0 if so, 1 if not."
    )
    parser.add_argument("place", metavar="REF", help="an image in any place")
    parser.add_argument(
        "--platform", metavar="P,P", action="append", help="only these platforms; may be repeated"
    )
    parser.add_argument("--expect", metavar="P,P", action="append", help="platforms that must be there")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("--sarif", action="store_true", help="print SARIF 2.1.0, for code scanning")
    parser.add_argument(
        "--allow",
        metavar="FILE",
        default="",
        help="findings to live with (default: .manyfest-allow.yaml here)",
    )
    parser.add_argument(
        "--max-bytes", metavar="SIZE", default="64G", help="what a layer may unpack to (default: 64G)"
    )
    parser.add_argument("--no-cache", action="store_true", help="read every layer, and keep nothing")
    parser.add_argument("--notes", action="store_true", help="show notes too")


def run(args: argparse.Namespace, console: Console) -> int:
    """Exit 1 when something is wrong."""
    from manyfest.cli.layerprogress import Reading
    from manyfest.cli.places import Places, with_tag
    from manyfest.verify.allow import read_allowed
    from manyfest.verify.cache import Cache
    from manyfest.verify.image import verify_image

    if args.sarif and args.json:
        raise InputError("--sarif and --json are two forms of the same", hint="leave out one of them")
    wanted, expected = platforms(args.platform), platforms(args.expect)
    allowed, most = read_allowed(args.allow), _bytes(args.max_bytes)
    with Places(args, console) as places, Reading(console) as reading:
        source, name = places.source(args.place)
        report = verify_image(
            source,
            source.resolve(name),
            name=with_tag(args.place),
            platforms=wanted,
            expect=expected,
            strict=args.strict,
            allowed=allowed,
            max_bytes=most,
            cache=Cache("" if args.no_cache else None),
            on_plan=reading.on_plan,
            on_bytes=reading.on_bytes,
        )
    if args.sarif:
        from manyfest import __version__

        console.document(report.to_sarif(__version__))
    else:
        console.result(report.to_json(), text(report, notes=args.notes or console.verbose))
    return 1 if report.failed else 0


def text(report: Report, *, notes: bool = False) -> str:
    """The report for people: a table of platforms, then the findings, the worst first."""
    rows = [_row(report, image) for image in report.images]
    head = ("PLATFORM", "STARTS", "PROGRAMS", "LIBRARIES", "UNPACKED", "ERRORS", "WARNINGS")
    parts = [table(head, rows, right=(2, 3, 4, 5, 6))] if rows else []
    shown = [f for f in report.findings if not f.allowed and (notes or f.severity != "note")]
    parts += _paragraphs(shown, len(report.images))
    parts.append(_last_line(report, notes=notes))
    return "\n\n".join(parts)


def _row(report: Report, image: ImageReport) -> tuple[str, ...]:
    start = image.start
    word = "not followed" if start is None else _WORDS[start["verdict"]]
    unpacked = sum(layer["unpacked_size"] or 0 for layer in image.layers)
    counts = image.counts
    return (
        image.platform or "-",
        word,
        str(counts.get("programs", "-")),
        str(counts.get("libraries", "-")),
        size(unpacked),
        str(report.count("error", image.platform)),
        str(report.count("warning", image.platform)),
    )


def _paragraphs(findings: list[Finding], every: int) -> list[str]:
    """One for each finding, or for the same on several platforms; of many alike the first few."""
    same: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        same.setdefault((finding.severity, finding.check, finding.message), []).append(finding)
    shown: list[str] = []
    alike: dict[tuple[str, str], int] = {}
    for (severity, check, _), each in same.items():
        alike[severity, check] = count = alike.get((severity, check), 0) + 1
        if count <= _SHOWN:
            shown.append(_paragraph(each[0], _platforms(each, every)))
    for (severity, check), count in alike.items():
        if count > _SHOWN:
            shown.append(f"{severity} {check}: {count - _SHOWN} more; --json lists all")
    return shown


def _platforms(findings: list[Finding], every: int) -> str:
    names = list(dict.fromkeys(finding.platform for finding in findings if finding.platform))
    return "all platforms" if len(names) == every > 3 else ", ".join(names)


def _paragraph(finding: Finding, platforms_shown: str) -> str:
    where = f"{platforms_shown}: " if platforms_shown else ""
    lines = [f"{finding.severity} {finding.check} {finding.name}: {where}{finding.message}"]
    if finding.says:
        lines.append(f"  docker run would say: {finding.says}")
    if finding.hint:
        lines.append(f"  hint: {finding.hint}")
    return "\n".join(printable(line) for line in lines)


def _last_line(report: Report, *, notes: bool) -> str:
    errors, warnings, remarks = (report.count(s) for s in ("error", "warning", "note"))
    counts = [plural(errors, "error"), plural(warnings, "warning"), plural(remarks, "note")]
    allowed = sum(1 for finding in report.findings if finding.allowed)
    if allowed:
        counts.append(f"{allowed} allowed")
    if remarks and not notes:
        counts[2] += " (--notes)"
    work = report.work
    took = f"read {plural(work.layers_read, 'layer')} ({size(work.bytes_read)})"
    if work.layers_cached:
        took += f", knew {work.layers_cached}"
    answer = "failed" if report.failed else "ok"
    return f"{answer}: {', '.join(counts)}; {took}"


def _bytes(text: str) -> int:
    """``500M`` as a number of bytes. Raises :class:`InputError`."""
    small = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = small[-1:] if small[-1:].isalpha() else ""
    number = small[: len(small) - len(unit)]
    if unit not in _UNITS or not number.isdigit() or not 0 < len(number) < 16:
        raise InputError(f"--max-bytes {text!r}: expected a size such as 500M or 8G")
    return int(number) * _UNITS[unit]
