# SPDX-License-Identifier: Apache-2.0
"""Images times nodes: what would happen to each image on each node, by the rule of what runs there.

A cell is ``native``, ``emulated`` (and everybody knows it), ``fails``, ``unknown``, or ``excluded``: nothing would be
scheduled there, by what the file says or by Swarm's own filter, so nothing can fail there.
"""

from __future__ import annotations

from manyfest.coverage.rules import ENGINES, BuildKit, Containerd, DockerClassic, Kubernetes, Swarm
from manyfest.errors import (
    AuthRequired,
    Error,
    Forbidden,
    InputError,
    NotFound,
    RateLimited,
    Unreachable,
)
from manyfest.indexes.listing import Listing, list_images
from manyfest.stores.places import Place
from manyfest.stores.pool import Pool
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manyfest.coverage.nodes import Node
    from manyfest.coverage.rules import Choice, Rule
    from manyfest.coverage.use import Use
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source

    Open = Callable[[str], tuple[Source, str]]
    """Opens a place by its text and says the tag or digest meant there."""

__all__ = [
    "RUNS",
    "Cell",
    "Matrix",
    "Problem",
    "Row",
    "check",
    "exit_code",
    "judge",
    "place_of",
    "read_all",
    "rule_for",
]

RUNS = ("native", "emulated")


class Problem(Value):
    """Why an image could not be read. ``kind``: ``unauthorised`` (401), ``forbidden`` (403), ``not found`` (404),
    ``rate limited`` (429), ``unreachable``, ``unreadable``, ``unnamed``, ``not built``."""

    __slots__ = ("hint", "kind", "message")
    kind: str
    message: str
    hint: str

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        self._set(kind=kind, message=message, hint=hint)

    @classmethod
    def of(cls, error: Error) -> Problem:
        """Which of the ways to be unreadable it is."""
        kinds = (
            (AuthRequired, "unauthorised"),
            (Forbidden, "forbidden"),
            (RateLimited, "rate limited"),
            (Unreachable, "unreachable"),
            (NotFound, "not found"),
        )
        kind = next((name for type_, name in kinds if isinstance(error, type_)), "unreadable")
        return cls(kind, str(error), error.hint)


class Cell(Value):
    """One image on one node: ``state``, the ``platform`` and ``digest`` that would run there, and why."""

    __slots__ = ("digest", "node", "platform", "reason", "rule", "state")
    node: Node
    state: str
    reason: str
    platform: Platform | None
    digest: str
    rule: str

    def __init__(
        self,
        node: Node,
        state: str,
        reason: str,
        platform: Platform | None = None,
        digest: str = "",
        rule: str = "",
    ) -> None:
        self._set(node=node, state=state, reason=reason, platform=platform, digest=digest, rule=rule)


class Row(Value):
    """One use of an image on every node."""

    __slots__ = ("cells", "listing", "problem", "use")
    use: Use
    listing: Listing | None
    problem: Problem | None
    cells: tuple[Cell, ...]

    def __init__(
        self, use: Use, listing: Listing | None, problem: Problem | None, cells: Sequence[Cell] = ()
    ) -> None:
        self._set(use=use, listing=listing, problem=problem, cells=tuple(cells))

    @property
    def state(self) -> str:
        """``ok``, ``fails`` (somewhere, or nowhere to go), ``unknown``, or ``not built`` (nothing to say yet)."""
        if self.problem is not None:
            return "not built" if self.problem.kind == "not built" else "unknown"
        states = {cell.state for cell in self.cells}
        if "fails" in states or not states & {*RUNS, "unknown"}:
            return "fails"
        return "unknown" if "unknown" in states else "ok"

    @property
    def is_stranded(self) -> bool:
        """Is there no node at all that it may go to?"""
        return self.problem is None and all(cell.state == "excluded" for cell in self.cells)


class Matrix(Value):
    """The whole answer."""

    __slots__ = ("nodes", "rows")
    nodes: tuple[Node, ...]
    rows: tuple[Row, ...]

    def __init__(self, nodes: Sequence[Node], rows: Sequence[Row]) -> None:
        self._set(nodes=tuple(nodes), rows=tuple(rows))

    @property
    def verdict(self) -> str:
        """``yes`` (all will run), ``no`` (something will not), or ``unknown``."""
        states = {row.state for row in self.rows}
        return "no" if "fails" in states else "unknown" if "unknown" in states else "yes"


def check(
    uses: Sequence[Use], nodes: Sequence[Node], open_: Open, *, engine: str = "", native: bool = False
) -> Matrix:
    """Read every image once, side by side, and judge it on every node.

    ``engine`` overrides what each node says of its engine; with ``native`` emulation is not good enough. Raises
    :class:`InputError` for a name that is none, with the place where it is written.
    """
    known = read_all([place_of(use) for use in uses if not use.problem], open_)
    rows = []
    for use in uses:
        found = _unread(use) or known[place_of(use)]
        if isinstance(found, Problem):
            if use.built and found.kind == "not found":
                found = Problem("not built", "it is not there yet: its build section makes it")
            rows.append(Row(use, None, found))
        else:
            rows.append(Row(use, found, None, _cells(use, nodes, found, engine, native=native)))
    return Matrix(nodes, rows)


