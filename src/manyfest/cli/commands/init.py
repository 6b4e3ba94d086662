# SPDX-License-Identifier: Apache-2.0
"""``manyfest init``."""

from __future__ import annotations

from manyfest.cli.arguments import platforms

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "write the files that a project to build starts with"
EXAMPLES = (
    "manyfest init --image ghcr.io/acme/app:1.0",
    "manyfest init --image ghcr.io/acme/app:1.0 --dry-run",
    "manyfest init --image ghcr.io/acme/app:1.0 --platform linux/amd64,linux/arm64 --ci github --makefile",
)
_KINDS = ("go", "rust", "cmake", "c", "cpp", "java", "maven", "python", "static")


def configure(parser: CommandParser) -> None:
    """A folder and what it is to become."""
    parser.description = (
        "Write manyfest.yaml, a Dockerfile and a .dockerignore for what is in a folder: a Go module, a Rust package, a "
        "CMake or Maven project, C, C++, Java or Python, or files to serve; with --ci also a pipeline that builds and "
        "pushes tags, and with --makefile a Makefile. What is there already is left as it is."
    )
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", default=".", help="the project's folder (default: .)"
    )
    parser.add_argument("--image", metavar="NAME", required=True, help="what the image is called")
    parser.add_argument("--kind", choices=_KINDS, default="", help="what is built (default: look and see)")
    parser.add_argument(
        "--platform",
        metavar="P,P",
        action="append",
        help="platforms to build for (default: those that it can do)",
    )
    parser.add_argument(
        "--libc", choices=("musl", "gnu"), default="musl",
        help="of c, cpp, rust and cmake: static programs (default), or ones that need a base with a glibc",
    )  # fmt: skip
    parser.add_argument("--ci", choices=("github", "gitlab"), default="", help="also write a pipeline")
    parser.add_argument(
        "--per-arch",
        action="store_true",
        help="a Dockerfile for each architecture (Dockerfile.arm64) in place of one",
    )
    parser.add_argument("--makefile", action="store_true", help="also write a Makefile")
    parser.add_argument("--dry-run", action="store_true", help="show the files, and write none")
    parser.add_argument("--force", action="store_true", help="write over files that are there")


def run(args: argparse.Namespace, console: Console) -> int:
    """One line for each file."""
    from manyfest.build.starter import files, kind_of, write
    from manyfest.cli.places import list_name

    image = list_name(args.image)
    kind = args.kind or kind_of(args.folder)
    wanted = platforms(args.platform)
    made = files(
        args.folder,
        kind,
        image,
        wanted,
        ci=args.ci,
        libc=args.libc,
        makefile=args.makefile,
        per_arch=args.per_arch,
    )
    told: dict[str, object] = {"kind": kind, "image": image, "dry_run": args.dry_run}
    if args.dry_run:
        shown = "\n".join(f"--- {path}\n{text}" for path, text in made.items()).rstrip("\n")
        console.result({**told, "written": [], "kept": [], "files": made}, shown)
        return 0
    written, kept = write(args.folder, made, force=args.force)
    for path in kept:
        console.say(f"{path} is there already and was left as it is; --force writes over it")
    console.result(
        {**told, "written": written, "kept": kept, "files": {}},
        "\n".join(f"wrote {path}" for path in written),
    )
    return 0
