# SPDX-License-Identifier: Apache-2.0
"""Which image of a list each engine takes, by that engine's own rule, and why every other one lost.

    >>> from manyfest.platforms import Platform
    >>> listing = listing_of("linux/amd64", "linux/arm/v6", "linux/arm/v7")
    >>> host = Host(Platform.parse("linux/arm64"))
    >>> for rule in (DockerClassic(), Podman(), Swarm(DockerClassic())):
    ...     print(rule.id, rule.choose(host, listing).platform)
    docker linux/arm/v7
    podman None
    swarm linux/arm/v7

The engines differ more than their documentation says; ``evidence`` of each rule links to the code it follows, and
``docs/explanation/engines-rules.md`` compares them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from manyfest.indexes.listing import Entry, Listing
from manyfest.platforms import (
    Matcher,
    Only,
    OnlyStrict,
    Ordered,
    Platform,
    from_uname,
    names,
    normalise,
    ranked,
)
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "ENGINES",
    "BuildKit",
    "Choice",
    "Containerd",
    "DockerClassic",
    "DockerContainerd",
    "DockerOld",
    "Host",
    "Kubernetes",
    "Podman",
    "Rule",
    "Swarm",
    "listing_of",
    "rules",
]

_MOST = 8
"""Platforms that a sentence lists."""


class Host(Value):
    """A machine as engines on it see it: its platform, and what ``uname -m`` says, which Swarm goes by."""

    __slots__ = ("machine", "platform")
    platform: Platform
    machine: str

    def __init__(self, platform: Platform, machine: str = "") -> None:
        """Without ``machine``, the word that such a machine usually says."""
        self._set(platform=platform, machine=machine or machine_of(platform))

    @classmethod
    def of_machine(cls, machine: str, os: str = "linux") -> Host:
        """From ``uname -m``. Raises :class:`~manyfest.errors.InvalidPlatform` for a word nobody here knows."""
        return cls(from_uname(machine, os=os), machine)


class Choice(Value):
    """``entry`` is what would be started, ``None`` if nothing would, and ``reason`` says why; ``rejected`` are the
    other entries, each with why it lost, the best losers first."""

    __slots__ = ("entry", "reason", "rejected")
    entry: Entry | None
    reason: str
    rejected: tuple[tuple[Entry, str], ...]

    def __init__(self, entry: Entry | None, reason: str, rejected: Sequence[tuple[Entry, str]] = ()) -> None:
        self._set(entry=entry, reason=reason, rejected=tuple(rejected))

    @property
    def platform(self) -> Platform | None:
        """Of the chosen entry, where anybody says it."""
        return None if self.entry is None else self.entry.known


class Rule(ABC):
    """One engine's way of choosing. Rules have no state."""

    id: str
    title: str
    evidence: tuple[str, ...]

    @abstractmethod
    def choose(self, host: Host, listing: Listing, platform: Platform | None = None) -> Choice:
        """What this engine starts on ``host``; ``platform`` is the one asked for (``--platform``), if any."""

    def __repr__(self) -> str:
        return f"<rule {self.id}>"


class _Matching(Rule):
    """Engines that go by containerd's matchers."""

    detects_level = False
    strict = False
    """Does an explicit platform mean that platform and nothing less?"""
    refuses_other = True
    """Is a single image refused when it is not for the platform that was asked for?"""

    def matcher(self, host: Host, platform: Platform | None) -> Matcher:
        """What is looked for, in order."""
        if platform is not None:
            return OnlyStrict(platform) if self.strict else Only(platform)
        return Only(self.own(host))

    def own(self, host: Host) -> Platform:
        """The host as this engine detects it."""
        plain = normalise(host.platform)
        if plain.architecture == "amd64" and not self.detects_level:
            return plain.replace(variant="")
        return plain

    def choose(self, host: Host, listing: Listing, platform: Platform | None = None) -> Choice:
        matcher = self.matcher(host, platform)
        if listing.single:
            return _single(listing, matcher, asked=platform, refuses=self.refuses_other)
        fitting = self._fitting(listing, matcher)
        chosen = fitting[0] if fitting else None
        return _chosen(listing, matcher, chosen, fitting, self._why_not)

    def _fitting(self, listing: Listing, matcher: Matcher) -> list[Entry]:
        """Best first."""
        return ranked(listing.images, matcher, lambda entry: entry.known)

    def _why_not(self, entry: Entry, matcher: Matcher) -> str:
        return _misfit(entry.known, matcher)


