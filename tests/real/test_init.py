# SPDX-License-Identifier: Apache-2.0
"""What ``init`` writes is built with the real compilers, for two platforms, and what comes out is started."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.real.parts import Host, find_go, need

from manyfest.content.document import ImageConfig
from manyfest.emulate.programs import program
from manyfest.platforms import Platform
from manyfest.stores._inflate import Inflated
from manyfest.stores.base import read
from manyfest.stores.layout import Layout

pytestmark = [pytest.mark.real, pytest.mark.slow]

BOTH = "linux/amd64,linux/s390x"
HELLO = '#include <stdio.h>\n#include "part.h"\nint main(void) { printf("hello %d\\n", part()); return 0; }\n'
PART = '#include "part.h"\nint part(void) { return 42; }\n'
C = {"hello.c": HELLO, "part.c": PART, "part.h": "int part(void);\n"}
JAVA = """\
package org.example;
public class App {
    public static void main(String[] words) { System.out.println("hello " + new Part().number()); }
}
"""
JAVA_PART = "package org.example;\nclass Part { int number() { return 42; } }\n"


class Site:
    """A project, and what its images hold."""

    def __init__(self, here: Host) -> None:
        self.here = here
        self.project = here.home / "project"
        self.project.mkdir()
        here.env["MANYFEST_CACHE"] = str(here.home / "cache")

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            (self.project / name).write_text(text)

    def init(self, kind: str, *words: str, platforms: str = BOTH) -> None:
        """It has to see by itself which kind it is."""
        command = ("init", "project", "--image", "acme/hello", "--makefile", "--platform", platforms, *words)
        assert self.here.manyfest(*command, "--json").json["kind"] == kind

    def base(self) -> tuple[str, str]:
        """In place of a base of a registry: nothing of it is started here."""
        (self.here.home / "base").mkdir()
        (self.here.home / "base/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /etc/base\n")
        self.here.manyfest("build", "base", "-t", "oci:base-built:1", "--platform", BOTH)
        return ("--build-arg", f"BASE=oci:{self.here.home}/base-built:1")

    def build(self, *words: str) -> list[tuple[Path, list[str]]]:
        """The files of each platform in a folder, and its command; twice, and the second time nothing was compiled."""
        command = ("build", "project", "-t", "oci:out:1", *words)
        self.here.manyfest(*command)
        assert "unchanged" in self.here.manyfest(*command, "-v").err
        found: list[tuple[Path, list[str]]] = []
        with Layout(str(self.here.home / "out")) as layout:
            for entry in layout.resolve("1").index.manifests:
                manifest = layout.resolve(str(entry.digest)).manifest
                folder = self.here.home / f"of-{len(found)}"
                folder.mkdir()
                for layer in manifest.layers:
                    plain = Inflated(layout.open(layer), "layer").read()
                    subprocess.run(["tar", "-x", "-C", folder], input=plain, check=True)
                config = ImageConfig(read(layout, manifest.config)).settings
                found.append((folder, config["Entrypoint"]))
        return found

    def make(self, target: str) -> str:
        """As the Makefile that was written does it; ``manyfest`` is this one."""
        wrapper = self.here.home / "bin/manyfest"
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m manyfest "$@"\n')
        wrapper.chmod(0o755)
        path = f"{wrapper.parent}:{self.here.env.get('PATH', '/usr/bin:/bin')}"
        return self.here.run("env", f"PATH={path}", "make", "-C", "project", target).out


@pytest.fixture
def site(here: Host) -> Site:
    """A home with an empty project."""
    return Site(here)


def emulated(site: Site, built: list[tuple[Path, list[str]]]) -> str:
    """What the one image for s390x says, under QEMU."""
    need("qemu-s390x-static", package="qemu-user-static")
    ((folder, (path,)),) = built
    return site.here.run("qemu-s390x-static", f"{folder}{path}").out


def test_c(site: Site, zig_cache: Path) -> None:
    """Two files and a header; the Makefile builds and verifies the same."""
    need("make")
    site.here.env["ZIG_GLOBAL_CACHE_DIR"] = str(zig_cache)
    site.write(C)
    site.init("c", platforms="linux/s390x")
    assert emulated(site, site.build()) == "hello 42\n"
    assert "sha256:" in site.make("image")


def test_cpp(site: Site, zig_cache: Path) -> None:
    """Without its library, which zig would compile for a minute; flags of the caller are heard."""
    site.here.env |= {"ZIG_GLOBAL_CACHE_DIR": str(zig_cache), "CXXFLAGS": "-nostdlib++"}
    site.write({"src/hello.cpp": HELLO, "src/part.cpp": PART, "src/part.h": C["part.h"]})
    site.init("cpp", platforms="linux/s390x")
    assert emulated(site, site.build()) == "hello 42\n"


@pytest.mark.parametrize("installs", [True, False])
def test_cmake(site: Site, installs: bool) -> None:
    """With install() and without; with this machine's compiler, which has nothing to compile first."""
    need("cmake", "make", "gcc")
    lists = "cmake_minimum_required(VERSION 3.20)\nproject(greeter C)\nadd_executable(${PROJECT_NAME} hello.c part.c)\n"
    site.write({**C, "CMakeLists.txt": lists + ("install(TARGETS greeter)\n" if installs else "")})
    site.init("cmake", "--libc", "gnu", platforms="linux/amd64")
    ((folder, command),) = site.build(*site.base())
    assert site.here.run(f"{folder}{command[0]}").out == "hello 42\n"


