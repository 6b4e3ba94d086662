# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a stack file becomes specifications or one of our errors, with the place where it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyfest.deploy.stack.compare import cleaned, same
from manyfest.deploy.stack.file import read
from manyfest.deploy.stack.scalars import go_text, go_words, parse_duration, plain
from manyfest.deploy.stack.service import DROPPED, KEYS
from manyfest.errors import InputError, InvalidSpec

pytestmark = pytest.mark.property

INNER = (
    "target", "published", "mode", "type", "source", "soft", "hard", "name", "driver", "options", "config", "subnet",
    "limits", "reservations", "cpus", "memory", "pids", "update_config", "parallelism", "placement", "constraints",
    "preferences", "spread", "condition", "test", "disable", "interval", "file", "external", "labels", "aliases",
    "resources", "restart_policy", "replicas", "generic_resources", "discrete_resource_spec", "kind", "value", "ipam",
)  # fmt: skip
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70000),
    st.floats(allow_nan=False),
    st.sampled_from(
        (
            "", "a", "a:1", "80:80", "1-2:3", "./x:/y", "n:/x", "10s", "1g", "0.5", "A=b", "$X", "${X", "tcp", "host",
            "global", "bind", "volume", "tmpfs", "node.role==worker", "no", "any", "'", "default", "on-failure:3",
        )
    ),
)  # fmt: skip
NESTED = st.recursive(
    VALUES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(INNER), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    service=st.dictionaries(st.sampled_from([*KEYS, *DROPPED]), NESTED, max_size=2),
    deploy=st.dictionaries(st.sampled_from(INNER), NESTED, max_size=1),
    parts=st.dictionaries(st.sampled_from(["networks", "volumes", "secrets", "configs"]), NESTED, max_size=1),
)
def test_any_file(tmp_path_factory: Any, service: Any, deploy: Any, parts: Any) -> None:
    """Never another exception, and what is read is the same as itself for engines."""
    path = Path(tmp_path_factory.getbasetemp()) / "any.yaml"
    service = {"image": "a", **({"deploy": deploy} if deploy else {}), **service}
    path.write_text(json.dumps({"services": {"web": service}, **parts}))
    wrong = ""
    try:
        services = read(str(path), "st", {}, lambda warning: None).services
    except InvalidSpec as error:
        services, wrong = (), str(error)
    assert not wrong or re.match(r".*any\.yaml:\d+:\d+: ", wrong), wrong
    for each in services:
        json.dumps(each.spec)
        assert same(each.spec, cleaned(each.spec))


@given(st.text(max_size=30))
def test_any_scalar(text: str) -> None:
    """Is something, and as text again it is something that Go prints."""
    found = plain(text)
    if found is not None and not isinstance(found, bool):
        assert go_text(found)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value(number: float) -> None:
    assert float(go_text(number)) == number


@given(st.lists(st.text(st.characters(exclude_characters="'\x00"), max_size=8), max_size=5))
def test_quoted_words_come_back(words: list[str]) -> None:
    assert go_words(" ".join(f"'{word}'" for word in words)) == words


@given(st.text("0123456789.hmsnuµ +-", max_size=12))
def test_any_duration(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except InputError:
        return