class DockerClassic(_Matching):
    """Docker 23 and later with its own image store (graph drivers), the default before Engine 29."""

    id = "docker"
    title = "Docker, classic store"
    evidence = (
        "https://github.com/moby/moby/blob/master/daemon/internal/distribution/pull_v2_unix.go",
        "https://github.com/moby/moby/issues/37647",
    )
    detects_level = True

    def _fitting(self, listing: Listing, matcher: Matcher) -> list[Entry]:
        # It never opens a child to find its platform; one that says none is taken when nothing else fits.
        flat = [entry for entry in listing.images if not entry.nested]
        silent = [entry for entry in flat if entry.platform is None or not _says_anything(entry.platform)]
        return [*ranked(flat, matcher, lambda entry: entry.platform), *silent]

    def _why_not(self, entry: Entry, matcher: Matcher) -> str:
        if entry.nested:
            return "stands in an index within the index, which this store does not follow"
        return _misfit(entry.platform, matcher)


class DockerOld(Rule):
    """Docker before Engine 23, which several distributions still ship: one platform, and no way down from it.

    Where an arm finds nothing for its own variant, it takes the first entry for any arm, fit or not.
    """

    id = "docker-20.10"
    title = "Docker before 23"
    evidence = (
        "https://github.com/moby/moby/blob/v20.10.24/distribution/pull_v2_unix.go",
        "https://github.com/moby/moby/issues/37647",
    )

    def choose(self, host: Host, listing: Listing, platform: Platform | None = None) -> Choice:
        """See :meth:`Rule.choose`."""
        wanted = platform or normalise(host.platform)
        if wanted.architecture == "amd64" and platform is None:
            wanted = wanted.replace(variant="")
        matcher = OnlyStrict(wanted)
        if listing.single:
            return _single(listing, matcher, asked=platform, refuses=True)
        flat = [entry for entry in listing.images if not entry.nested]
        fitting = ranked(flat, matcher, lambda entry: entry.platform)
        careless = [] if fitting or wanted.architecture != "arm" else _any_arm(flat, wanted)
        choice = _chosen(
            listing,
            matcher,
            next(iter(fitting or careless), None),
            fitting or careless,
            lambda entry, _: (
                "stands in an index within the index" if entry.nested else _misfit(entry.platform, matcher)
            ),
        )
        if careless:
            return choice.replace(
                reason=f"nothing is for {wanted}, and then the first entry for any arm is taken"
            )
        return choice


class DockerContainerd(_Matching):
    """Docker with containerd's image store, the default of new installations since Engine 29."""

    id = "docker-containerd"
    title = "Docker, containerd store"
    evidence = (
        "https://github.com/moby/moby/blob/master/daemon/containerd/platform_matchers.go",
        "https://github.com/containerd/platforms/blob/main/compare.go",
    )
    detects_level = True
    strict = True


class Containerd(_Matching):
    """containerd by itself, which is also what most kubelets ask."""

    id = "containerd"
    title = "containerd"
    evidence = (
        "https://github.com/containerd/platforms/blob/main/defaults_unix.go",
        "https://github.com/containerd/containerd/blob/main/core/images/image.go",
    )
    strict = True
    refuses_other = False


class BuildKit(_Matching):
    """``FROM`` in a build: an explicit platform also takes what such a machine would run."""

    id = "buildkit"
    title = "BuildKit"
    evidence = (
        "https://github.com/moby/buildkit/blob/master/util/imageutil/config.go",
        "https://github.com/moby/buildkit/issues/4082",
    )
    refuses_other = False


