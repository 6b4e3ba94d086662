# SPDX-License-Identifier: Apache-2.0
"""What the containers of a service are: the Engine API's ContainerSpec, of the keys outside ``deploy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.deploy.stack.environment import environment_of
from manyfest.deploy.stack.mounts import mounts_of
from manyfest.deploy.stack.parts import NAMESPACE, refuse_unknown
from manyfest.errors import InvalidSpec
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from manyfest.coverage.marked import Marked
    from manyfest.deploy.stack.parts import Parts
    from manyfest.deploy.stack.scalars import Scalars

__all__ = ["Surroundings", "container_spec", "kept"]

_HEALTH = ("test", "interval", "timeout", "retries", "start_period", "disable")


class Surroundings(Value):
    """What a service may refer to: the stack's name, its folder, networks, volumes, secrets and configs."""

    __slots__ = ("configs", "folder", "networks", "secrets", "stack", "volumes")
    stack: str
    folder: str
    networks: Parts
    volumes: dict[str, dict[str, Any]]
    secrets: Parts
    configs: Parts

    def __init__(
        self,
        stack: str,
        folder: str,
        networks: Parts,
        volumes: dict[str, dict[str, Any]],
        secrets: Parts,
        configs: Parts,
    ) -> None:
        self._set(
            stack=stack, folder=folder, networks=networks, volumes=volumes, secrets=secrets, configs=configs
        )


