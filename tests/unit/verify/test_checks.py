# SPDX-License-Identifier: Apache-2.0
"""Checks of files and of indexes; what real images hold on purpose gives no alarm."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.verify.conftest import GLIBC, elf, entry, program, script, tree

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import ImageConfig, Manifest
from manyfest.platforms import Platform
from manyfest.verify.checks import CHECKS, Findings
from manyfest.verify.checks_files import check_files
from manyfest.verify.checks_index import check_config, check_entries, check_expected
from manyfest.verify.entry import Start
from manyfest.verify.facts import Facts
from manyfest.verify.programs import Programs

FOREIGN = program("linux/arm64", interpreter="")
LIBRARY = elf("linux/arm64")


def look(files: dict[str, Any], platform: str = "linux/amd64") -> list[tuple[str, str, str]]:
    """Severity, id and path of what is found besides one good program."""
    good = {"usr/bin/good": program(platform, interpreter="", page_align_min=0x10000)}
    programs = Programs(tree({**GLIBC, **good, **files}), Platform.parse(platform), {})
    findings = Findings()
    check_files(programs, Start(()), ["sha256:1"], findings)
    return [(finding.severity, finding.check, finding.path) for finding in findings.all()]


@pytest.mark.parametrize(
    "path",
    [
        "usr/bin/qemu-aarch64-static",
        "usr/lib/aarch64-linux-gnu/libc.so.6",
        "usr/aarch64-linux-gnu/lib/libc.so.6",
        "usr/lib/go/src/debug/elf/testdata/gcc-arm64-linux-exec",
        "lib/firmware/vendor/blob",
        "usr/share/qemu/keymap",
        "usr/lib/debug/x",
        "opt/jdk/lib/arm64/libjvm.so",
        "root/.rustup/lib/rustlib/aarch64-unknown-linux-gnu/bin/rust-lld",
    ],
)
def test_foreign_on_purpose_is_a_note(path: str) -> None:
    """By where it lies, or what it is called."""
    assert look({path: FOREIGN}) == [("note", "MF202", f"/{path}")]


@pytest.mark.parametrize(
    ("path", "facts", "found"),
    [
        ("usr/bin/tool", FOREIGN, ("error", "MF201")),
        ("usr/local/bin/app-arm64", FOREIGN, ("error", "MF201")),
        ("opt/app/tool", FOREIGN, ("error", "MF201")),
        ("opt/app/libx.so", LIBRARY, ("warning", "MF201")),
        ("usr/lib/python3/dist-packages/x.cpython-311-x86_64-linux-gnu.so", LIBRARY, ("error", "MF208")),
        ("usr/lib/python3/dist-packages/x.cpython-311-aarch64-linux-gnu.so", LIBRARY, ("error", "MF208")),
        ("opt/app/build/Release/x.node", LIBRARY, ("error", "MF208")),
        ("opt/app/node_modules/x/build/Release/x.node", LIBRARY, ("error", "MF208")),
        ("opt/node_modules/@img/sharp-linux-arm64/lib/x.node", LIBRARY, ("warning", "MF208")),
        ("usr/lib/apache2/modules/mod_x.so", LIBRARY, ("warning", "MF201")),
        ("opt/spring-boot/lib/libx.so", LIBRARY, ("warning", "MF201")),
        ("srv/target/debug/libx.so", LIBRARY, ("warning", "MF201")),
        ("opt/x", elf(problem="the section table is cut"), ("warning", "MF207")),
        ("usr/bin/x", program("linux/amd64/v3", interpreter=""), ("error", "MF205")),
        ("usr/lib/x86_64-linux-gnu/libx.so", elf("linux/amd64/v3"), ("warning", "MF205")),
        ("usr/bin/x", script("/bin/sh", crlf=True), ("warning", "MF308")),
        ("usr/bin/x", script("/usr/bin/ruby"), ("note", "MF307")),
        ("usr/bin/x", program(interpreter="/lib/ld-musl-x86_64.so.1"), ("warning", "MF304")),
        ("opt/x", program(interpreter="/lib/ld-musl-x86_64.so.1"), ("note", "MF304")),
        ("usr/bin/x", program(needed=("libx.so",)), ("warning", "MF305")),
    ],
)
def test_what_is_wrong(path: str, facts: Facts, found: tuple[str, str]) -> None:
    """One finding, as bad as who meets it."""
    assert look({path: facts}) == [(*found, f"/{path}")]


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libx.so", elf("linux/amd64/v3")),
        ("usr/lib/libatomic.so.1.2.0", elf("linux/amd64/v3")),
        ("usr/lib/i386-linux-gnu/libc.so.6", elf("linux/386")),
        ("usr/lib/modules/6.1/x.ko", elf("linux/amd64", type="rel", linking="object")),
        ("usr/lib/bpf/x.o", Facts("elf", machine="eBPF", type="rel", linking="object")),
        ("usr/share/x.crlf", script("/bin/sh")),
        ("usr/lib/x86_64-linux-gnu/libplugin.so", elf(needed=("libgone.so",))),
        ("opt/app.jar", Facts("jar", machine="Java")),
    ],
)
def test_what_is_fine(path: str, facts: Facts) -> None:
    """No finding at all."""
    assert look({path: facts}) == []


@pytest.mark.parametrize("made", [program("linux/arm/v8", interpreter=""), elf("linux/arm/v8")])
def test_parts_for_a_newer_level_are_a_note(made: Facts) -> None:
    """Programs and libraries of Debian's armhf say v8 when one routine in them is for it."""
    found = look({"usr/bin/x": made}, "linux/arm/v7")
    assert [each for each in found if each[2] == "/usr/bin/x"] == [("note", "MF204", "/usr/bin/x")]