class Podman(Rule):
    """podman, buildah, skopeo and CRI-O (containers/image): exact words, in an order of their own.

    No 386 on amd64, no arm on arm64, no system versions, no normalising: ``amd64/v1`` is not ``amd64``.
    """

    id = "podman"
    title = "podman, skopeo, CRI-O"
    evidence = (
        "https://github.com/containers/image/blob/main/internal/pkg/platform/platform_matcher.go",
        "https://github.com/containers/image/issues/898",
    )

    def wanted(self, host: Host, platform: Platform | None = None) -> tuple[Platform, ...]:
        """The platforms that it tries, in order."""
        if platform is not None:
            base, variant = platform, platform.variant
        else:
            base = normalise(host.platform)
            # It reads "CPU architecture", which says 8 on every arm64, and knows no levels of amd64.
            variant = {"arm64": "v8", "arm": base.variant}.get(base.architecture, "")
        lists = {"arm": ("v8", "v7", "v6", "v5"), "arm64": ("v8",)}
        known = lists.get(base.architecture, ())
        tried: tuple[str, ...]
        if not variant:
            tried = ("", *known)
        elif variant in known:
            tried = (*known[known.index(variant) :], "")
        else:
            tried = (variant, "")
        return tuple(Platform(base.os, base.architecture, each) for each in tried)

    def choose(self, host: Host, listing: Listing, platform: Platform | None = None) -> Choice:
        wanted = self.wanted(host, platform)
        if listing.single:
            return _single(listing, Only(platform or host.platform), asked=platform, refuses=False)

        def place(entry: Entry) -> int | None:
            is_ = entry.platform
            words = None if is_ is None else Platform(is_.os, is_.architecture, is_.variant)
            return wanted.index(words) if words in wanted else None

        placed = [(at, entry) for entry in listing.images if (at := place(entry)) is not None]
        fitting = [entry for _, entry in sorted(placed, key=lambda pair: pair[0])]
        tried = ", then ".join(map(str, wanted))
        return _chosen(
            listing,
            Ordered(*wanted),
            fitting[0] if fitting else None,
            fitting,
            lambda entry, _: _misword(entry.platform, tried),
            tried,
        )


class Swarm(Rule):
    """Swarm's scheduler filters nodes by the platforms that the client wrote down, then the node's engine pulls.

    The filter knows neither variants nor Go's names: it compares with ``uname -m``. :meth:`placement` is what the
    client writes, :meth:`admits` what the scheduler makes of it.
    """

    id = "swarm"
    title = "Swarm"
    evidence = (
        "https://github.com/moby/swarmkit/blob/master/manager/scheduler/filter.go",
        "https://github.com/moby/swarmkit/issues/2294",
        "https://github.com/moby/moby/blob/master/client/service_create.go",
    )

    def __init__(self, engine: Rule) -> None:
        self.engine = engine

    def placement(self, listing: Listing) -> tuple[tuple[str, str], ...]:
        """``(os, architecture)`` pairs of ``Placement.Platforms``: unknown ones dropped, arm blanked, doubles gone."""
        pairs: dict[tuple[str, str], None] = {}
        for entry in listing.entries:
            platform = (entry.config if listing.single else entry.platform) or Platform("", "")
            if platform.os == "unknown" or platform.architecture == "unknown":
                continue
            if listing.single and not _says_anything(platform):
                continue
            architecture = "" if platform.architecture.lower() == "arm" else platform.architecture
            pairs[platform.os, architecture] = None
        return tuple(pairs)

    def admits(self, host: Host, placement: Sequence[tuple[str, str]]) -> bool:
        """The scheduler's platform filter, to the letter; no platforms, no filter."""
        if not placement:
            return True
        machine = _swarm_name(host.machine)
        return any(
            (not architecture or _swarm_name(architecture) == machine) and (not os or os == host.platform.os)
            for os, architecture in placement
        )

    def choose(self, host: Host, listing: Listing, platform: Platform | None = None) -> Choice:  # noqa: ARG002
        """``platform`` is ignored, as Swarm ignores it."""
        placement = self.placement(listing)
        if self.admits(host, placement):
            choice = self.engine.choose(host, listing)
            if choice.entry is None:
                return choice.replace(
                    reason=f"Swarm sends it there, where {choice.reason}{_blank(placement)}"
                )
            return choice
        inside = self.engine.choose(host, listing)
        shown = ", ".join("/".join(part or "any" for part in pair) for pair in placement)
        reason = (
            f"unsupported platform: Swarm compares {shown} with what the node calls itself, "
            f"{host.platform.os}/{host.machine}"
        )
        if inside.entry is not None:
            reason += f"; its engine would run {inside.entry.known or inside.entry.digest}"
        return Choice(None, reason, [(e, "not asked: the node is filtered out") for e in listing.entries])