def _cells(use: Use, nodes: Sequence[Node], listing: Listing, engine: str, *, native: bool) -> list[Cell]:
    """Nodes that differ in nothing that matters are judged once: big clusters are made of few kinds of machine."""
    judged: dict[tuple[object, ...], Cell] = {}
    cells = []
    for node in nodes:
        kind = (node.host, node.kind, node.engine, node.emulates, node.state, node.availability)
        who = (node.name, node.id, node.role, node.labels, node.engine_labels) if use.restrictions else ()
        known = judged.get((kind, who))
        cell = known or judge(use, node, listing, engine=engine, native=native)
        judged[kind, who] = cell
        cells.append(cell if cell.node is node else cell.replace(node=node))
    return cells


def place_of(use: Use) -> str:
    """The place of a use's image; in files a name is always one of a registry. Raises :class:`InputError`."""
    text = use.image if use.kind == "image" else f"docker://{use.image}"
    try:
        return str(Place.parse(text))
    except InputError as error:
        if not use.place:
            raise
        raise InputError(f"{use.place}: {use.owner}: {error}", hint=error.hint) from error


def read_all(places: Sequence[str], open_: Open) -> dict[str, Listing | Problem]:
    """What each place holds, or why nobody can tell; each is asked once."""
    todo = list(dict.fromkeys(places))
    opened: list[tuple[str, Source | Problem, str]] = []
    for place in todo:
        try:
            opened.append((place, *open_(place)))
        except Error as error:
            opened.append((place, Problem.of(error), ""))

    def read(item: tuple[str, Source | Problem, str]) -> Listing | Problem:
        _, source, name = item
        if isinstance(source, Problem):
            return source
        try:
            return list_images(source, source.resolve(name))
        except Error as error:
            return Problem.of(error)

    return dict(zip(todo, Pool().map(read, opened), strict=True))


def rule_for(use: Use, node: Node, engine: str = "") -> Rule:
    """Who decides what runs of this use on that node."""
    chosen = engine or node.engine
    if use.kind == "dockerfile":
        return ENGINES[engine]() if engine else BuildKit()
    if use.kind == "kubernetes" or (node.kind == "kubernetes" and use.kind == "image"):
        return Kubernetes(ENGINES[chosen]() if chosen else Containerd())
    inner: Rule = ENGINES[chosen]() if chosen else DockerClassic()
    return Swarm(inner) if node.kind == "swarm" else inner


def judge(use: Use, node: Node, listing: Listing, *, engine: str = "", native: bool = False) -> Cell:
    """One cell."""
    if not node.is_up:
        return Cell(node, "excluded", f"the node is {_not_up(node)}")
    for restriction in use.restrictions:
        if not restriction.allows(node):
            return Cell(node, "excluded", restriction.refusal(node))
    rule = rule_for(use, node, engine)
    choice = rule.choose(node.host, listing, use.platform)
    if choice.entry is None:
        if isinstance(rule, Swarm) and not use.everywhere and _filtered(rule, node, listing):
            return Cell(node, "excluded", choice.reason, rule=rule.id)
        return Cell(node, "fails", choice.reason + _could(use, node, listing, rule), rule=rule.id)
    return _started(node, choice, rule, native=native)


def _started(node: Node, choice: Choice, rule: Rule, *, native: bool) -> Cell:
    """The engine starts something: does the machine run it?"""
    platform, digest = choice.platform, choice.entry.digest if choice.entry else ""
    if platform is None or not platform.architecture:
        return Cell(node, "unknown", choice.reason, platform, digest, rule.id)
    how = node.runs(platform)
    if how == "native":
        reason = choice.reason + _thirty_two_bit(platform, node)
        return Cell(node, how, reason, platform, digest, rule.id)
    if how == "emulated":
        reason = f"{choice.reason}; the node emulates {platform.architecture}"
        return Cell(node, "fails" if native else how, reason, platform, digest, rule.id)
    if how == "unknown":
        reason = f"for {platform}, and nobody says whether the node's processor has that level"
        return Cell(node, "unknown", reason, platform, digest, rule.id)
    reason = f"{choice.reason}; the node cannot run {platform} (exec format error)"
    return Cell(node, "fails", reason, platform, digest, rule.id)


def _thirty_two_bit(platform: Platform, node: Node) -> str:
    if platform.architecture == "arm" and node.platform.architecture == "arm64":
        return "; it needs a processor with a 32-bit mode, which some arm64 ones lack"
    return ""


def _filtered(rule: Swarm, node: Node, listing: Listing) -> bool:
    return not rule.admits(node.host, rule.placement(listing))


def _could(use: Use, node: Node, listing: Listing, rule: Rule) -> str:
    """What an emulator there could run if it were asked for by name."""
    if use.platform is not None or isinstance(rule, (Swarm, Kubernetes)):
        return ""
    emulated = next((each for each in listing.platforms if node.runs(each) == "emulated"), None)
    return f"; emulated it would run as {emulated}, if that were asked for by name" if emulated else ""


def _not_up(node: Node) -> str:
    if node.availability not in ("", "active"):
        return {"drain": "drained", "pause": "paused"}.get(node.availability, node.availability)
    return node.state


def _unread(use: Use) -> Problem | None:
    if not use.problem:
        return None
    return Problem("not built" if use.built and not use.image else "unnamed", use.problem)


def exit_code(matrix: Matrix) -> int:
    """0 all will run, 1 some will not, 3 nobody can tell."""
    return {"yes": 0, "no": 1, "unknown": 3}[matrix.verdict]
