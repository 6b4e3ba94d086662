# SPDX-License-Identifier: Apache-2.0
"""How a host is reached, from every source that has a say."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyfest.errors import InputError
from manyfest.stores.registry.hosts import HostPolicy, Hosts
from manyfest.stores.registry.settings import Settings


def hosts(tmp_path: Path, config: str = "", *, conf: str = "", insecure: bool = False) -> Hosts:
    """Policies that read nothing outside ``tmp_path``."""
    (tmp_path / "config.toml").write_text(config)
    (tmp_path / "registries.conf").write_text(conf)
    return Hosts(
        Settings(
            insecure=insecure,
            config=str(tmp_path / "config.toml"),
            docker_config=str(tmp_path),
            certs_d=(str(tmp_path / "certs.d"),),
            registries_conf=(str(tmp_path / "registries.conf"),),
        )
    )


def summary(policy: HostPolicy) -> tuple[str, tuple[str, ...], bool]:
    """What decides about the wire."""
    return policy.base, policy.schemes, policy.verify


@pytest.mark.parametrize(
    ("host", "insecure", "expected"),
    [
        ("ghcr.io", False, ("https://ghcr.io", ("https",), True)),
        ("GHCR.io", False, ("https://ghcr.io", ("https",), True)),
        ("ghcr.io", True, ("https://ghcr.io", ("https", "http"), False)),
        ("docker.io", False, ("https://registry-1.docker.io", ("https",), True)),
        ("index.docker.io", False, ("https://registry-1.docker.io", ("https",), True)),
        ("localhost", False, ("https://localhost", ("http", "https"), True)),
        ("localhost:5000", False, ("https://localhost:5000", ("http", "https"), True)),
        ("reg.localhost:5000", False, ("https://reg.localhost:5000", ("http", "https"), True)),
        ("127.0.0.1:5000", False, ("https://127.0.0.1:5000", ("http", "https"), True)),
        ("127.9.9.9", False, ("https://127.9.9.9", ("http", "https"), True)),
        ("[::1]:5000", False, ("https://[::1]:5000", ("http", "https"), True)),
        ("localhost:5000", True, ("https://localhost:5000", ("http", "https"), False)),
        ("127.evil.example", False, ("https://127.evil.example", ("https",), True)),
        ("localhost.evil.example", False, ("https://localhost.evil.example", ("https",), True)),
        ("10.0.0.1:5000", False, ("https://10.0.0.1:5000", ("https",), True)),
    ],
)
def test_without_any_file(
    tmp_path: Path, host: str, insecure: bool, expected: tuple[str, tuple[str, ...], bool]
) -> None:
    """The rules for loopback, Docker Hub and --insecure."""
    assert summary(hosts(tmp_path, insecure=insecure).policy(host)) == expected


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("plain_http = true", ("http://reg:5000", ("http",), True)),
        ("plain_http = false", ("https://reg:5000", ("https",), True)),
        ("insecure = true", ("https://reg:5000", ("https", "http"), False)),
        ("insecure = true\nplain_http = false", ("https://reg:5000", ("https",), False)),
        ('endpoint = "10.0.0.9:443"', ("https://10.0.0.9:443", ("https",), True)),
        (
            'prefix = "/artifactory/api/docker/x/"',
            ("https://reg:5000/artifactory/api/docker/x", ("https",), True),
        ),
    ],
)
def test_the_config_file_decides(
    tmp_path: Path, table: str, expected: tuple[str, tuple[str, ...], bool]
) -> None:
    """Per host."""
    found = hosts(tmp_path, f'[registry."reg:5000"]\n{table}\n')
    assert summary(found.policy("reg:5000")) == expected
    assert summary(found.policy("other")) == ("https://other", ("https",), True)


def test_files_of_the_config_are_relative_to_it(tmp_path: Path) -> None:
    """A home directory is written ``~``."""
    config = (
        '[registry."reg"]\nca = ["a.pem", "/b.pem"]\ncert = "c.pem"\nkey = "k.pem"\ncredentials = "hub"\n'
    )
    policy = hosts(tmp_path, config).policy("reg")
    assert policy.ca_files == (str(tmp_path / "a.pem"), "/b.pem")
    assert policy.client_certs == ((str(tmp_path / "c.pem"), str(tmp_path / "k.pem")),)
    assert policy.credentials == "hub"


def test_certs_d_holds_authorities_and_pairs(tmp_path: Path) -> None:
    """And a loopback registry with certificates is asked in TLS only."""
    directory = tmp_path / "certs.d" / "localhost:5000"
    directory.mkdir(parents=True)
    for name in ("b.crt", "a.crt", "me.cert", "me.key", "readme.txt"):
        (directory / name).write_text("")
    policy = hosts(tmp_path).policy("localhost:5000")
    assert policy.ca_files == (str(directory / "a.crt"), str(directory / "b.crt"))
    assert policy.client_certs == ((str(directory / "me.cert"), str(directory / "me.key")),)
    assert policy.schemes == ("https",)


def test_registries_conf_allows_plain_http(tmp_path: Path) -> None:
    """For a location, a mirror and every host under a wildcard."""
    found = hosts(
        tmp_path,
        conf='[[registry]]\nlocation = "one:5000/x"\ninsecure = true\n'
        '[[registry]]\nprefix = "*.two.example"\ninsecure = true\n'
        '[[registry]]\nlocation = "three"\n[[registry.mirror]]\nlocation = "four/y"\ninsecure = true\n',
    )
    relaxed = {
        name: not found.policy(name).verify for name in ("one:5000", "a.two.example", "three", "four", "one")
    }
    assert relaxed == {"one:5000": True, "a.two.example": True, "three": False, "four": True, "one": False}


def test_a_stranger_gets_no_plain_http_from_insecure(tmp_path: Path) -> None:
    """Where a redirect or a token server leads, the URL's scheme stands; named registries keep theirs."""
    found = hosts(tmp_path, insecure=True)
    assert found.policy("reg:5000") is found.reach("reg:5000")
    assert found.reach("reg:5000").schemes == ("https", "http")
    assert found.reach("cdn.example").schemes == ("https",)
    assert found.policy("docker.io") is found.reach("registry-1.docker.io:443")