def test_programs_without_permission() -> None:
    """Along PATH only."""
    plain = program(interpreter="")
    assert look({"usr/bin/x": entry(plain, 0o644)}) == [("warning", "MF312", "/usr/bin/x")]
    assert look({"opt/x": entry(plain, 0o644)}) == []


@pytest.mark.parametrize(
    ("platform", "align", "found"),
    [
        ("linux/arm64", 0x1000, "warning"),
        ("linux/arm64", 0x4000, "note"),
        ("linux/arm64", 0x10000, None),
        ("linux/ppc64le", 0x1000, "warning"),
        ("linux/amd64", 0x1000, None),
    ],
)
def test_page_sizes(platform: str, align: int, found: str | None) -> None:
    """Kernels of arm64 come with 4, 16 and 64 kB."""
    files = {"usr/bin/x": program(platform, interpreter="", page_align_min=align)}
    expected = [] if found is None else [(found, "MF206", "/usr/bin/x")]
    assert [each for each in look(files, platform) if each[1] == "MF206"] == expected


def test_all_programs_foreign_is_said_once() -> None:
    """And not five hundred times."""
    programs = Programs(tree({f"usr/bin/{i}": FOREIGN for i in range(50)}), Platform.parse("linux/amd64"), {})
    findings = Findings()
    check_files(programs, Start(()), [], findings)
    assert [f.message for f in findings.all()] == [
        "none of its 50 programs is for linux/amd64; they are for linux/arm64"
    ]


def test_a_module_beside_the_right_one_is_on_purpose() -> None:
    """Wheels for several machines unpacked together."""
    folder = "usr/lib/python3/dist-packages"
    files = {
        f"{folder}/x.cpython-311-aarch64-linux-gnu.so": LIBRARY,
        f"{folder}/x.cpython-311-x86_64-linux-gnu.so": elf(),
    }
    assert {severity for severity, _, _ in look(files)} == {"note"}


def test_a_program_that_a_package_brings_for_each_platform() -> None:
    """esbuild's, installed on arm64 and copied; with the right one beside it, it is there on purpose."""
    top = "app/node_modules/@esbuild"
    alone = look({f"{top}/linux-arm64/bin/esbuild": FOREIGN})
    assert alone == [("warning", "MF208", f"/{top}/linux-arm64/bin/esbuild")]
    both = look(
        {f"{top}/linux-arm64/bin/esbuild": FOREIGN, f"{top}/linux-x64/bin/esbuild": program(interpreter="")}
    )
    assert [severity for severity, _, _ in both] == ["note"]


@pytest.mark.parametrize(
    ("theirs", "ours", "found"),
    [
        ("prebuilds/linux-arm64/x.node", "prebuilds/linux-x64/x.node", {"note"}),
        ("prebuilds/linux-arm64/x.node", "build/Release/x.node", {"note"}),
        ("prebuilds/linux-arm64/x.node", "other.txt", {"warning"}),
        ("prebuilds/android-arm64/x.node", "other.txt", {"note"}),
    ],
)
def test_addons_of_node_for_other_platforms(theirs: str, ours: str, found: set[str]) -> None:
    """Beside one that fits they are there on purpose; alone they were installed on another machine."""
    top = "app/node_modules/x"
    assert {
        severity for severity, _, _ in look({f"{top}/{theirs}": LIBRARY, f"{top}/{ours}": elf()})
    } == found
    several = {
        f"{top}/prebuilds/linux-arm64/x.node": LIBRARY,
        f"{top}/prebuilds/linux-s390x/x.node": elf("linux/s390x"),
    }
    assert {severity for severity, _, _ in look(several)} == {"note"}
    windows = {f"{top}/prebuilds/win32-x64/x.node": Facts("pe", platforms=(Platform("windows", "amd64"),))}
    systems = {f"{top}/prebuilds/linux-arm64/x.node": LIBRARY, **windows}
    assert {severity for severity, _, _ in look(systems)} == {"note"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("Files/app/app.exe", ["MF201 error"]),
        ("Files/opt/tools/x.exe", ["MF201 error"]),
        ("Files/lib/x.exe", ["MF201 warning"]),
        ("Files/app/x.dll", ["MF201 warning"]),
        ("Files/app/runtimes/win-arm64/native/x.dll", ["MF202 note"]),
        ("Files/python/Lib/site-packages/pip/_vendor/distlib/t64-arm.exe", ["MF202 note"]),
        ("Files/Windows/System32/x.exe", []),
    ],
)
def test_windows_images_are_looked_at_for_windows(path: str, found: list[str]) -> None:
    """An error where programs are started from; its own folder apart, and what is there for all processors."""
    foreign = Facts("pe", platforms=(Platform("windows", "arm64"),), type="dyn" if "dll" in path else "exec")
    programs = Programs(
        tree({path: foreign}), Platform.parse("windows/amd64"), {"Path": "C:\\Opt\\tools\\;D:\\x"}
    )
    findings = Findings()
    check_files(programs, Start(()), [], findings)
    assert [f"{each.check} {each.severity}" for each in findings.all()] == found