def test_go(site: Site, go_cache: Path) -> None:
    """A program under cmd."""
    find_go()
    site.here.env["GOCACHE"] = str(go_cache)
    main = 'package main\n\nfunc main() { print("hello ", 42, "\\n") }\n'
    site.write({"go.mod": "module example.org/hello\n\ngo 1.23\n", "cmd/hello/main.go": main})
    site.init("go")
    for (folder, command), words in zip(site.build(), ((), ("qemu-s390x-static",)), strict=True):
        assert site.here.run(*words, f"{folder}{command[0]}").err == "hello 42\n"


def test_rust(site: Site) -> None:
    """Debian's Rust has no musl, so that a base has to bring a libc; and only this machine's libraries."""
    need("cargo")
    need("rustc", "gcc")
    site.here.env["PATH"] = "/usr/bin:/bin:/usr/sbin:/sbin"
    manifest = '[package]\nname = "greeter"\nversion = "1.0.0"\nedition = "2021"\n'
    site.write({"Cargo.toml": manifest, "src/main.rs": 'fn main() { println!("hello {}", 6 * 7); }\n'})
    site.here.run("cargo", "generate-lockfile", "--offline", "--manifest-path", "project/Cargo.toml")
    site.init("rust", "--libc", "gnu", platforms="linux/amd64")
    ((folder, command),) = site.build(*site.base())
    assert site.here.run(f"{folder}{command[0]}").out == "hello 42\n"


def test_java(site: Site) -> None:
    """Two classes in a package."""
    need("javac", package="openjdk-17-jdk-headless")
    site.write({"src/org/example/App.java": JAVA, "src/org/example/Part.java": JAVA_PART})
    site.init("java")
    starts_in_both(site, site.build(*site.base()))


NEEDS = (
    "<dependencies><dependency><groupId>org.apache.commons</groupId><artifactId>commons-lang3</artifactId>"
    "<version>debian</version></dependency></dependencies>"
)


@pytest.mark.parametrize("starts_itself", [True, False])
def test_maven(site: Site, starts_itself: bool) -> None:
    """A jar that names its class; and one that does not, and needs another. All is Debian's, without network."""
    need("mvn", package="maven")
    need("javac", package="openjdk-17-jdk-headless")
    (site.here.home / ".m2").mkdir()
    settings = "<offline>true</offline><localRepository>/usr/share/maven-repo</localRepository>"
    (site.here.home / ".m2/settings.xml").write_text(f"<settings>{settings}</settings>")
    jar = (
        "<build><plugins><plugin><artifactId>maven-jar-plugin</artifactId><configuration><archive><manifest>"
        "<mainClass>org.example.App</mainClass></manifest></archive></configuration></plugin></plugins></build>"
    )
    pom = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>org.example</groupId><artifactId>greeter</artifactId><version>1.0</version>