def kept(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty; zero is something, such as a period of no seconds."""
    return {
        key: value
        for key, value in fields.items()
        if value is not None and value is not False and value not in ("", [], {})
    }


def container_spec(item: Marked, scalars: Scalars, around: Surroundings, image: str) -> dict[str, Any]:
    """Raises :class:`InvalidSpec` with line and column."""

    def volume_of(place: Marked, source: str) -> Mapping[str, Any]:
        if source not in around.volumes:
            raise InvalidSpec(
                f"{place.where}: {place.path}: no volume {source!r} in this file",
                hint=f"add it under volumes:, or write ./{source} for a folder",
            )
        return around.volumes[source]

    add, drop = _capabilities(scalars.texts(item["cap_add"]), scalars.texts(item["cap_drop"]))
    servers, search = scalars.texts(item["dns"]), scalars.texts(item["dns_search"])
    return kept(
        {
            "Image": image,
            "Command": scalars.words(item["entrypoint"]),
            "Args": scalars.words(item["command"]),
            "Hostname": scalars.text(item["hostname"]),
            "Hosts": _hosts(item["extra_hosts"], scalars),
            "DNSConfig": kept({"Nameservers": servers, "Search": search}),
            "Healthcheck": _health(item["healthcheck"], scalars),
            "Env": environment_of(item, scalars, around.folder),
            "Labels": {**scalars.labels(item["labels"]), NAMESPACE: around.stack},
            "Dir": scalars.text(item["working_dir"]),
            "User": scalars.text(item["user"]),
            "Mounts": mounts_of(item["volumes"], scalars, around.folder, volume_of),
            "StopGracePeriod": scalars.duration(item["stop_grace_period"]),
            "StopSignal": scalars.text(item["stop_signal"]),
            "TTY": scalars.boolean(item["tty"]),
            "OpenStdin": scalars.boolean(item["stdin_open"]),
            "Secrets": _files(item["secrets"], scalars, around.secrets, "Secret"),
            "Configs": _files(item["configs"], scalars, around.configs, "Config"),
            "ReadOnly": scalars.boolean(item["read_only"]),
            "Privileges": _credentials(item["credential_spec"], scalars),
            "Isolation": scalars.text(item["isolation"]),
            "Sysctls": {key: value or "" for key, value in scalars.pairs(item["sysctls"]).items()},
            "CapabilityAdd": add,
            "CapabilityDrop": drop,
            "Ulimits": _ulimits(item["ulimits"], scalars),
        }
    ) | _said("Init", scalars.boolean(item["init"]))


def _said(key: str, value: bool | None) -> dict[str, bool]:
    """False is something else than nothing."""
    return {} if value is None else {key: value}


def _hosts(item: Marked, scalars: Scalars) -> list[str]:
    """Swarm has the address first, as /etc/hosts does."""
    if isinstance(item.value, dict):
        pairs = sorted((name, scalars.text(each, "an address")) for name, each in item.value.items())
    else:
        texts = [scalars.text(each, "NAME:ADDRESS") for each in item.items("a list of NAME:ADDRESS")]
        pairs = [(name, address) for name, _, address in (text.partition(":") for text in texts)]
    for name, address in pairs:
        if not name or not address:
            item.refuse("NAME:ADDRESS")
    return [f"{address} {name}" for name, address in pairs]


def _health(item: Marked, scalars: Scalars) -> dict[str, Any]:
    refuse_unknown(item, _HEALTH)
    test = (
        [scalars.text(each) for each in item["test"].value] if isinstance(item["test"].value, list) else None
    )
    if test is None and (text := scalars.text(item["test"])):
        test = ["CMD-SHELL", text]
    if scalars.boolean(item["disable"]):
        if test:
            raise InvalidSpec(f"{item['disable'].where}: disable and test do not go together")
        return {"Test": ["NONE"]}
    return kept(
        {
            "Test": test,
            "Interval": scalars.duration(item["interval"]),
            "Timeout": scalars.duration(item["timeout"]),
            "Retries": scalars.number(item["retries"]),
            "StartPeriod": scalars.duration(item["start_period"]),
        }
    )


def _files(item: Marked, scalars: Scalars, known: Parts, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for each in item.items(f"a list of {kind.lower()}s"):
        if isinstance(each.value, dict):
            refuse_unknown(each, ("source", "target", "uid", "gid", "mode"))
        source = scalars.text(each["source"] if isinstance(each.value, dict) else each)
        if source not in known:
            raise InvalidSpec(f"{each.where}: {each.path}: no {kind.lower()} {source!r} in this file")
        mode = scalars.number(each["mode"])
        file = {
            "Name": scalars.text(each["target"]) or source,
            "UID": scalars.text(each["uid"]) or "0",
            "GID": scalars.text(each["gid"]) or "0",
            "Mode": 0o444 if mode is None else mode,
        }
        found.append({"File": file, f"{kind}Name": known[source].name})
    targets = [each["File"]["Name"] for each in found]
    if len(targets) != len(set(targets)):
        raise InvalidSpec(f"{item.where}: {item.path}: two {kind.lower()}s for one file in the container")
    return sorted(found, key=lambda each: str(each[f"{kind}Name"]))


def _credentials(item: Marked, scalars: Scalars) -> dict[str, Any]:
    """Windows' managed accounts; written also without any, as docker does, since it changes what engines show."""
    refuse_unknown(item, ("file", "registry"))
    said = kept({"File": scalars.text(item["file"]), "Registry": scalars.text(item["registry"])})
    return {"CredentialSpec": said or None, "SELinuxContext": None}


def _ulimits(item: Marked, scalars: Scalars) -> list[dict[str, Any]]:
    found = []
    for name, each in sorted(item.mapping("a mapping of limits").items()):
        if isinstance(each.value, dict):
            refuse_unknown(each, ("soft", "hard"))
            soft, hard = scalars.number(each["soft"]), scalars.number(each["hard"])
        else:
            soft = hard = scalars.number(each)
        if soft is None or hard is None:
            each.refuse("a number, or soft and hard")
        found.append({"Name": name, "Soft": soft, "Hard": hard})
    return found


def _capabilities(add: list[str], drop: list[str]) -> tuple[list[str], list[str]]:
    """``ALL`` stands for every one, and what is added is not dropped."""

    def normal(names: list[str]) -> set[str]:
        upper = {name.upper() for name in names}
        if "ALL" in upper:
            return {"ALL"}
        return {name if name.startswith("CAP_") else f"CAP_{name}" for name in upper}

    added, dropped = normal(add), normal(drop)
    return sorted(added), sorted(dropped - added)