def image(platform: str | None, content: str = "", **annotations: str) -> Descriptor:
    """An entry of an index."""
    found = Descriptor.of(f"{platform} {content}".encode(), "application/vnd.oci.image.manifest.v1+json")
    found = found.with_platform(Platform.parse(platform) if platform else None)
    return found.with_annotations(annotations) if annotations else found


def entries(*found: Descriptor) -> list[tuple[str, str]]:
    """Severities and ids."""
    findings = Findings()
    check_entries(found, findings)
    return [(finding.severity, finding.check) for finding in findings.all()]


def test_entries_of_an_index() -> None:
    """Alone, and against each other."""
    good = image("linux/amd64")
    assert entries(good, image("linux/arm64"), image("linux/arm/v7"), image("linux/arm/v6")) == []
    assert entries(good, image("linux/amd64", "other")) == [("error", "MF103")]
    assert entries(image("linux/arm64"), image("linux/arm64/v8", "other")) == [("error", "MF103")]
    assert entries(good, image("linux/amd64")) == [("warning", "MF103")]
    assert entries(image(None)) == [("warning", "MF102")]
    assert entries(image("linux/arm46")) == [("error", "MF104")]
    attestation = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(good.digest),
    }
    attests = image("unknown/unknown").with_annotations(attestation)
    assert entries(good, attests) == []
    assert entries(attests) == [("warning", "MF108")]


@pytest.mark.parametrize(
    ("expected", "missing"),
    [("linux/amd64", 0), ("linux/arm", 0), ("linux/arm/v6", 0), ("linux/arm/v7", 1), ("linux/s390x", 1)],
)
def test_expected_platforms(expected: str, missing: int) -> None:
    """Without a variant any will do."""
    findings = Findings()
    there = [Platform.parse("linux/amd64"), Platform.parse("linux/arm/v6")]
    check_expected(there, [Platform.parse(expected)], findings)
    assert [finding.check for finding in findings.all()] == ["MF105"] * missing


@pytest.mark.parametrize(
    ("claimed", "own", "found"),
    [
        ("linux/arm64", "linux/arm64", []),
        ("linux/arm64/v8", "linux/arm64", []),
        ("linux/arm/v7", "linux/arm", []),
        ("linux/arm64", "linux/amd64", [("error", "MF101")]),
        ("linux/arm/v7", "linux/arm/v6", [("error", "MF101")]),
        ("linux/arm", "linux/arm/v6", [("warning", "MF101")]),
        ("", "linux/amd64", []),
        ("", "linux/nonsense", [("error", "MF104")]),
    ],
)
def test_index_against_configuration(claimed: str, own: str, found: list[tuple[str, str]]) -> None:
    """The index decides what is pulled, the configuration what the image is."""
    os, architecture, *variant = own.split("/")
    config = f'{{"os": "{os}", "architecture": "{architecture}", "variant": "{"".join(variant)}"}}'
    findings = Findings()
    manifest = Manifest({"config": image(None).to_json(), "layers": []})
    check_config(
        Platform.parse(claimed) if claimed else None, ImageConfig(config.encode()), manifest, findings
    )
    assert [(finding.severity, finding.check) for finding in findings.all()] == found


def test_thousands_of_the_same_are_counted() -> None:
    """A hostile image does not fill the memory with findings."""
    findings = Findings()
    for i in range(3000):
        findings.add("MF201", "x", path=f"/{i}")
    assert len(findings.all()) == 1001
    assert "2000 more" in findings.all()[-1].message


def test_ids_are_in_order_and_named_once() -> None:
    """As the page lists them."""
    assert list(CHECKS) == sorted(CHECKS)
    assert len({check.name for check in CHECKS.values()}) == len(CHECKS)
