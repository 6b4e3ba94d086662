# SPDX-License-Identifier: Apache-2.0
"""Parallel processes join one tag, on Debian's registry and on ours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.real.parts import Host, Registry

from manyfest.platforms import Platform
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image

pytestmark = pytest.mark.real

PLATFORMS = ("linux/amd64", "linux/386", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/ppc64le")


@pytest.mark.parametrize("which", ["plain", "embedded"])
def test_six_processes_lose_nothing(here: Host, which: str, request: pytest.FixtureRequest) -> None:
    """Each joins its own image at the same moment; the tag ends with all six."""
    registry: Registry = request.getfixturevalue(which)
    target = f"{registry.host}/joined/app:v1"
    places = []
    for platform in PLATFORMS:
        folder = here.home / platform.replace("/", "-")
        with Layout.create(str(folder)) as store:
            store.tag(make_image(store, Platform.parse(platform)), "v1")
        places.append(f"oci:{folder}:v1")
    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(lambda place: here.manyfest("join", target, place), places))
    entries = here.manyfest("inspect", "--json", target).json["platforms"]
    assert sorted(e["platform"] for e in entries) == sorted(PLATFORMS)
