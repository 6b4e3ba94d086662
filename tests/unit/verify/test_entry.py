# SPDX-License-Identifier: Apache-2.0
"""What an image starts, and what docker run would say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.unit.verify.conftest import GLIBC, elf, entry, program, script, tree

from manyfest.platforms import Platform
from manyfest.verify.checks import CHECKS
from manyfest.verify.entry import Start, environment_of, start
from manyfest.verify.facts import Facts
from manyfest.verify.programs import Programs

STATIC = program(interpreter="")
DYNAMIC = program(needed=("libc.so.6",))
BASE: dict[str, Any] = {
    **GLIBC,
    "bin": "-> usr/bin",
    "usr/bin/dash": DYNAMIC,
    "usr/bin/sh": "-> dash",
    "usr/bin/env": DYNAMIC,
    "usr/bin/tini": STATIC,
    "usr/local/bin/app": STATIC,
    "etc/passwd": "root:x:0:0\napp:x:1:1\n",
    "srv/run": script("/bin/sh"),
}


def begin(
    files: dict[str, Any],
    command: list[str] | str,
    *,
    entrypoint: list[str] | None = None,
    platform: str = "linux/amd64",
    **settings: Any,
) -> Start:
    """Follow a command in the base with some files more."""
    settings = {"Cmd": command, "Entrypoint": entrypoint, **settings}
    found = tree(BASE, files)
    return start(Programs(found, Platform.parse(platform), environment_of(settings)), settings)


def checks(found: Start) -> list[str]:
    """The ids."""
    return [problem.check for problem in found.problems]


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        (["app"], {}),
        (["/usr/local/bin/app"], {}),
        (["./app"], {"WorkingDir": "/usr/local/bin"}),
        (["sh", "-c", "exec app --flag"], {}),
        ("app --flag", {}),
        (["sh", "-c", "cd /srv && ./run"], {}),
        (["sh", "-c", "if true; then app; fi"], {}),
        (["sh", "-e", "/srv/run"], {}),
        (["sh"], {}),
        (["tini", "-g", "--", "app"], {}),
        (["env", "A=1", "app"], {}),
        (["app"], {"User": "app:app"}),
        (["app"], {"User": "1000"}),
        (["run"], {"Env": ["PATH=/srv"]}),
    ],
)
def test_what_starts(command: list[str], settings: dict[str, Any]) -> None:
    """No problem, and the answer is yes."""
    found = begin({}, command, **settings)
    assert [problem.message for problem in found.problems] == []
    assert found.verdict == "starts"


def file(facts: Facts | None, mode: int = 0o755) -> dict[str, Any]:
    """Something at /app."""
    return {"app": entry(facts, mode)}


FAILS: list[tuple[dict[str, Any], list[str], dict[str, Any], str, str]] = [
    ({}, ["nowhere"], {}, "MF302", 'exec: "nowhere": executable file not found in $PATH'),
    ({}, ["/nowhere"], {}, "MF302", 'exec: "/nowhere": stat /nowhere: no such file or directory'),
    ({"l": "-> /gone"}, ["/l"], {}, "MF302", 'exec: "/l": stat /l: no such file or directory'),
    ({}, ["tini", "--", "nowhere"], {}, "MF302", 'exec: "nowhere": executable file not found in $PATH'),
    ({}, ["sh", "/srv/nowhere"], {}, "MF302", "sh: cannot open /srv/nowhere: No such file"),
    (file(STATIC, 0o644), ["/app"], {}, "MF303", 'exec: "/app": permission denied'),
    ({}, ["/srv"], {}, "MF303", 'exec: "/srv": is a directory: permission denied'),
    (
        {"usr/bin/x": entry(STATIC, 0o644)},
        ["x"],
        {},
        "MF303",
        'exec: "x": executable file not found in $PATH',
    ),
    (file(program("linux/arm64", interpreter="")), ["/app"], {}, "MF201", "exec /app: exec format error"),
    (
        file(program(interpreter="/lib/ld-musl-x86_64.so.1")),
        ["/app"],
        {},
        "MF304",
        "exec /app: no such file or directory",
    ),
    (
        file(program(needed=("libx.so",))),
        ["/app"],
        {},
        "MF305",
        "error while loading shared libraries: libx.so",
    ),
    (
        file(program(needed=("libc.so.6",), version_needs=(("libc.so.6", ("GLIBC_2.38",)),))),
        ["/app"],
        {},
        "MF306",
        "libc.so.6: version `GLIBC_2.38' not found",
    ),
    (file(script("/usr/bin/ruby")), ["/app"], {}, "MF307", "exec /app: no such file or directory"),
    (file(script("/usr/bin/env", "ruby")), ["/app"], {}, "MF307", "env: 'ruby': No such file or directory"),
    (file(script("/bin/sh", crlf=True)), ["/app"], {}, "MF308", "exec /app: no such file or directory"),
    (file(None), ["/app"], {}, "MF309", "exec /app: exec format error"),
    (file(elf(type="rel", linking="object")), ["/app"], {}, "MF309", "exec /app: exec format error"),
    (file(script("/app")), ["/app"], {}, "MF310", "exec /app: too many levels of symbolic links"),
    ({"a": "-> b", "b": "-> a"}, ["/a"], {}, "MF310", "too many levels of symbolic links"),
    ({f"l{n}": f"-> l{n + 1}" for n in range(41)}, ["/l0"], {}, "MF310", "too many levels of symbolic links"),
    ({}, ["app"], {"User": "web"}, "MF311", "unable to find user web: no matching entries in passwd file"),
    (file(Facts("elf", problem="it is cut")), ["/app"], {}, "MF207", "exec /app: exec format error"),
    (file(program("linux/amd64/v3", interpreter="")), ["/app"], {}, "MF205", "CPU ISA level"),
    (
        {"usr/bin/env": program("linux/arm64", interpreter="")},
        ["env", "app"],
        {},
        "MF201",
        "exec env: exec format",
    ),
]


@pytest.mark.parametrize(("files", "command", "settings", "check", "says"), FAILS)
def test_what_fails(
    files: dict[str, Any], command: list[str], settings: dict[str, Any], check: str, says: str
) -> None:
    """Exactly one problem, in the engine's words too."""
    found = begin(files, command, **settings)
    assert checks(found) == [check]
    assert says in found.says
    assert found.verdict == "fails"