class Kubernetes(Rule):
    """The scheduler does not look into images; the kubelet asks its runtime for whatever fits the node."""

    id = "kubernetes"
    title = "Kubernetes"
    evidence = (
        "https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-arch",
        "https://github.com/kubernetes/kubernetes/issues/105321",
    )

    def __init__(self, runtime: Rule | None = None) -> None:
        self.runtime = runtime or Containerd()

    def choose(self, host: Host, listing: Listing, platform: Platform | None = None) -> Choice:  # noqa: ARG002
        """``platform`` is ignored: a pod cannot ask for one."""
        choice = self.runtime.choose(host, listing)
        if choice.entry is None:
            return choice.replace(
                reason=f"Kubernetes may schedule it there, where {choice.reason} (ImagePullBackOff)"
            )
        return choice


ENGINES: dict[str, type[_Matching] | type[DockerOld] | type[Podman]] = {
    rule.id: rule for rule in (DockerClassic, DockerContainerd, DockerOld, Containerd, BuildKit, Podman)
}
"""The rules of engines, by id; Swarm and Kubernetes stand on one of them."""


def rules() -> tuple[Rule, ...]:
    """All of them, as ``resolve --explain`` shows them."""
    engines = tuple(rule() for rule in ENGINES.values())
    return (*engines, Swarm(DockerClassic()), Kubernetes())


def listing_of(*platforms: str | None, single: bool = False) -> Listing:
    """A listing made by hand, for tables and examples; digests count up."""
    entries = []
    for at, text in enumerate(platforms, 1):
        platform = None if text is None else _parse(text)
        kind = "attestation" if platform is not None and platform.is_unknown else "image"
        digest = f"sha256:{at:064x}"
        entries.append(Entry(digest, None, platform) if single else Entry(digest, platform, kind=kind))
    return Listing(f"sha256:{0:064x}", tuple(entries), single)


def machine_of(platform: Platform) -> str:
    """What ``uname -m`` usually says on a machine of a platform."""
    if normalise(platform) == Platform(platform.os, "arm", "v8"):
        return "armv8l"
    return names(platform).uname or platform.architecture


def _parse(text: str) -> Platform:
    if text == "unknown/unknown":
        return Platform("unknown", "unknown")
    return Platform.parse(text)


def _any_arm(entries: Sequence[Entry], wanted: Platform) -> list[Entry]:
    return [
        entry
        for entry in entries
        if entry.platform is not None
        and (entry.platform.os, entry.platform.architecture) == (wanted.os, wanted.architecture)
    ]


