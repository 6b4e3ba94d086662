# SPDX-License-Identifier: Apache-2.0
"""What an image for Windows starts, and what docker run would say there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.unit.verify.conftest import entry, tree

from manyfest.platforms import Platform
from manyfest.verify.checks import CHECKS
from manyfest.verify.entry import Start, environment_of
from manyfest.verify.facts import Facts
from manyfest.verify.programs import Programs
from manyfest.verify.windows import start


def pe(architecture: str = "amd64", **fields: Any) -> Facts:
    """A program for Windows."""
    platforms = (Platform("windows", architecture),) if architecture else ()
    return Facts("pe", **{"platforms": platforms, "machine": architecture, "type": "exec", **fields})


EXE = pe()
NANO: dict[str, Any] = {
    "Files/Windows/System32/cmd.exe": EXE,
    "Files/Windows/System32/where.exe": EXE,
    "Files/app/App.exe": EXE,
    "Files/app/run.cmd": entry(None),
    "Files/app/noext": EXE,
    "Files/Program Files/Tool/tool.exe": EXE,
}
CORE: dict[str, Any] = {
    "Files/Windows/SysWOW64/cmd.exe": pe("386"),
    "Files/Windows/System32/WindowsPowerShell/v1.0/powershell.exe": EXE,
    "Files/app/start.ps1": entry(None),
}


def begin(
    files: dict[str, Any], command: list[str], *, platform: str = "windows/amd64", **settings: Any
) -> Start:
    """Follow a command in Nano Server with some files more."""
    settings = {"Cmd": command, "WorkingDir": "C:\\app", **settings}
    found = tree(NANO, files)
    return start(Programs(found, Platform.parse(platform), environment_of(settings)), settings)


@pytest.mark.parametrize(
    ("command", "settings", "chain"),
    [
        (["C:\\app\\App.exe"], {}, ["C:\\app\\App.exe (windows/amd64)"]),
        (["c:/APP/app"], {}, ["C:\\app\\App.exe (windows/amd64)"]),
        (["\\\\?\\C:\\app\\app.exe"], {}, ["C:\\app\\App.exe (windows/amd64)"]),
        (["\\app\\app.exe"], {}, ["C:\\app\\App.exe (windows/amd64)"]),
        (["app.exe"], {}, ["C:\\app\\App.exe (windows/amd64)"]),
        (["app"], {}, ["C:\\app\\App.exe (windows/amd64)"]),
        ([".\\app.exe"], {}, ["C:\\app\\App.exe (windows/amd64)"]),
        (["..\\app\\app.exe"], {"WorkingDir": "/app"}, ["C:\\app\\App.exe (windows/amd64)"]),
        (["noext"], {}, ["C:\\app\\noext (windows/amd64)"]),
        (["where"], {}, ["C:\\Windows\\System32\\where.exe (windows/amd64)"]),
        (["tool"], {"Env": ["Path=C:\\x;%ProgramFiles%\\y;C:\\Program Files\\tool"]}, None),
        (["tool"], {"Env": ["PATH=%T%\\Tool", "t=C:\\program files"]}, None),
        (["run.cmd"], {}, ["C:\\app\\run.cmd (a batch file, for cmd)"]),
        (["cmd", "/S", "/C", "app.exe --flag"], {}, None),
        (["cmd", "/S", "/C", "run & echo done"], {}, None),
        (["cmd", "/S", "/C", '"C:\\Program Files\\Tool\\tool" x'], {}, None),
        (["cmd", "/c", "echo hello"], {}, ["C:\\Windows\\System32\\cmd.exe (windows/amd64)"]),
        (["cmd", "/c", "%UNSET%\\x.exe"], {}, None),
        (["cmd.exe"], {}, None),
        (["C:\\Program Files\\Tool\\tool.exe --x y"], {"ArgsEscaped": True}, None),
        (['"C:\\Program Files\\Tool\\tool.exe" --x'], {"ArgsEscaped": True}, None),
        (["cmd /S /C app.exe"], {"ArgsEscaped": True}, None),
    ],
)
def test_what_starts(command: list[str], settings: dict[str, Any], chain: list[str] | None) -> None:
    """No problem, and the way there."""
    found = begin({}, command, **settings)
    assert [problem.message for problem in found.problems] == []
    assert found.verdict == "starts"
    assert chain is None or found.chain == chain


def test_what_shells_start_is_followed() -> None:
    """The program behind cmd is in the chain, and PowerShell's script is looked for."""
    assert begin({}, ["cmd", "/S", "/C", "app --x"]).chain[-1] == "C:\\app\\App.exe (windows/amd64)"
    assert begin(CORE, ["powershell", "-NoLogo", "-File", "start.ps1"]).verdict == "starts"
    assert begin(CORE, ["powershell", "-Command", "Get-Date"]).verdict == "starts"
    missing = begin(CORE, ["powershell", "-NoLogo", "-File", "C:\\app\\other.ps1"])
    assert [problem.check for problem in missing.problems] == ["MF302"]
    assert "does not exist" in missing.says


