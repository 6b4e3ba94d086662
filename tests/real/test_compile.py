# SPDX-License-Identifier: Apache-2.0
"""The presets with Debian's compilers and zig: programs for two machines that run, started by this machine and QEMU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.real.debian import fetched
from tests.real.parts import Host, need

from manyfest.stores._inflate import Inflated
from manyfest.stores.layout import Layout

pytestmark = pytest.mark.real

BOTH = "linux/amd64, linux/s390x"


@pytest.fixture
def site(here: Host, zig_cache: Path) -> Host:
    """An empty project, and nothing on PATH but Debian's own."""
    need("make")
    here.env["ZIG_GLOBAL_CACHE_DIR"] = str(zig_cache)
    here.env |= {"MANYFEST_CACHE": str(here.home / "cache"), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    (here.home / "project").mkdir()
    return here


def write(site: Host, compile: str) -> Path:
    project = site.home / "project"
    (project / "Dockerfile").write_text("FROM scratch\nCOPY out /\n")
    (project / "manyfest.yaml").write_text(f"image: x\nplatforms: [{BOTH}]\ncompile: {compile}\n")
    return project


def outputs(site: Host, name: str) -> list[Path]:
    """That file of each platform, out of the images."""
    found: list[Path] = []
    with Layout(str(site.home / "out")) as layout:
        for entry in layout.resolve("1").index.manifests:
            (layer,) = layout.resolve(str(entry.digest)).manifest.layers
            folder = site.home / f"of-{len(found)}"
            folder.mkdir()
            plain = Inflated(layout.open(layer), "layer").read()
            subprocess.run(["tar", "-x", "-C", folder], input=plain, check=True)
            found.append(folder / name)
    return found


def build(site: Host) -> str:
    """What it tells, the second time."""
    site.manyfest("build", "project", "-t", "oci:out:1")
    return site.manyfest("build", "project", "-t", "oci:out:1", "-v").err


def machine(site: Host, program: Path) -> str:
    return site.run("readelf", "-h", str(program)).out.partition("Machine:")[2].split("\n")[0].strip()


def foreign_libc(site: Host) -> Path:
    """Where QEMU finds what programs for s390x load."""
    root = site.home / "s390x"
    for package in fetched("s390x", {"libc6", "libgcc-s1"}, "debian-12-rust").values():
        site.run("dpkg-deb", "-x", str(package), str(root))
    return root


def test_cmake(site: Host) -> None:
    """A library and a program: GNU's compiler for this machine, zig for the other one."""
    need("cmake", "gcc")
    lists = (
        "cmake_minimum_required(VERSION 3.20)\nproject(hello C)\nfind_package(ZLIB)\nadd_library(part STATIC part.c)\n"
        "add_executable(hello main.c)\ntarget_link_libraries(hello part)\ninstall(TARGETS hello)\n"
    )
    project = write(site, "{toolchain: cmake, libc: gnu, outputs: [out]}")
    for name, text in (
        ("CMakeLists.txt", lists),
        ("part.c", "int part(void) { return 42; }\n"),
        ("main.c", '#include <stdio.h>\nint part(void);\nint main() { printf("%d\\n", part()); }\n'),
    ):
        (project / name).write_text(text)
    assert build(site).count("(unchanged)") == 2
    own, other = outputs(site, "bin/hello")
    assert site.run(str(own)).out == "42\n"
    assert machine(site, other) == "IBM S/390"
    assert site.run("qemu-s390x-static", "-L", str(foreign_libc(site)), str(other)).out == "42\n"


def test_rust(site: Host) -> None:
    """Debian's Rust for this machine with its own linker; for the other with its libraries, and zig as linker."""
    need("cargo")
    need("rustc")
    unpacked = site.home / "std"
    (std,) = fetched("s390x", {"libstd-rust-dev"}, "debian-12-std").values()
    site.run("dpkg-deb", "-x", str(std), str(unpacked))
    libraries = site.home / "sysroot/lib/rustlib"
    libraries.mkdir(parents=True)
    for folder in (Path("/usr/lib/rustlib"), unpacked / "usr/lib/rustlib"):
        for target in folder.glob("*-linux-gnu"):
            (libraries / target.name).symlink_to(target)
    rustc = site.home / "rustc"
    rustc.write_text(f'#!/bin/sh\nexec /usr/bin/rustc --sysroot {site.home}/sysroot "$@"\n')
    rustc.chmod(0o755)
    site.env["RUSTC"] = str(rustc)
    project = write(site, "{toolchain: rust, libc: gnu, outputs: [out/app]}")
    (project / "src").mkdir()
    (project / "Cargo.toml").write_text('[package]\nname = "app"\nversion = "1.0.0"\nedition = "2021"\n')
    (project / "src/main.rs").write_text(
        "fn main() {\n    let caught = std::panic::catch_unwind(|| panic!());\n"
        '    println!("{} {}", std::env::consts::ARCH, caught.is_err());\n}\n'
    )
    site.run("cargo", "generate-lockfile", "--offline", "--manifest-path", str(project / "Cargo.toml"))
    assert build(site).count("(unchanged)") == 2
    own, other = outputs(site, "app")
    assert site.run(str(own)).out == "x86_64 true\n"
    ran = site.run("qemu-s390x-static", "-L", str(foreign_libc(site)), str(other))
    assert ran.out == "s390x true\n"


def test_java(site: Host) -> None:
    """Once for both, one layer."""
    need("javac", package="openjdk-17-jdk-headless")
    run = (
        "javac --release 17 -d {build} Main.java && jar --create --date=1980-01-01T00:00:02Z "
        "--file {out}/out/app.jar --main-class Main -C {build} Main.class"
    )
    project = write(site, f"{{toolchain: java, run: '{run}', outputs: [out/app.jar]}}")
    (project / "Main.java").write_text(
        'public class Main { public static void main(String[] a) { System.out.println("java"); } }\n'
    )
    assert "compiled for all platforms (unchanged)" in build(site)
    own, other = outputs(site, "app.jar")
    assert own.read_bytes() == other.read_bytes()
    assert site.run("java", "-jar", str(own)).out == "java\n"
    shown = site.manyfest("build", "project", "-t", "oci:out:1", "--json").json
    assert len({layer for each in shown["platforms"] for layer in each["layers"]}) == 1