def test_a_scheme_is_remembered(tmp_path: Path) -> None:
    """Within the process."""
    found = hosts(tmp_path)
    assert found.spoken("localhost:5000") == ""
    found.remember("localhost:5000", "http")
    assert found.spoken("localhost:5000") == "http"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("not toml", "not valid TOML"),
        ("registry = 1", "expected a table"),
        ('[registry]\n"reg" = 1', "expected a table"),
        ('[registry."reg"]\nplain_htpp = true', "unknown key 'plain_htpp'"),
        ('[registry."reg"]\nplain_http = "yes"', "true or false"),
        ('[registry."reg"]\nca = [1]', "a text or a list of texts"),
        ('[registry."reg"]\nendpoint = 1', "expected endpoint to be a text"),
    ],
)
def test_a_broken_config_is_named(tmp_path: Path, config: str, words: str) -> None:
    """With its path and what is wrong."""
    with pytest.raises(InputError, match=words) as caught:
        hosts(tmp_path, config).policy("reg")
    assert "config.toml" in str(caught.value)


@pytest.mark.parametrize("host", ["", "a b", "reg:port", "reg:0", "reg:65536", "[::1", "user@reg", "x/y"])
def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    """Before it becomes part of a URL."""
    with pytest.raises(InputError):
        hosts(tmp_path).policy(host)


def test_the_environment_chooses_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MANYFEST_CONFIG, MANYFEST_CERTS_D, DOCKER_CONFIG, CONTAINERS_REGISTRIES_CONF, XDG_CONFIG_HOME."""
    monkeypatch.setenv("MANYFEST_CERTS_D", "/a:/b")
    monkeypatch.setenv("DOCKER_CONFIG", "/d")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", "/r.conf")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    monkeypatch.delenv("MANYFEST_CONFIG", raising=False)
    settings = Settings()
    assert settings.config == "/x/manyfest/config.toml"
    assert (settings.certs_d, settings.docker_config, settings.registries_conf) == (
        ("/a", "/b"),
        "/d",
        ("/r.conf",),
    )
    monkeypatch.setenv("MANYFEST_CONFIG", "/c.toml")
    assert Settings().config == "/c.toml"
    monkeypatch.delenv("MANYFEST_CERTS_D")
    assert Settings().certs_d == (
        "/etc/containers/certs.d",
        "/etc/docker/certs.d",
        "/x/containers/certs.d",
        "/d/certs.d",
    )


def test_settings_do_not_show_credentials() -> None:
    """Not in a repr."""
    assert "secret" not in repr(Settings(username="secret", password="secret"))
