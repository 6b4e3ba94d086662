# SPDX-License-Identifier: Apache-2.0
"""Where reads go: registries.conf version 2, daemon.json and our own file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from manyfest.errors import Forbidden, InputError
from manyfest.stores.registry.hosts import Hosts
from manyfest.stores.registry.mirrors import Mirrors, RegistriesConf
from manyfest.stores.registry.settings import Settings


def mirrors(tmp_path: Path, conf: str = "", config: str = "") -> Mirrors:
    """Over files in ``tmp_path`` only."""
    (tmp_path / "registries.conf").write_text(conf)
    (tmp_path / "config.toml").write_text(config)
    return Mirrors(
        Hosts(
            Settings(
                config=str(tmp_path / "config.toml"),
                docker_config=str(tmp_path),
                certs_d=(),
                registries_conf=(str(tmp_path / "registries.conf"), str(tmp_path / "registries.conf.d")),
            )
        )
    )


def ways(found: Mirrors, name: str, *, digest: bool = False) -> list[str]:
    """The endpoints' names, in order."""
    host, _, repository = name.partition("/")
    return [f"{end.host}/{end.repository}" for end in found.endpoints(host, repository, digest=digest)]


HUB = """
unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.corp:5000/hub"
[[registry.mirror]]
location = "second.corp"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "third.corp"
pull-from-mirror = "tag-only"
"""


@pytest.mark.parametrize(
    ("conf", "name", "digest", "expected"),
    [
        ("", "ghcr.io/a/b", False, ["ghcr.io/a/b"]),
        (HUB, "ghcr.io/a/b", False, ["ghcr.io/a/b"]),
        (
            HUB,
            "docker.io/library/x",
            False,
            ["mirror.corp:5000/hub/library/x", "third.corp/library/x", "docker.io/library/x"],
        ),
        (
            HUB,
            "docker.io/library/x",
            True,
            ["mirror.corp:5000/hub/library/x", "second.corp/library/x", "docker.io/library/x"],
        ),
        (
            '[[registry]]\nlocation="a"\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation="m"\n',
            "a/x",
            False,
            ["a/x"],
        ),
        (
            '[[registry]]\nlocation="a"\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation="m"\n',
            "a/x",
            True,
            ["m/x", "a/x"],
        ),
        ('[[registry]]\nprefix="a/b"\nlocation="c/d"\n', "a/b/x", False, ["c/d/x"]),
        ('[[registry]]\nprefix="a/b"\nlocation="c/d"\n', "a/bc/x", False, ["a/bc/x"]),
        ('[[registry]]\nprefix="a"\nlocation="c"\n', "a:5000/x", False, ["c:5000/x"]),
        (
            '[[registry]]\nprefix="a"\nlocation="short"\n[[registry]]\nprefix="a/b"\nlocation="long"\n',
            "a/b/x",
            False,
            ["long/x"],
        ),
        ('[[registry]]\nprefix="*.corp"\nlocation="one/all"\n', "eu.corp/x", False, ["one/all/x"]),
        ('[[registry]]\nprefix="*.corp"\n', "eu.corp/x", False, ["eu.corp/x"]),
        ('[[registry]]\nprefix="*.corp"\nlocation="one"\n', "corp/x", False, ["corp/x"]),
    ],
)
def test_registries_conf(tmp_path: Path, conf: str, name: str, digest: bool, expected: list[str]) -> None:
    """Prefixes, rewriting, mirrors and what they are for."""
    assert ways(mirrors(tmp_path, conf), name, digest=digest) == expected


def test_a_blocked_prefix_is_forbidden(tmp_path: Path) -> None:
    """With the file that says so."""
    found = mirrors(tmp_path, '[[registry]]\nprefix = "bad.example"\nblocked = true\n')
    with pytest.raises(Forbidden, match=r"blocked by the prefix 'bad\.example' in .*registries\.conf"):
        ways(found, "bad.example/x")
    assert ways(found, "good.example/x") == ["good.example/x"]