<properties><maven.compiler.release>17</maven.compiler.release>
<project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>
{jar if starts_itself else NEEDS}</project>
"""
    sources = {"src/main/java/org/example/App.java": JAVA, "src/main/java/org/example/Part.java": JAVA_PART}
    # As its user would: HOME says where Maven keeps things, and Java does not ask for it.
    site.here.env["JAVA_TOOL_OPTIONS"] = f"-Duser.home={site.here.home}"
    site.write({"pom.xml": pom, **sources})
    if not starts_itself:
        call = 'org.apache.commons.lang3.StringUtils.lowerCase("HELLO ")'
        site.write({"src/main/java/org/example/App.java": JAVA.replace('"hello "', call)})
    site.init("maven")
    starts_in_both(site, site.build(*site.base()))


def starts_in_both(site: Site, built: list[tuple[Path, list[str]]]) -> None:
    """By the command of the image; the bytes are the same."""
    for folder, command in built:
        words = [word.replace("/", f"{folder}/", 1) if word.startswith("/") else word for word in command]
        assert site.here.run(*words).out == "hello 42\n"
    jars = [[path.read_bytes() for path in sorted(folder.rglob("*.jar"))] for folder, _ in built]
    assert jars[0] == jars[1] != []


BACKEND = '''\
"""The smallest builder of wheels: everything in src."""
import pathlib
import zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "greeter-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        for path in sorted(pathlib.Path("src").rglob("*.py")):
            wheel.write(path, path.relative_to("src"))
        meta = "Metadata-Version: 2.1\\\\nName: greeter\\\\nVersion: 1.0\\\\nRequires-Dist: native\\\\n"
        wheel.writestr("greeter-1.0.dist-info/METADATA", meta)
        tag = "Wheel-Version: 1.0\\\\nRoot-Is-Purelib: true\\\\nTag: py3-none-any\\\\n"
        wheel.writestr("greeter-1.0.dist-info/WHEEL", tag)
        wheel.writestr("greeter-1.0.dist-info/RECORD", "")
    return name
'''.replace("\\\\n", "\\n")
PYPROJECT = """\
[project]
name = "greeter"
version = "1.0"
dependencies = ["native"]
[project.scripts]
greet = "greeter.cli:main"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def native_wheel(folder: Path, uname: str, platform: str) -> None:
    """A wheel with a compiled part, for one machine."""
    tag = f"cp313-cp313-manylinux_2_17_{uname}.manylinux2014_{uname}"
    with zipfile.ZipFile(folder / f"native-2.0-{tag}.whl", "w") as wheel:
        wheel.writestr("native/__init__.py", "NUMBER = 42\n")
        wheel.writestr("native/part.so", program(Platform.parse(platform)))
        wheel.writestr("native-2.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: native\nVersion: 2.0\n")
        wheel.writestr(
            "native-2.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n"
        )
        wheel.writestr("native-2.0.dist-info/RECORD", "")


@pytest.mark.parametrize("packaged", [True, False])
def test_python(site: Site, packaged: bool) -> None:
    """A package, and a script with requirements: each platform gets its own wheel of what is compiled."""
    wheels = site.here.home / "wheels"
    wheels.mkdir()
    native_wheel(wheels, "x86_64", "linux/amd64")
    native_wheel(wheels, "s390x", "linux/s390x")
    site.here.env |= {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    site.here.env["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    code = 'from native import NUMBER\n\n\ndef main():\n    print("hello", NUMBER)\n'
    if packaged:
        files = {"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "src/greeter/__init__.py": ""}
        site.write({**files, "src/greeter/cli.py": code})
    else:
        site.write({"main.py": f"{code}\n\nmain()\n", "requirements.txt": "native==2.0  # it is compiled\n"})
    site.init("python")
    built = site.build(*site.base())
    for (folder, command), platform in zip(built, BOTH.split(","), strict=True):
        assert (folder / "app/lib/native/part.so").read_bytes() == program(Platform.parse(platform))
        assert list(folder.rglob("direct_url.json")) + list(folder.rglob("*.pyc")) == []
        site.here.env["PYTHONPATH"] = str(folder / "app/lib")
        ran = subprocess.run(
            [sys.executable, *command[1:]],
            cwd=folder / "app",
            env={"PYTHONPATH": str(folder / "app/lib"), "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
        assert ran.stdout == "hello 42\n"


def test_scripts_alone(site: Site) -> None:
    """Nothing to compile: they are copied, with their packages."""
    site.write(
        {"app.py": "import part\n\nprint('hello', part.NUMBER)\n", "part/__init__.py": "NUMBER = 42\n"}
    )
    site.init("python")
    site.here.manyfest("build", "project", "-t", "oci:out:1", *site.base())
    shown = site.here.manyfest("inspect", "oci:out:1", "--all", "--json").json
    assert {each["platform"] for each in shown["platforms"]} == set(BOTH.split(","))
    assert "part" in json.dumps(shown)
