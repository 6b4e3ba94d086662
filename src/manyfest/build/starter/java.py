# SPDX-License-Identifier: Apache-2.0
"""Java: compiled once, for a base with a Java of each platform."""

from __future__ import annotations

import os
import re
from xml.etree import ElementTree

from manyfest.build.starter.recipe import Recipe, Wish, found, plain, read_text
from manyfest.errors import InvalidProject

__all__ = ["java", "maven"]

_BASE = "ARG BASE=docker.io/library/eclipse-temurin:21-jre\nFROM $BASE\n"
_PLATFORMS = ("linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x", "linux/riscv64")
"""Those of the base; it has none for 32-bit ARM."""

_MAIN = re.compile(r"\bpublic\s+static\s+void\s+main\s*\(\s*(?:final\s+)?String\b")
_PACKAGE = re.compile(r"^\s*package\s+([\w.]+)\s*;", re.MULTILINE)
_EPOCH = "1980-01-01T00:00:02Z"
"""The first second that archives of Java can say; any fixed one makes the same archive on every machine."""

_CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55"
_SELF_STARTING = ("spring-boot-maven-plugin", "maven-shade-plugin", "maven-assembly-plugin")


def java(wish: Wish) -> Recipe:
    """javac and jar, without anything else. Raises :class:`InvalidProject` where no class can be started."""
    source = next((name for name in ("src/main/java", "src") if os.path.isdir(wish.path(name))), ".")
    main = _main_class(wish, source)
    output = f"out/{wish.name}.jar"
    text = f"""\
compile:
  toolchain: java
  run: >-
    rm -rf {{build}}/classes && find {source} -name '*.java' -exec javac --release 17 -d {{build}}/classes {{}} + &&
    mkdir -p {{out}}/out && jar --create --date={_EPOCH} --file {{out}}/{output} --main-class {main}
    -C {{build}}/classes .
  outputs: [{output}]
"""
    start = (
        f'COPY {output} /{wish.name}.jar\nUSER 65532:65532\nENTRYPOINT ["java", "-jar", "/{wish.name}.jar"]\n'
    )
    return Recipe(text, _BASE + start, needs="java", platforms=_PLATFORMS)


def maven(wish: Wish) -> Recipe:
    """``mvn package``, and what the program needs at run time beside its own archive."""
    wish.require("pom.xml", "--kind java is for javac alone")
    pom = _pom(wish)
    artifact = pom.findtext("artifactId", "").strip()
    if not artifact:
        raise InvalidProject(f"{wish.path('pom.xml')}: no artifactId", hint="--kind java is for javac alone")
    if pom.findtext("packaging", "").strip() == "pom":
        raise InvalidProject(
            f"{wish.path('pom.xml')}: packaging pom makes no program",
            hint="run init in the folder of the module",
        )
    name, needs_others = plain(artifact, "pom.xml: the artifactId"), ""
    if _starts_itself(pom):
        start = f'ENTRYPOINT ["java", "-jar", "/app/{wish.name}.jar"]\n'
    else:
        main = _main_class(wish, "src/main/java")
        start = f'ENTRYPOINT ["java", "-cp", "/app/*", "{main}"]\n'
        scopes = {
            each.findtext("scope", "compile").strip() for each in pom.iterfind("dependencies/dependency")
        }
        if scopes - {"test", "provided", "import"}:
            needs_others = (
                " dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory={out}/out/app"
            )
    text = f"""\
compile:
  toolchain: java
  # The tag says that target is a cache, whose files are no reason to build again.
  run: >-
    mkdir -p target {{out}}/out/app && echo '{_CACHE_TAG}' > target/CACHEDIR.TAG && rm -f target/*.jar &&
    mvn --batch-mode --quiet -DskipTests -Dproject.build.outputTimestamp={_EPOCH} package{needs_others} &&
    cp target/{name}-*.jar {{out}}/out/app/{wish.name}.jar
  outputs: [out/app]
"""
    dockerfile = f"{_BASE}COPY out/app /app\nUSER 65532:65532\n{start}"
    return Recipe(text, dockerfile, needs="maven", platforms=_PLATFORMS, ignored=("target",))


def _pom(wish: Wish) -> ElementTree.Element:
    """The project's model, whose names have no namespace then."""
    path = wish.path("pom.xml")
    text = read_text(path)
    if "<!DOCTYPE" in text:
        # A few lines of entities can grow to gigabytes, and no pom.xml needs any.
        raise InvalidProject(f"{path}: expected no DOCTYPE")
    try:
        pom = ElementTree.fromstring(text)  # noqa: S314 - without a DOCTYPE there are no entities
    except ElementTree.ParseError as error:
        raise InvalidProject(f"{path}: {error}", hint="--kind java is for javac alone") from error
    for element in pom.iter():
        element.tag = element.tag.rpartition("}")[2]
    return pom


def _starts_itself(pom: ElementTree.Element) -> bool:
    """Does the archive say which class to start, and bring what that needs?"""
    plugins = {(each.findtext("artifactId") or "").strip() for each in pom.iter("plugin")}
    return next(pom.iter("mainClass"), None) is not None or not plugins.isdisjoint(_SELF_STARTING)


def _main_class(wish: Wish, source: str) -> str:
    classes = []
    for path in found(wish.path(source), ".java"):
        text = read_text(os.path.join(wish.path(source), path))
        if _MAIN.search(text):
            package = _PACKAGE.search(text)
            name = os.path.basename(path).removesuffix(".java")
            classes.append(f"{package[1]}.{name}" if package else name)
    if not classes:
        raise InvalidProject(
            f"{wish.path(source)}: no class with public static void main(String[] …)",
            hint="init writes how the program is started, and has to know",
        )
    best = next(
        (name for name in classes if name.rpartition(".")[2] in ("Main", "App", "Application")), classes[0]
    )
    return plain(best, "the class to start")