def test_drop_ins_come_after_and_win(tmp_path: Path) -> None:
    """In the order of their names."""
    directory = tmp_path / "registries.conf.d"
    directory.mkdir()
    (directory / "20.conf").write_text('[[registry]]\nprefix = "a"\nlocation = "twenty"\n')
    (directory / "10.conf").write_text('[[registry]]\nprefix = "a"\nlocation = "ten"\n')
    (directory / "ignored.txt").write_text("not toml")
    assert ways(mirrors(tmp_path, '[[registry]]\nprefix = "a"\nlocation = "main"\n'), "a/x") == ["twenty/x"]


def test_our_own_mirrors_come_first(tmp_path: Path) -> None:
    """Then those of registries.conf; the registry is the last, and named once."""
    config = '[registry."docker.io"]\nmirrors = ["mine.corp/hub", "docker.io"]\n'
    assert ways(mirrors(tmp_path, HUB, config), "docker.io/library/x") == [
        "mine.corp/hub/library/x",
        "mirror.corp:5000/hub/library/x",
        "third.corp/library/x",
        "docker.io/library/x",
    ]


def test_daemon_json_counts_when_the_config_says_so(tmp_path: Path) -> None:
    """For Docker Hub only, as in Docker."""
    (tmp_path / "daemon.json").write_text(json.dumps({"registry-mirrors": ["https://mirror.example/"]}))
    assert ways(mirrors(tmp_path), "docker.io/library/x") == ["docker.io/library/x"]
    found = mirrors(tmp_path, config='[docker]\ndaemon_json = "daemon.json"\n')
    assert ways(found, "docker.io/library/x") == ["mirror.example/library/x", "docker.io/library/x"]
    assert ways(found, "ghcr.io/x") == ["ghcr.io/x"]


@pytest.mark.parametrize("text", ["{", "[1]", '{"registry-mirrors": 1}', '{"registry-mirrors": [1]}'])
def test_a_broken_daemon_json_is_named(tmp_path: Path, text: str) -> None:
    """With its path."""
    (tmp_path / "daemon.json").write_text(text)
    with pytest.raises(InputError, match=r"daemon\.json"):
        ways(mirrors(tmp_path, config='[docker]\ndaemon_json = "daemon.json"\n'), "docker.io/x")


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ("[[registry]]\n", "a prefix or a location"),
        ("[[registry]\n", "not valid TOML"),
        ("registry = 1\n", r"\[\[registry\]\] tables"),
        ('[[registry]]\nlocation = "https://x"\n', "expected location as host"),
        ("[[registry]]\nlocation = 1\n", "expected location as host"),
        ('[[registry]]\nlocation = "x"\nblocked = "no"\n', "blocked to be true or false"),
        ('[[registry]]\nlocation = "x"\nmirror = 1\n', "mirror"),
        ('[[registry]]\nlocation = "x"\n[[registry.mirror]]\n', "needs a location"),
        (
            '[[registry]]\nlocation = "x"\n[[registry.mirror]]\nlocation = "m"\npull-from-mirror = "never"\n',
            "cannot be 'never'",
        ),
    ],
)
def test_a_broken_registries_conf_is_named(tmp_path: Path, conf: str, words: str) -> None:
    """With its path and what is wrong."""
    with pytest.raises(InputError, match=words) as caught:
        ways(mirrors(tmp_path, conf), "a/x")
    assert "registries.conf" in str(caught.value)


def test_files_without_registries_cost_no_toml_parser(tmp_path: Path) -> None:
    """Distributions install one full of comments and one full of aliases."""
    (tmp_path / "registries.conf").write_text(
        '# [[registry]]\nunqualified-search-registries = ["docker.io"]\n'
    )
    (tmp_path / "aliases.conf").write_text('[aliases]\n  "debian" = "docker.io/library/debian"\n')
    program = (
        "import sys; from manyfest.stores.registry.mirrors import RegistriesConf;"
        "RegistriesConf.read(tuple(sys.argv[1:])); assert 'tomllib' not in sys.modules"
    )
    paths = [str(tmp_path / "registries.conf"), str(tmp_path / "aliases.conf")]
    subprocess.run(
        [sys.executable, "-c", program, *paths], check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert RegistriesConf.read(tuple(paths)).ways("docker.io", "x", digest=False) == (("docker.io/x", ""),)