@pytest.mark.parametrize(
    ("files", "command", "settings", "check", "says"),
    [
        ({}, ["C:\\app\\gone.exe"], {}, "MF302", "cannot find the file"),
        ({}, ["/app/app.exe.old"], {}, "MF302", "cannot find the file"),
        ({}, ["D:\\app.exe"], {}, "MF302", "cannot find the file"),
        ({}, ["\\\\server\\share\\app.exe"], {}, "MF302", "cannot find the file"),
        ({}, ["gone"], {"Env": ["PATH=C:\\Windows"]}, "MF302", "cannot find the file"),
        ({}, ["run"], {}, "MF302", ""),
        (
            {},
            ["powershell", "-File", "x.ps1"],
            {"Env": ["PATH=C:\\Windows"]},
            "MF302",
            "cannot find the file",
        ),
        ({}, ["C:\\app"], {}, "MF303", "Access is denied"),
        ({"Files/app/x.ps1": entry(None)}, ["C:\\app\\x.ps1"], {}, "MF309", "not a valid Win32 application"),
        (
            {"Files/app/lib.dll": pe(type="dyn")},
            ["C:\\app\\lib.dll"],
            {},
            "MF309",
            "not a valid Win32 application",
        ),
        ({"Files/app/x.exe": pe("arm64")}, ["x.exe"], {}, "MF201", "not a valid Win32 application"),
        ({"Files/app/x.exe": pe(problem="is cut")}, ["x.exe"], {}, "MF207", "not a valid Win32 application"),
        ({"Files/app/x.exe": pe("", abi="efi")}, ["x.exe"], {}, "MF201", "not a valid Win32 application"),
        ({"Files/app/x.exe": pe("386")}, ["x.exe"], {}, "MF304", "subsystem"),
        (
            {"Files/app/x.exe": Facts("elf", platforms=(Platform("linux", "amd64"),))},
            ["x"],
            {},
            "MF309",
            "Win32",
        ),
        ({"!Files/Windows/System32/cmd.exe": None}, ["run.cmd"], {}, "MF307", "cannot find the file"),
        ({"Files/app/x.exe": "-> x.exe"}, ["x.exe"], {"Env": ["PATH=C:\\"]}, "MF302", "cannot find the file"),
    ],
)
def test_what_does_not_start(
    files: dict[str, Any], command: list[str], settings: dict[str, Any], check: str, says: str
) -> None:
    """Which check it is, and in Windows' words."""
    found = begin(files, command, **settings)
    assert [problem.check for problem in found.problems] == [check]
    if says:
        assert found.verdict == "fails"
        assert says in found.says


def test_32_bit_code_starts_where_wow64_is() -> None:
    """Server Core has it."""
    assert begin({**CORE, "Files/app/x.exe": pe("386")}, ["x.exe"]).verdict == "starts"


def test_portable_dotnet_starts() -> None:
    """It names no processor."""
    assert (
        begin({"Files/app/x.exe": pe("", abi="dotnet", machine="any (.NET)")}, ["x.exe"]).verdict == "starts"
    )


def test_a_link_is_followed_as_windows_writes_it() -> None:
    """Absolute with a drive, and relative with backslashes."""
    files = {"Files/a.exe": "-> C:\\b\\..\\link.exe", "Files/link.exe": "-> app\\app.exe"}
    assert begin(files, ["C:\\a.exe"]).chain == ["C:\\app\\App.exe (windows/amd64)"]


def test_a_bare_name_that_is_elsewhere_is_taken_to_be_in_the_registrys_path() -> None:
    """As setx leaves it, which most images for Windows use; a warning where the configuration sets another PATH."""
    files = {"Files/Program Files/dotnet/dotnet.exe": EXE}
    found = begin(files, ["dotnet", "app.dll"])
    assert (found.verdict, found.chain) == (
        "starts",
        ["C:\\Program Files\\dotnet\\dotnet.exe (windows/amd64)"],
    )
    assert found.problems == []
    assert begin(files, ["cmd", "/c", "dotnet app.dll"]).chain[-1] == found.chain[0]
    told = begin(files, ["dotnet"], Env=["PATH=C:\\Windows"])
    assert [(problem.check, problem.severity) for problem in told.problems] == [("MF302", "warning")]
    foreign = begin({"Files/x/dotnet.exe": pe("arm64")}, ["dotnet"])
    assert [problem.check for problem in foreign.problems] == ["MF201"]


def test_a_bare_name_that_is_nowhere_does_not_start() -> None:
    """Whatever the registry says; where the layers bring no Windows it may be the host's."""
    assert [(p.check, p.severity) for p in begin({}, ["gone"]).problems] == [("MF302", "")]
    without = start(
        Programs(tree({"Files/a.exe": EXE}), Platform.parse("windows/amd64"), {}), {"Cmd": ["gone"]}
    )
    assert [(p.check, p.severity) for p in without.problems] == [("MF302", "warning")]


def test_without_the_base_its_shells_are_taken_for_granted() -> None:
    """Images that run in the host's processes bring no Windows."""
    settings = {"Cmd": ["cmd", "/c", "app.exe"], "WorkingDir": "C:\\app"}
    found = start(Programs(tree({"Files/app/app.exe": EXE}), Platform.parse("windows/amd64"), {}), settings)
    assert (found.verdict, [p.message for p in found.problems]) == ("starts", [])
    nowhere = start(
        Programs(tree({"app.exe": EXE}), Platform.parse("windows/amd64"), {}), {"Cmd": ["C:\\app.exe"]}
    )
    assert "a folder Files" in nowhere.problems[0].hint


@pytest.mark.property
@hypothesis_settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text('aCc:\\/."% &@xAPpe', max_size=12), max_size=4),
    st.text("C:\\/apD.", max_size=8),
    st.booleans(),
)
def test_any_command_gets_an_answer(command: list[str], folder: str, escaped: bool) -> None:
    """A verdict, and ids that exist."""
    found = begin(
        {"Files/x": "-> C:\\X", "Files/y": "-> ..\\..\\y"}, command, WorkingDir=folder, ArgsEscaped=escaped
    )
    assert found.verdict in ("starts", "fails", "second", "nothing")
    assert {problem.check for problem in found.problems} <= CHECKS.keys()
