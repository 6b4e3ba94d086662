# SPDX-License-Identifier: Apache-2.0
"""The commands, in the groups of ``manyfest --help``: known without importing any of them.

A test holds every line here against the ``SUMMARY`` of the command's module.
"""

from __future__ import annotations

__all__ = ["COMMANDS", "GROUPS", "module_of"]

GROUPS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Lists: several platforms under one name",
        (
            ("create", "start a list from images (--push: and push it)"),
            ("annotate", "override what a list says about one of its images"),
            ("inspect", "show the platforms behind a name, or its very bytes"),
            ("push", "resolve a list and push it; the last line is its digest"),
            ("rm", "forget drafts of lists"),
            ("ls", "show the drafts of lists"),
            ("add", "add images to a list that is already pushed"),
            ("drop", "take platforms out of a list that is already pushed"),
            ("join", "merge an image into a list, from parallel jobs"),
        ),
    ),
    (
        "Ship: from any place to any place",
        (
            ("copy", "copy an image with all its platforms"),
            ("tags", "list the tags of a repository"),
            ("delete", "delete a tag or a digest, never what a kept list needs"),
            ("prune", "delete old tags and what only they need, never part of what stays"),
            ("login", "store credentials for a registry"),
            ("logout", "remove stored credentials"),
        ),
    ),
    ("Select", (("resolve", "print the pinned name@digest that an engine would pick"),)),
    (
        "Build",
        (
            ("init", "write the files that a project to build starts with"),
            ("build", "build a project for all its platforms, without a daemon"),
            ("lint", "find what in a project's files works on one architecture only"),
        ),
    ),
    (
        "Prove",
        (
            ("verify", "tell whether an image is what it says, and would start"),
            ("compare", "show an image's platforms side by side, and what stands out"),
            ("check", "tell before deploying whether images run on the nodes"),
            ("smoke", "run every platform of an image and compare"),
        ),
    ),
    (
        "Run",
        (
            ("nodes", "show a cluster's nodes by architecture"),
            ("deploy", "run an image as a service on every node of a mixed swarm"),
            ("balance", "put nginx in front of the nodes of a service"),
            ("watch", "show lists, a swarm and who answers in the terminal, live"),
            ("dashboard", "show lists, a swarm and who answers in the browser, live"),
        ),
    ),
    (
        "Emulate: other architectures on this machine",
        (
            ("emulators", "see, install and test what runs other architectures here"),
            ("machine", "make, start and stop machines of other architectures with an engine in them"),
        ),
    ),
    ("Serve", (("registry", "run a small registry on a folder"),)),
    ("Start", (("demo", "the whole way on this machine, nothing else running"),)),
    (
        "About",
        (
            ("completion", "print the completion script of a shell"),
            ("version", "print the version of manyfest and what it runs on"),
            ("help", "show the help of a command"),
        ),
    ),
)

COMMANDS = tuple(name for _, commands in GROUPS for name, _ in commands)


def module_of(command: str) -> str:
    """The name of the module that implements a command."""
    return f"manyfest.cli.commands.{command.replace('-', '_')}"