def _swarm_name(word: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(word, word)


def _blank(placement: Sequence[tuple[str, str]]) -> str:
    if any(not architecture for _, architecture in placement):
        return (
            "; the list has arm, for which Swarm drops the architecture, so that every node passes its filter"
        )
    return ""


def _says_anything(platform: Platform) -> bool:
    return bool(platform.os or platform.architecture)


def _single(listing: Listing, matcher: Matcher, *, asked: Platform | None, refuses: bool) -> Choice:
    """One image and no list: it is started whatever it is for, unless another platform was asked for by name."""
    entry = listing.entries[0]
    if entry.kind != "image":
        return Choice(None, "not an image: its configuration is of another kind", [(entry, "no image")])
    if entry.config is None or not _says_anything(entry.config):
        return Choice(entry, "the only image there is, and it does not say what it is for")
    if matcher.matches(entry.config):
        return Choice(entry, f"the only image there is, for {entry.config}")
    if asked is not None and refuses:
        why = f"the only image is for {entry.config}, and {asked} was asked for"
        return Choice(None, why, [(entry, f"for {entry.config}")])
    return Choice(
        entry, f"the only image there is: for {entry.config}, and nobody compares that with the machine"
    )


def _chosen(
    listing: Listing,
    matcher: Matcher,
    chosen: Entry | None,
    fitting: Sequence[Entry],
    why_not: Callable[[Entry, Matcher], str],
    wanted: str = "",
) -> Choice:
    wanted = wanted or _in_order(matcher)
    rejected = [(entry, _second(entry, chosen)) for entry in fitting if entry is not chosen]
    for entry in listing.entries:
        if any(entry is other for other in fitting):
            continue
        if entry.kind != "image":
            rejected.append((entry, f"an {entry.kind}, not an image"))
        else:
            rejected.append((entry, why_not(entry, matcher)))
    if chosen is None:
        return Choice(None, f"no entry is for {wanted}; the list has {_has(listing)}", rejected)
    if chosen.known is None:
        return Choice(chosen, "it says no platform, and nothing else fits", rejected)
    return Choice(chosen, _first(chosen, matcher), rejected)


def _has(listing: Listing) -> str:
    shown = [str(platform) for platform in listing.platforms]
    more = f" and {len(shown) - _MOST} more" if len(shown) > _MOST else ""
    return ", ".join(shown[:_MOST]) + more if shown else "no platform at all"


def _first(chosen: Entry, matcher: Matcher) -> str:
    rank = None if chosen.known is None else matcher.rank(chosen.known)
    if not rank:
        return "exactly what was looked for"
    return f"the best there is: number {rank + 1} of what is tried for {matcher.wanted[0]}"


def _second(entry: Entry, chosen: Entry | None) -> str:
    if chosen is None or entry.known is None or chosen.known is None:
        return "fits less well: it says no platform"
    if normalise(entry.known) == normalise(chosen.known):
        return f"the same platform as {chosen.digest[:19]}, which stands before it"
    return f"fits, but {chosen.known} fits better"


def _in_order(matcher: Matcher) -> str:
    """``linux/arm/v7, then v6, v5``; long vectors are cut."""
    shown = [str(platform) for platform in matcher.wanted]
    if len(shown) > 4:
        shown = [*shown[:3], f"… {shown[-1]}"]
    return " or ".join(shown)


def _misfit(platform: Platform | None, matcher: Matcher) -> str:
    """Why a matcher does not take it."""
    if platform is None or not _says_anything(platform):
        return "says no platform"
    given, wanted = normalise(platform), matcher.wanted
    if given.os not in {each.os for each in wanted}:
        return f"for {given.os}, not {wanted[0].os}"
    same = [each for each in wanted if each.architecture == given.architecture]
    if not same:
        return f"for {given.architecture}, not {wanted[0].architecture}"
    if given.variant not in {each.variant for each in same}:
        return _misvariant(given, same, wanted[0])
    if given.os_version and not all(each.os_version == given.os_version for each in same):
        return f"for build {given.os_version}, which {same[0].os_version or 'this system'} does not run"
    missing = sorted(set(given.os_features) - set(same[0].os_features))
    return f"needs {', '.join(missing) or 'features'} of the operating system"


def _misvariant(given: Platform, same: Sequence[Platform], first: Platform) -> str:
    label = (
        f"{given.architecture}/{given.variant}"
        if given.variant
        else f"{given.architecture} without a variant"
    )
    if given.architecture == first.architecture:
        best = f"{first.architecture}/{first.variant}" if first.variant else first.architecture
        return f"for {label}, and {best} was looked for"
    return f"for {label}, which {first} does not run: it runs {', '.join(str(each) for each in same)}"


def _misword(platform: Platform | None, tried: str) -> str:
    if platform is None or not _says_anything(platform):
        return "says no platform, which is never taken"
    return f"for {platform}, and only {tried} is tried, word for word"
