# SPDX-License-Identifier: Apache-2.0
"""nginx in a container of the engine, or as a service of the swarm; :mod:`manyfest.deploy.nginx` is the one here.

All have ``name``, ``reload`` and ``wait`` and are context managers. They differ in how they take another configuration:
a container gets the file copied in and nginx reloads it; a service gets a config of the swarm, which never changes,
so that its task is replaced, the new one being started first. Both use the network of their node: a container behind
a bridge of its own does not reach ports that its own node publishes.

What was found running is adopted, and left behind; what is started here goes with its context manager unless it is
to stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import TYPE_CHECKING

from manyfest.deploy.balance import render
from manyfest.deploy.converge import Clock, undo, wait
from manyfest.deploy.nginx import CLOSING_S, settle
from manyfest.deploy.sight import Target, next_generation
from manyfest.errors import DeployError, EngineError, InputError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

    from manyfest.deploy.balance import Front, Upstream
    from manyfest.engines.runner import Runner

__all__ = ["LABEL", "ContainerNginx", "ServiceNginx", "balancer_name", "stop"]

LABEL = "io.manyfest.balance"
"""On containers, services and configs that are balancers: the name of the service behind them."""

FOLDER = "/manyfest"
CONFIG = f"{FOLDER}/nginx.conf"
START_S = 30.0
STOP_S = 10
SERVICE_S = 120.0
SETTLE_S = 4.0
"""Seconds that the task of a service has to run: nginx tries to get a port for 2.5 s before it gives up."""

_POLL_S = 0.1
_NANO = 1_000_000_000
_LONGEST = 63


def balancer_name(service: str) -> str:
    """Of the container or service in front of a service."""
    name = f"{service}-balancer"
    if len(name) <= _LONGEST:
        return name
    return f"{service[:40]}-{hashlib.sha256(service.encode()).hexdigest()[:12]}-balancer"


class ContainerNginx:
    """nginx in a container of the engine that is asked, in that machine's network."""

    def __init__(
        self,
        engine: Runner,
        front: Front,
        image: str,
        found: Sequence[Upstream],
        *,
        auth: str = "",
        keep: bool = False,
    ) -> None:
        """``keep`` leaves it running; ``auth`` is for pulling the image."""
        self.name = balancer_name(front.service)
        self._engine, self._service, self._image = engine, front.service, image
        self._front, self._first = front, found
        self._auth, self._keep = auth, keep
        self._id, self._closing = "", ""
        self._clock = Clock()

    def __enter__(self) -> Self:
        self._engine.pull(self._image, self._auth)
        if self._adopt():
            self._keep = True
            self.reload(self._first)
        else:
            self._start()
        return self

    def reload(self, found: Sequence[Upstream]) -> None:
        """Other nodes, without dropping a request. Raises :class:`DeployError` if nginx refuses it."""
        text, closing = settle(lambda closing: render(self._front, found, closing), FOLDER, self._test)
        if self._closing:
            self._engine.put(self._id, FOLDER, {self._closing: b""})
            self._clock.sleep(CLOSING_S)
        self._engine.put(self._id, FOLDER, {"nginx.conf": text.encode()})
        self._closing = closing
        self._engine.signal(self._id, "HUP")

    def wait(self, seconds: float) -> None:
        """Raises :class:`DeployError` if it has ended, and :class:`EngineError` when nobody can tell."""
        self._clock.sleep(seconds)
        try:
            state = self._engine.container(self._id)["State"]
        except NotFound as error:
            raise DeployError(
                f"the container {self.name} is gone: somebody removed it", hint="start it again"
            ) from error
        if not state.get("Running"):
            raise DeployError(f"nginx in the container {self.name} ended: {self._engine.output(self._id)}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            self._remove()

    def _adopt(self) -> bool:
        """Is it there already, running, and of the same image? Otherwise make room."""
        try:
            found = self._engine.container(self.name)
        except NotFound:
            return False
        _require_ours(self.name, "container", found["Config"].get("Labels"), self._service)
        self._id = found["Id"]
        if found["State"].get("Running") and found["Config"].get("Image") == self._image:
            written = re.search(rb"closing-[0-9a-f]+", self._engine.read(self._id, CONFIG))
            self._closing = written[0].decode() if written else ""
            return True
        self._remove()
        return False

    def _start(self) -> None:
        text, self._closing = settle(
            lambda closing: render(self._front, self._first, closing),
            FOLDER,
            lambda text: test_once(self._engine, self._image, text),
        )
        spec = {**_nginx_spec(self._image), "Labels": {LABEL: self._service}, "StopSignal": "SIGQUIT"}
        self._id = self._engine.create_container(spec, self.name)
        try:
            self._engine.put(self._id, FOLDER, {"nginx.conf": text.encode()})
            self._engine.start(self._id)
            self._until_it_listens()
            self._engine.restart_always(self._id)
        except BaseException:
            with contextlib.suppress(EngineError):  # The first reason is the one to be told.
                self._engine.remove_container(self._id)
            raise

    def _until_it_listens(self) -> None:
        """nginx writes its number to a file once it has its ports."""
        until = self._clock.now() + START_S
        while not self._engine.has(self._id, f"{FOLDER}/nginx.pid"):
            if not self._engine.container(self._id)["State"].get("Running"):
                raise DeployError(
                    f"nginx did not start in a container: {self._engine.output(self._id)}",
                    hint="is the port free? choose another with --listen",
                )
            if self._clock.now() > until:
                raise DeployError(f"nginx in a container is not ready after {START_S:g} s")
            self._clock.sleep(_POLL_S)

    def _test(self, text: str) -> str:
        """In the very container that is to take it."""
        self._engine.put(self._id, FOLDER, {"nginx.conf.new": text.encode()})
        code, said = self._engine.execute(self._id, "nginx", "-t", "-q", "-c", f"{CONFIG}.new")
        return said or f"exit code {code}" if code else ""

    def _remove(self) -> None:
        _stop_container(self._engine, self._id)


class ServiceNginx:
    """nginx as a service of the swarm, on one of the nodes that the constraints leave."""

    def __init__(
        self,
        engine: Runner,
        front: Front,
        image: str,
        found: Sequence[Upstream],
        *,
        constraints: Sequence[str],
        auth: str = "",
        keep: bool = False,
        on_change: Callable[[str, str, str], None] | None = None,
    ) -> None:
        """``keep`` leaves it running; ``on_change`` hears of its task as in :func:`manyfest.deploy.converge.wait`."""
        self.name = balancer_name(front.service)
        self._engine, self._service, self._image = engine, front.service, image
        self._front, self._first = front, found
        self._constraints, self._auth, self._keep = tuple(constraints), auth, keep
        self._on_change = on_change
        self._clock = Clock()

    def __enter__(self) -> Self:
        self._engine.pull(self._image, self._auth)
        there = _service(self._engine, self.name)
        if there is not None:
            _require_ours(self.name, "service", there["Spec"].get("Labels"), self._service)
            self._keep = True
            self._set(there, self._first)
            return self
        try:
            self._set(None, self._first)
        except BaseException:
            stop(self._engine, self._service)
            raise
        return self

    def reload(self, found: Sequence[Upstream]) -> None:
        """Replace its task by one that knows other nodes. Raises :class:`DeployError`; then all is as before."""
        self._set(self._found(), found)

    def wait(self, seconds: float) -> None:
        """Raises :class:`DeployError` if it is gone. Swarm starts what ended."""
        self._clock.sleep(seconds)
        self._found()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            stop(self._engine, self._service)

    def _found(self) -> dict[str, Any]:
        found = _service(self._engine, self.name)
        if found is None:
            raise DeployError(f"the service {self.name} is gone: somebody removed it", hint="start it again")
        return found

    def _set(self, before: Mapping[str, Any] | None, found: Sequence[Upstream]) -> None:
        text, _ = settle(
            lambda _: _shared(render(self._front, found)),
            FOLDER,
            lambda text: test_once(self._engine, self._image, text),
        )
        old = None if before is None else before["Spec"]
        spec = self._spec(self._config(text), before)
        if before is None:
            service = self._engine.create_service(spec, self._auth)
        elif _same(spec, before["Spec"]):
            return
        else:
            service = str(before["ID"])
            self._engine.update_service(before, spec, self._auth)
        target = Target.of(service, spec, ())
        outcome = wait(
            self._engine, target, timeout_s=SERVICE_S, settle_s=SETTLE_S, on_change=self._on_change
        )  # fmt: skip
        if not outcome.ok:
            self._go_back(service, old)
            reasons = "; ".join(f"{each.node}: {each.output or each.error}" for each in outcome.failures)
            raise DeployError(
                f"nginx as the service {self.name}: {outcome.reason}{f': {reasons}' if reasons else ''}",
                hint="is the port free on that node? choose another with --listen, or a node with --constraint",
            )
        self._forget_configs(spec, old)

    def _go_back(self, service: str, old: Mapping[str, Any] | None) -> None:
        if old is not None:
            undo(self._engine, service, old, Target.of(service, old, ()), timeout_s=SERVICE_S)

    def _config(self, text: str) -> Mapping[str, Any]:
        """The swarm's config with that text: where it is in a service."""
        name = f"{self.name[: _LONGEST - 13]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        known = {each["Spec"]["Name"]: each["ID"] for each in _configs(self._engine, self._service)}
        made = known.get(name) or self._engine.create_config(name, text.encode(), {LABEL: self._service})
        file = {"Name": CONFIG, "UID": "0", "GID": "0", "Mode": 0o444}
        return {"File": file, "ConfigID": made, "ConfigName": name}

    def _spec(self, config: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
        container = {
            "Image": self._image,
            "Command": ["nginx"],
            "Args": ["-c", CONFIG],
            "User": "0",
            "StopSignal": "SIGQUIT",
            "StopGracePeriod": STOP_S * _NANO,
            "Configs": [dict(config)],
        }
        return {
            "Name": self.name,
            "Labels": {LABEL: self._service},
            "Mode": {"Replicated": {"Replicas": 1}},
            "TaskTemplate": {
                "ContainerSpec": container,
                "Networks": [{"Target": "host"}],
                "Placement": {"Constraints": list(self._constraints)},
                "RestartPolicy": {"Condition": "any", "Delay": _NANO},
                "ForceUpdate": 0 if before is None else next_generation(before),
            },
            "UpdateConfig": {"Parallelism": 1, "Order": "start-first", "FailureAction": "pause"},
        }

    def _forget_configs(self, *specs: Mapping[str, Any] | None) -> None:
        """All but this one and the one before it, to which Swarm can go back."""
        used = {_config_of(spec) for spec in specs if spec is not None}
        for each in _configs(self._engine, self._service):
            if each["ID"] not in used:
                self._engine.remove_config(each["ID"])


def test_once(engine: Runner, image: str, text: str) -> str:
    """``nginx -t`` in a container that goes again; empty, or what it says against the configuration."""
    spec = {**_nginx_spec(image), "Cmd": ["-t", "-q", "-c", CONFIG]}
    code, said = engine.run_to_end(spec, FOLDER, {"nginx.conf": text.encode()})
    return said or f"exit code {code}" if code else ""


def stop(engine: Runner, service: str) -> list[str]:
    """End every balancer in front of a service: let its requests end, and remove it; what there was, by name.

    Raises :class:`InputError` for somebody else's container or service of that name.
    """
    name, ended = balancer_name(service), []
    try:
        found = engine.container(name)
    except NotFound:
        pass
    else:
        _require_ours(name, "container", found["Config"].get("Labels"), service)
        _stop_container(engine, found["Id"])
        ended.append(f"container {name}")
    there = _service(engine, name)
    if there is not None:
        _require_ours(name, "service", there["Spec"].get("Labels"), service)
        engine.remove_service(there["ID"])
        _until_gone(engine, there["ID"])
        ended.append(f"service {name}")
    for each in _configs(engine, service):
        engine.remove_config(each["ID"])
    return ended


def _stop_container(engine: Runner, container: str) -> None:
    try:
        engine.stop_container(container, STOP_S)
    except NotFound:
        return
    engine.remove_container(container)


def _until_gone(engine: Runner, service: str) -> None:
    """Its tasks have :data:`STOP_S`, and Swarm a moment to see that they ended."""
    clock = Clock()
    until = clock.now() + 2 * STOP_S
    while clock.now() < until and any(
        task.get("ServiceID") == service and task["Status"].get("State") == "running"
        for task in engine.tasks()
    ):
        clock.sleep(_POLL_S)


def _nginx_spec(image: str) -> dict[str, Any]:
    host = {"NetworkMode": "host", "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}}
    return {"Image": image, "Entrypoint": ["nginx"], "Cmd": ["-c", CONFIG], "User": "0", "HostConfig": host}


def _shared(blocks: str) -> str:
    """Two tasks, the old and the new, listen at the same port while one replaces the other."""
    lines = blocks.splitlines()
    return "\n".join(f"{line[:-1]} reuseport;" if line.startswith("    listen ") else line for line in lines)


def _service(engine: Runner, name: str) -> dict[str, Any] | None:
    try:
        found = engine.service(name)
    except NotFound:
        return None
    return found if found["Spec"]["Name"] == name else None


def _configs(engine: Runner, service: str) -> list[dict[str, Any]]:
    return engine.configs(f"{LABEL}={service}")


def _config_of(spec: Mapping[str, Any]) -> str:
    return str(spec["TaskTemplate"]["ContainerSpec"]["Configs"][0]["ConfigID"])


def _same(spec: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Does nothing that matters change?"""
    one, other = spec["TaskTemplate"], before["TaskTemplate"]
    return bool(
        _config_of(spec) == _config_of(before)
        and one["ContainerSpec"]["Image"] == other["ContainerSpec"]["Image"]
        and one["Placement"]["Constraints"] == (other.get("Placement") or {}).get("Constraints", [])
    )


def _target(service: str, spec: Mapping[str, Any]) -> Target:
    return Target(service, int(spec["TaskTemplate"].get("ForceUpdate") or 0), replicas=1)


def _require_ours(name: str, kind: str, labels: Mapping[str, str] | None, service: str) -> None:
    if (labels or {}).get(LABEL) != service:
        raise InputError(
            f"there is a {kind} {name} that is no balancer of {service}",
            hint=f"rename or remove it: docker {kind} rm {name}",
        )
