# SPDX-License-Identifier: Apache-2.0
"""``manyfest build``."""

from __future__ import annotations

import os

from manyfest.cli.arguments import add_gate, platforms, split
from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from manyfest.build.attest import Attest
    from manyfest.build.built import Built
    from manyfest.build.engines import Engines
    from manyfest.build.git import Revision
    from manyfest.build.plan import Options
    from manyfest.build.project import Project
    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.cli.places import Places
    from manyfest.cli.progress import Transfer
    from manyfest.platforms import Platform

SUMMARY = "build a project for all its platforms, without a daemon"
EXAMPLES = (
    "manyfest build -t ghcr.io/acme/app:1.2 --platform linux/amd64,linux/arm64,linux/arm/v7",
    "manyfest build examples/hello-go -t oci:out:1",
    "manyfest build -t ghcr.io/acme/app:1.2 --provenance --sbom",
    "manyfest build --dry-run",
)


def configure(parser: CommandParser) -> None:
    """docker build's options where there are such."""
    parser.description = (
        "Compile for every platform, carry out the Dockerfile for each, and push one index. Where a Dockerfile has no "
        "RUN no daemon is needed, and the same files give the same digests. Where it has one, an engine builds that "
        "platform: the node named for it, or docker, podman or buildah here, natively or emulated. A Dockerfile.build "
        "is built first, once, and what it leaves in /out can be copied. What the target has is not sent again. Name, "
        "platforms and compile step may stand in manyfest.yaml."
    )
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", default=".", help="the project's folder (default: .)"
    )
    parser.add_argument(
        "-t", "--target-name", metavar="NAME", action="append", dest="names",
        help="where to push: a name in a registry or any place; may be repeated (default: image: of manyfest.yaml)",
    )  # fmt: skip
    parser.add_argument("--tag", metavar="TAG", action="append", help="one more tag there; may be repeated")
    parser.add_argument(
        "--platform", metavar="P,P", action="append", help="platforms to build for (default: the project's)"
    )
    parser.add_argument("-f", "--file", metavar="FILE", default="", help="the Dockerfile, for all platforms")
    parser.add_argument(
        "--build-arg", metavar="NAME=VALUE", action="append",
        help="the value of an ARG; NAME alone takes the environment's",
    )  # fmt: skip
    parser.add_argument(
        "--target", metavar="STAGE", default="", help="the stage to build (default: the last)"
    )
    parser.add_argument("--label", metavar="KEY=VALUE", action="append", help="a label; may be repeated")
    parser.add_argument(
        "--annotation", metavar="KEY=VALUE", action="append", help="an annotation on images and index"
    )
    parser.add_argument(
        "--git", action="store_true", help="label and annotate with commit, version and origin from git"
    )
    parser.add_argument(
        "--provenance", metavar="HOW", nargs="?", const="true", default="",
        help="attest how each image was built: true, mode=min (without values), builder-id=URI, or false",
    )  # fmt: skip
    parser.add_argument(
        "--sbom", metavar="YES", nargs="?", const="true", default="",
        help="attest which packages and files each image holds: true or false",
    )  # fmt: skip
    parser.add_argument(
        "--type", choices=("oci", "docker"), default="", help="format to write (default: oci)"
    )
    parser.add_argument(
        "--compression",
        choices=("gzip", "zstd", "none"),
        default="gzip",
        help="of new layers (default: gzip)",
    )
    parser.add_argument(
        "--expect",
        metavar="P,P",
        action="append",
        help="refuse to build and push without these platforms either; adds to those of the project",
    )
    parser.add_argument(
        "--allow-shrink", action="store_true", help="the tag may lose platforms that it has now"
    )
    add_gate(parser)
    _configure_engines(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would be done for each platform")
    parser.add_argument("--no-cache", action="store_true", help="use nothing of earlier builds")
    parser.add_argument(
        "-j", "--jobs", metavar="N", type=int, default=0, help="at most so many at once (default: CPUs)"
    )


def _configure_engines(parser: CommandParser) -> None:
    """For what has a RUN."""
    parser.add_argument(
        "--engine", choices=("docker", "podman", "buildah"), default="",
        help="who builds what has a RUN (default: the first that answers)",
    )  # fmt: skip
    parser.add_argument(
        "--node", metavar="P=WHERE", action="append",
        help="build platform P, if it has a RUN, on the engine at WHERE: ssh://…, tcp://…, unix://…, a Docker "
        "context, or machine:NAME (manyfest machine); may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--network", metavar="NAME", default="", help="what RUN may reach, as the engine names it: none, host"
    )
    parser.add_argument(
        "--keep-going", action="store_true",
        help="finish the other platforms when one fails; nothing is pushed, and the next build does only the rest",
    )  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    """The digest of the index is the last line."""
    from manyfest.build.cache import Cache
    from manyfest.build.plan import build, plan
    from manyfest.build.project import load
    from manyfest.cli.buildplan import tell_plan
    from manyfest.cli.buildprogress import Working
    from manyfest.cli.buildtargets import check_targets
    from manyfest.cli.host import host_platform
    from manyfest.cli.places import Places

    project = load(args.folder, args.file)
    options = _options(args, project)
    names = args.names or ([project.spec.image] if project.spec is not None else [])
    if not names and not args.dry_run:
        raise InputError("where to push to?", hint="-t NAME, or image: in manyfest.yaml; oci:DIR is a folder")
    more = [*split(args.tag), *(project.spec.tags if project.spec is not None and not args.names else ())]
    check_targets(names, more, len(options.platforms))
    cache = Cache(fresh=args.no_cache)
    host = host_platform()
    engines = _engines(args, project, console)
    with Places(args, console) as places:
        if args.dry_run:
            return tell_plan(console, plan(project, options, host, places.source, cache, engines))
        with Working(console) as working:
            cache.on_bytes = working.on_bytes
            built = build(
                project,
                options,
                host,
                places.source,
                cache,
                engines=engines,
                on_step=working.detail,
                on_warning=working.warn,
            )
        _verify(args, console, project, built, names[0])
        _push(args, console, built, names, more, places, options.expect)
    cache.prune()
    return 0


def _engines(args: argparse.Namespace, project: Project, console: Console) -> Engines:
    """For what has a RUN; nothing is asked or started before it is needed."""
    from manyfest.build.engines import Engines
    from manyfest.emulate.binfmt import Binfmt
    from manyfest.emulate.doctor import examine

    nodes = dict(project.nodes)
    for text in args.node or ():
        platform, equals, where = text.partition("=")
        if not equals or not where:
            raise InputError(f"--node {text}: expected PLATFORM=WHERE, such as linux/arm64=ssh://user@host")
        nodes = {**nodes, **dict.fromkeys(platforms([platform]), where)}
    return Engines(
        lambda: examine(Binfmt()),
        engine=args.engine,
        nodes=nodes,
        keep_going=args.keep_going,
        network=args.network,
        dry=args.dry_run,
        on_step=console.say,
    )


def _verify(args: argparse.Namespace, console: Console, project: Project, built: Built, name: str) -> None:
    """``--verify``, or ``verify:`` of the project: look inside before anything is sent."""
    from manyfest.cli.publishing import gate_of
    from manyfest.indexes.spec import Spec

    spec = project.spec if project.spec is not None else Spec(name)
    gate = gate_of(spec.replace(image=name, verify=args.verify or spec.verify), console)
    if gate is not None:
        gate(built, built.index)


def _push(
    args: argparse.Namespace,
    console: Console,
    built: Built,
    names: list[str],
    more: list[str],
    places: Places,
    expect: tuple[Platform, ...],
) -> None:
    from manyfest.build.built import push
    from manyfest.cli.progress import Transfer
    from manyfest.stores.places import Place

    digest = ""
    told = []
    for text in names:
        target, tag = places.store(text)
        is_index = Place.parse(text).holds_index
        if built.attestations and not is_index:
            console.warn(f"{text}: holds no index, and so no attestations")
        with Transfer(console) as transfer:
            root = push(
                built,
                target,
                list(dict.fromkeys((tag, *more))),
                index=is_index,
                expect=expect,
                allow_shrink=args.allow_shrink,
                on_event=transfer.on_event,
                on_plan=transfer.on_plan,
            )
        console.say(f"{text}: {transfer.summary()}")
        digest = str(root.digest)
        told.append(
            {"name": text, "digest": digest, "tags": [t for t in (tag, *more) if t], **_sent(transfer)}
        )
    if console.json:
        console.document(_to_json(built, told))
        return
    from manyfest.cli.render import table

    console.print(
        table(("PLATFORM", "DIGEST", "LAYERS"), [
            (str(platform), str(document.digest), str(len(document.manifest.layers)))
            for platform, document in built.platforms
        ], right=(2,))
    )  # fmt: skip
    console.print(digest)


def _options(args: argparse.Namespace, project: Project) -> Options:
    from manyfest.build.git import revision_of
    from manyfest.build.plan import Options, source_date_epoch
    from manyfest.cli.host import host_platform

    wanted = platforms(args.platform) or project.platforms or (host_platform(),)
    spec = project.spec
    annotations = dict(spec.annotations) if spec is not None else {}
    labels = _pairs(args.label, "--label")
    attest = _attest(args, project)
    revision = revision_of(args.folder) if args.git or attest.provenance else None
    if args.git and revision is None:
        raise InputError(f"--git: {args.folder} is in no git repository with a commit, or git is missing")
    if args.git and revision is not None:
        found = _of_git(revision)
        labels = {**found, **labels}
        annotations = {**annotations, **found}
    annotations.update(_pairs(args.annotation, "--annotation"))
    kind = args.type or (spec.type if spec is not None else "") or "oci"
    if kind == "docker" and args.git:
        annotations = {}
    return Options(
        tuple(wanted),
        annotations=tuple(annotations.items()),
        args=tuple(_build_args(args.build_arg)),
        attest=attest,
        compression=args.compression,
        epoch=source_date_epoch(os.environ),
        expect=tuple(dict.fromkeys((*platforms(args.expect), *(spec.expect if spec is not None else ())))),
        jobs=args.jobs,
        labels=tuple(labels.items()),
        revision=revision,
        target=args.target,
        type=kind,
    )


def _pairs(values: Iterable[str] | None, option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in values or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InputError(f"{option} {text}: expected KEY=VALUE")
        found[key] = value
    return found


def _build_args(values: Iterable[str] | None) -> list[tuple[str, str]]:
    found = []
    for text in values or ():
        name, equals, value = text.partition("=")
        if not name:
            raise InputError(f"--build-arg {text}: expected NAME=VALUE or NAME")
        if equals:
            found.append((name, value))
        elif name in os.environ:
            found.append((name, os.environ[name]))
    return found


def _of_git(revision: Revision) -> dict[str, str]:
    """Under https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md's names."""
    found = {
        "org.opencontainers.image.revision": revision.commit,
        "org.opencontainers.image.version": revision.name,
        "org.opencontainers.image.source": revision.origin,
    }
    return {key: value for key, value in found.items() if value}


def _attest(args: argparse.Namespace, project: Project) -> Attest:
    """The options, and what the project says where they say nothing."""
    from manyfest.build.attest import Attest

    asked = Attest.parse(args.provenance or "", args.sbom or "")
    known = project.attest
    return Attest(
        asked.provenance if args.provenance else known.provenance,
        sbom=asked.sbom if args.sbom else known.sbom,
        builder_id=asked.builder_id or known.builder_id,
    )


def _sent(transfer: Transfer) -> dict[str, object]:
    return {"transfer": transfer.to_json()}


def _to_json(built: Built, told: list[dict[str, object]]) -> dict[str, object]:
    return {
        "digest": str(built.index.digest),
        "media_type": built.index.media_type,
        "platforms": [
            {
                "platform": str(platform),
                "digest": str(document.digest),
                "size": document.size,
                "layers": [str(layer.digest) for layer in document.manifest.layers],
                "attestations": [
                    {"digest": str(entry.digest), "predicates": [each.predicate_type for each in statements]}
                    for entry, statements in built.attestations
                    if entry.attests == str(document.digest)
                ],
            }
            for platform, document in built.platforms
        ],
        "layers_made": built.layers_made,
        "layers_reused": built.layers_reused,
        "compressor": built.compressor or None,
        "pushed": told,
    }
