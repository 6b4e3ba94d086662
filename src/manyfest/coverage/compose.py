# SPDX-License-Identifier: Apache-2.0
"""Images of Compose files and Swarm stacks, which are the same language read by different programs.

https://github.com/compose-spec/compose-spec: ``extends``, ``include``, ``profiles``, variables from the environment and
``.env``, ``build`` sections, and what ``deploy.placement`` already restricts.
"""

from __future__ import annotations

import os

from manyfest.coverage.interpolate import interpolate, read_env
from manyfest.coverage.marked import Marked, load, read_file
from manyfest.coverage.placement import SwarmConstraint
from manyfest.coverage.use import Use
from manyfest.errors import InvalidPlatform, InvalidSpec
from manyfest.platforms import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Compose", "variables_beside"]

_DEEPEST = 16
"""Files that extend and include each other; more is a loop."""


def variables_beside(path: str, environment: Mapping[str, str], files: Sequence[str] = ()) -> dict[str, str]:
    """What a Compose file's variables stand for: ``.env`` beside it (or ``files``), and over it the environment."""
    found: dict[str, str] = {}
    beside = os.path.join(os.path.dirname(path), ".env")
    for each in files or ([beside] if os.path.isfile(beside) else []):
        try:
            found.update(read_env(read_file(each).decode("utf-8", "replace")))
        except InvalidSpec as error:
            raise InvalidSpec(f"{each}: {error}") from error
    return {**found, **environment}


class Compose:
    """Reads files with the same variables and profiles. ``warnings`` collects what went on with a guess."""

    def __init__(self, variables: Mapping[str, str], profiles: Sequence[str] = ()) -> None:
        self.variables = variables
        self.profiles = frozenset(profiles)
        self.warnings: list[str] = []
        self._unset: set[str] = set()

    def uses(self, root: Marked, depth: int = 0) -> list[Use]:
        """The images of every service that the profiles enable, in order. Raises :class:`InvalidSpec`."""
        if depth > _DEEPEST:
            raise InvalidSpec(f"{root.file}: files that include each other, {_DEEPEST} deep")
        found: list[Use] = []
        for path in self._included(root):
            found += self.uses(self._load(path), depth + 1)
        for name, service in root["services"].mapping("a mapping of services").items():
            service.mapping("a service: a mapping")
            use = self._use(root, name, service)
            if use is not None:
                found.append(use)
        return found

    def _included(self, root: Marked) -> list[str]:
        paths: list[str] = []
        for item in root["include"].items("a list of files"):
            listed = item["path"] if isinstance(item.value, dict) else item
            paths += [self._beside(root, self._text_of(item, text)) for text in listed.texts("paths")]
        return paths

    def _use(self, root: Marked, name: str, service: Marked) -> Use | None:
        chain = self._chain(root, name, service)
        profiles = {text for part in chain[:1] for text in part["profiles"].texts("a list of profiles")}
        if profiles and not (profiles & self.profiles or "*" in self.profiles):
            self.warnings.append(
                f"{service.where}: service {name} is left out: its profile {', '.join(sorted(profiles))} is off"
            )
            return None
        image, build = _first(chain, "image"), _first(chain, "build")
        text = self._text(image)
        notes = []
        if build.is_there:
            notes.append("built by its build section, which is not checked here")
        if not image.is_there and not build.is_there:
            raise InvalidSpec(f"{service.where}: service {name} has neither image nor build")
        if not image.is_there:
            return Use(
                "",
                "compose",
                f"service {name}",
                build.where,
                notes=notes,
                built=True,
                problem="its build section makes it",
            )
        platform = self._platform(_first(chain, "platform"))
        deploy = _first(chain, "deploy")
        return Use(
            text,
            "compose",
            f"service {name}",
            image.where,
            platform,
            self._constraints(deploy),
            notes,
            self._text(deploy["mode"]) in ("global", "global-job"),
            built=build.is_there,
            problem="" if text else "the image's name is empty once its variables are filled in",
        )

    def _chain(self, root: Marked, name: str, service: Marked) -> list[Marked]:
        """The service and those it extends, itself first."""
        chain = [service]
        seen = {(root.file, name)}
        while (extends := chain[-1]["extends"]).is_there:
            if isinstance(extends.value, dict):
                base_name, file = self._text(extends["service"]), self._text(extends["file"])
            else:
                base_name, file = self._text(extends), ""
            root = self._load(self._beside(root, file)) if file else root
            if (root.file, base_name) in seen:
                raise InvalidSpec(f"{extends.where}: service {name} extends itself")
            seen.add((root.file, base_name))
            base = root["services"][base_name]
            if not base.is_there:
                raise InvalidSpec(f"{extends.where}: no service {base_name!r} in {root.file} to extend")
            chain.append(base)
        return chain

    def _constraints(self, deploy: Marked) -> list[SwarmConstraint]:
        found = []
        for item in deploy["placement"]["constraints"].items("a list of constraints"):
            try:
                found.append(SwarmConstraint.parse(self._text(item)))
            except InvalidSpec as error:
                raise InvalidSpec(f"{item.where}: {error}") from error
        return found

    def _platform(self, item: Marked) -> Platform | None:
        text = self._text(item)
        if not text:
            return None
        try:
            return Platform.parse(text)
        except InvalidPlatform as error:
            raise InvalidSpec(f"{item.where}: {error}", hint=error.hint) from error

    def _text(self, item: Marked) -> str:
        return self._text_of(item, item.text("text"))

    def _text_of(self, item: Marked, text: str) -> str:
        def unset(name: str) -> None:
            if name not in self._unset:
                self._unset.add(name)
                self.warnings.append(f"{item.where}: the variable {name} is not set; it is taken as empty")

        try:
            return interpolate(text, self.variables, unset)
        except InvalidSpec as error:
            raise InvalidSpec(f"{item.where}: {error}", hint=error.hint) from error

    def _load(self, path: str) -> Marked:
        documents = load(read_file(path), path)
        if len(documents) != 1:
            raise InvalidSpec(f"{path}: {len(documents)} documents, expected one Compose file")
        return documents[0]

    def _beside(self, root: Marked, path: str) -> str:
        return os.path.join(os.path.dirname(root.file), path)


def _first(chain: Sequence[Marked], key: str) -> Marked:
    """A key of the service, else of what it extends."""
    return next((part[key] for part in chain if part[key].is_there), chain[0][key])