def test_arm_levels() -> None:
    """v7 code on a v6 platform."""
    files = file(program("linux/arm/v7", interpreter=""))
    assert checks(begin(files, ["/app"], platform="linux/arm/v6")) == ["MF204"]
    assert checks(begin(files, ["/app"], platform="linux/arm/v7")) == []


def test_parts_for_a_newer_level_are_no_reason_not_to_start() -> None:
    """Debian's PostgreSQL for armhf says v8 for its check sums, and runs on v7."""
    files = file(program("linux/arm/v8", interpreter=""))
    assert checks(begin(files, ["/app"], platform="linux/arm/v7")) == []


def test_a_library_that_chooses_its_code() -> None:
    """libatomic of Debian's armel holds v7 code besides, and programs that load it run everywhere."""
    app = program("linux/arm/v5", interpreter="/lib/ld-linux.so.3", needed=("libatomic.so.1",))
    files = {"app": app, "lib/ld-linux.so.3": elf("linux/arm/v5"), "lib/libatomic.so.1": elf("linux/arm/v7")}
    assert checks(begin(files, ["/app"], platform="linux/arm/v5")) == []
    files = {**files, "app": app.replace(needed=("libx.so",)), "lib/libx.so": elf("linux/arm/v7")}
    assert checks(begin(files, ["/app"], platform="linux/arm/v5")) == ["MF204"]


def test_code_that_only_some_processors_run() -> None:
    """386 on amd64, 32-bit ARM on arm64: not an error, and not everywhere."""
    found = begin(file(program("linux/arm/v7", interpreter="")), ["/app"], platform="linux/arm64")
    assert (checks(found), found.verdict) == ([], "second")


def test_the_cmd_that_an_entrypoint_starts() -> None:
    """docker-entrypoint.sh postgres: the second is looked at as well."""
    files = {"entry": script("/bin/sh"), "usr/bin/db": program("linux/arm64", interpreter="")}
    assert checks(begin(files, ["db"], entrypoint=["/entry"])) == ["MF201"]
    assert checks(begin(files, ["--help"], entrypoint=["/entry"])) == []
    assert checks(begin(files, ["not-a-program"], entrypoint=["/entry"])) == []


def test_a_shells_word_that_may_be_a_function_is_a_warning_only() -> None:
    """Only the shell knows."""
    found = begin({}, ["sh", "-c", "maybe --now"])
    assert [(p.check, p.severity) for p in found.problems] == [("MF302", "warning")]
    assert found.verdict == "starts"


def test_the_chain_is_told() -> None:
    """From the command to its libraries."""
    chain = begin({}, ["/srv/run"]).chain
    assert chain[0] == "/srv/run (script for /bin/sh)"
    assert "/usr/bin/dash (linux/amd64)" in chain
    assert chain[-1] == "libraries libc.so.6"


@pytest.mark.parametrize("settings", [{}, {"Cmd": [], "Entrypoint": None}, {"Cmd": 7, "Env": "x", "User": 5}])
def test_no_command(settings: dict[str, Any]) -> None:
    """Nothing to follow."""
    found = start(Programs(tree(BASE), Platform.parse("linux/amd64"), environment_of(settings)), settings)
    assert (found.argv, found.verdict) == ((), "nothing")


TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["sh", "-c", "env", "tini", "--", "/app", "exec app", "'", "a=b"])
)
JSON = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), TEXTS), st.lists, max_leaves=6)
KEYS = ("Cmd", "Entrypoint", "Env", "User", "WorkingDir")


@pytest.mark.property
@hypothesis_settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), st.one_of(JSON, st.lists(TEXTS, max_size=5))))
def test_any_configuration_is_judged(settings: dict[str, Any]) -> None:
    """Whatever a stranger wrote into it."""
    found = start(Programs(tree(BASE), Platform.parse("linux/amd64"), environment_of(settings)), settings)
    assert found.verdict in ("starts", "fails", "second", "nothing")
    assert all(problem.check in CHECKS for problem in found.problems)
