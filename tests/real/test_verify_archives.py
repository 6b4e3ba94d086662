# SPDX-License-Identifier: Apache-2.0
"""Jars made by Java's own tool, and wheels, of Debian's native libraries: what fits is fine, what does not is told."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest
from tests.real import debian
from tests.real.parts import need
from tests.real.verify_bench import Bench, File

pytestmark = pytest.mark.real

# As JNA names its folders.
FOLDERS = {
    "amd64": "linux-x86-64",
    "arm64": "linux-aarch64",
    "armhf": "linux-arm",
    "ppc64el": "linux-ppc64le",
    "s390x": "linux-s390x",
}
architectures = pytest.mark.parametrize("architecture", list(debian.ARCHITECTURES))


class Jars:
    """Makes jars with ``jar``, which writes the sizes of compressed members behind their content."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        need("jar", package="openjdk-17-jdk-headless")
        self.bench = bench
        self.folder = folder
        self._made: dict[Hashable, bytes] = {}

    def make(self, libraries: dict[str, str], *options: str, jars: Sequence[bytes] = ()) -> bytes:
        """A jar with JNA's library in these folders, of these architectures, and other jars in ``lib``."""
        key = (*libraries.items(), options, *jars)
        if key not in self._made:
            self._made[key] = self._jar(libraries, options, jars)
        return self._made[key]

    def _jar(self, libraries: dict[str, str], options: Sequence[str], jars: Sequence[bytes]) -> bytes:
        number = len(self._made)
        top = self.folder / str(number)
        for name, architecture in libraries.items():
            path = top / "com/sun/jna" / name / "libjnidispatch.so"
            path.parent.mkdir(parents=True)
            path.write_bytes(self.bench.native[architecture])
        for i, inner in enumerate(jars):
            (top / "BOOT-INF/lib").mkdir(parents=True, exist_ok=True)
            (top / f"BOOT-INF/lib/{i}.jar").write_bytes(inner)
        out = self.folder / f"{number}.jar"
        subprocess.run(["jar", f"-c{''.join(options)}f", str(out), "-C", str(top), "."], check=True)
        return out.read_bytes()

    def of(self, *names: str) -> dict[str, str]:
        """Each architecture's library in the folder of its name."""
        return {FOLDERS[name]: name for name in names}


@pytest.fixture(scope="module")
def jars(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Jars:
    """One folder for all."""
    return Jars(bench, tmp_path_factory.mktemp("jars"))


def found(bench: Bench, architecture: str, files: dict[str, bytes]) -> list[str]:
    """Ids and severities of what is said of these files, in an image of the architecture."""
    with_modes: dict[str, File] = {path: (data, 0o644) for path, data in files.items()}
    report = bench.verify(bench.image(architecture, with_modes))
    about = {f"/{path}" for path in files}
    return [f"{each.check} {each.severity}" for each in report.findings if each.path in about]


@architectures
@pytest.mark.parametrize("options", ["", "0"], ids=["compressed", "stored"])
def test_a_jar_for_many_platforms_is_fine_where_one_fits(
    bench: Bench, jars: Jars, architecture: str, options: str
) -> None:
    """As JNA's own jar is made, alone and in a jar as Spring Boot makes it; without the platform's it is a note."""
    others = [name for name in FOLDERS if name != architecture]
    whole, lacking = jars.make(jars.of(*FOLDERS), *options), jars.make(jars.of(*others), *options)
    assert found(bench, architecture, {"app/jna.jar": whole}) == []
    assert found(bench, architecture, {"app/app.jar": jars.make({}, *options, jars=[whole])}) == []
    assert found(bench, architecture, {"app/jna.jar": lacking}) == ["MF209 note"]
    assert found(bench, architecture, {"app/app.jar": jars.make({}, *options, jars=[lacking])}) == [
        "MF209 note"
    ]


@architectures
def test_a_jar_made_for_the_builders_machine(bench: Bench, jars: Jars, architecture: str) -> None:
    """With the one library of another machine; fine beside its sibling for this one."""
    other = "s390x" if architecture != "s390x" else "arm64"
    ours, theirs = jars.make(jars.of(architecture)), jars.make(jars.of(other))
    names = {name: f"opt/x-1.0-{FOLDERS[name].removeprefix('linux-')}.jar" for name in (architecture, other)}
    assert found(bench, architecture, {"opt/x.jar": theirs}) == ["MF209 warning"]
    assert found(bench, architecture, {names[other]: theirs}) == ["MF209 warning"]
    assert found(bench, architecture, {names[other]: theirs, names[architecture]: ours}) == []


@architectures
def test_a_library_under_another_architectures_name(bench: Bench, jars: Jars, architecture: str) -> None:
    """The name promises the platform, the content is another's."""
    other = "s390x" if architecture != "s390x" else "arm64"
    liar = jars.make({FOLDERS[architecture]: other, **jars.of(other)})
    assert found(bench, architecture, {"opt/x.jar": liar}) == ["MF209 warning"]


@architectures
def test_wheels(bench: Bench, architecture: str, tmp_path: Path) -> None:
    """For another platform on purpose, by its name; or against its name."""
    tags = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l", "ppc64el": "ppc64le", "s390x": "s390x"}
    other = "s390x" if architecture != "s390x" else "arm64"

    def wheel(of: str) -> bytes:
        path = tmp_path / f"{of}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x/_fast.abi3.so", bench.native[of])
            archive.writestr("x-1.dist-info/WHEEL", "Root-Is-Purelib: false\n")
        return path.read_bytes()

    ours, theirs = (f"w/x-1-cp39-abi3-manylinux_2_17_{tags[name]}.whl" for name in (architecture, other))
    assert found(bench, architecture, {ours: wheel(architecture), theirs: wheel(other)}) == ["MF202 note"]
    assert found(bench, architecture, {ours: wheel(other)}) == ["MF208 warning"]
