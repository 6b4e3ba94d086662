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
    "manyfest init --image ghcr.io/acme/app:1.0 --platform linux/amd64,linux/arm64 --ci github",
)


def configure(parser: CommandParser) -> None:
    """A folder and what it is to become."""
    parser.description = (
        "Write manyfest.yaml, a Dockerfile and a .dockerignore for what is in a folder: a Go module, C files, or files "
        "to serve; with --ci also a pipeline that builds and pushes tags. What is there already is never changed."
    )
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", default=".", help="the project's folder (default: .)"
    )
    parser.add_argument("--image", metavar="NAME", required=True, help="what the image is called")
    parser.add_argument(
        "--kind", choices=("go", "c", "static"), default="", help="what is compiled (default: look and see)"
    )
    parser.add_argument(
        "--platform", metavar="P,P", action="append", help="platforms to build for (default: six of Linux)"
    )
    parser.add_argument("--ci", choices=("github", "gitlab"), default="", help="also write a pipeline")


def run(args: argparse.Namespace, console: Console) -> int:
    """One line for each file."""
    from manyfest.build.starter import PLATFORMS, files, kind_of, write
    from manyfest.cli.places import list_name

    image = list_name(args.image)
    kind = args.kind or kind_of(args.folder)
    wanted = platforms(args.platform) or platforms(PLATFORMS)
    written, kept = write(args.folder, files(kind, image, wanted, args.ci))
    for path in kept:
        console.say(f"{path} is there already and was left as it is")
    console.result(
        {"kind": kind, "image": image, "written": written, "kept": kept},
        "\n".join(f"wrote {path}" for path in written),
    )
    return 0
