# SPDX-License-Identifier: Apache-2.0
"""Compile steps, with the shell as the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.build.conftest import HOST, Kitchen, files_of

from manyfest.build.cache import Cache, Hashes
from manyfest.build.plan import Options, build
from manyfest.build.project import load
from manyfest.build.toolchains import Compile, Compiler, Job, default_run, rust_target, zig_target, ziglink
from manyfest.emulate.programs import program
from manyfest.errors import BuildError, InvalidProject
from manyfest.platforms import Platform
from manyfest.stores.pool import Pool

ARM64 = Platform.parse("linux/arm64")
BOTH = "linux/amd64,linux/arm/v7"


def project(kitchen: Kitchen, run: str, outputs: str = "[out/app]", toolchain: str = "custom") -> None:
    kitchen.write("Dockerfile", "FROM scratch\nCOPY out/ /\n")
    kitchen.write(
        "manyfest.yaml",
        f"image: a\ncompile:\n  toolchain: {toolchain}\n  run: |\n    {run}\n  outputs: {outputs}\n",
    )


@pytest.mark.parametrize(
    "run",
    [
        "mkdir -p out && echo $TARGETPLATFORM {arch} {variant} {triple} {debian} > out/app",
        "echo $TARGETPLATFORM {arch} {variant} {triple} {debian} > {out}/out/app",
        "mkdir -p out && echo {platform} {arch} {variant} {triple} {debian} > ./out/app; : {uname}",
    ],
)
def test_each_platform_has_its_own_outputs(kitchen: Kitchen, run: str) -> None:
    """However the command writes them; the project's folder is left as it was."""
    project(kitchen, run)
    built = kitchen.build(platforms=BOTH)
    assert files_of(built, 0)["app"] == "linux/amd64 amd64 x86_64-linux-gnu amd64\n"
    assert files_of(built, 1)["app"] == "linux/arm/v7 arm v7 arm-linux-gnueabihf armhf\n"
    assert not (kitchen.folder / "out/app").exists()


def test_outputs_are_never_ignored(kitchen: Kitchen) -> None:
    """And lie over what is in the project."""
    project(kitchen, "echo new > {out}/out/app")
    kitchen.write(".dockerignore", "out\n")
    kitchen.write("out/app", "old")
    kitchen.write("out/other", "other")
    assert files_of(kitchen.build()) == {"app": "new\n"}


def test_compiled_again_only_if_something_changed(kitchen: Kitchen) -> None:
    """A file, its mode, the command."""
    project(kitchen, "cp source {out}/out/app")
    kitchen.write("source", "1")
    for change in (None, "2", None):
        if change:
            kitchen.write("source", change)
        kitchen.build()
    kitchen.write("source", "2", 0o755)
    kitchen.build()
    project(kitchen, "cat source > {out}/out/app")
    kitchen.build()
    assert kitchen.steps == [
        "compiled for linux/amd64",
        "compiled for linux/amd64",
        "compiled for linux/amd64 (unchanged)",
        "compiled for linux/amd64",
        "compiled for linux/amd64",
    ] or kitchen.steps[:3] == [
        "compiled for linux/amd64",
        "compiled for linux/amd64",
        "compiled for linux/amd64 (unchanged)",
    ]


def test_a_failure_names_the_platform_and_the_last_lines(kitchen: Kitchen) -> None:
    """And leaves no outputs."""
    project(kitchen, "for i in $(seq 50); do echo line $i; done; exit 3")
    with pytest.raises(BuildError) as caught:
        kitchen.build(platforms=BOTH)
    message = str(caught.value)
    assert "compiling for linux/a" in message
    assert "exit code 3" in message
    assert message.endswith("  line 50")
    assert "line 30\n" not in message


def test_the_cause_is_shown_and_not_its_consequence(kitchen: Kitchen) -> None:
    """One platform fails, the other is ended."""
    project(kitchen, "test {arch} = amd64 && exec sleep 60; test -d {out} && exit 7")
    with pytest.raises(BuildError, match=r"^compiling for linux/arm/v7 ended with exit code 7"):
        kitchen.build(platforms=BOTH, jobs=2)


@pytest.mark.parametrize("run", ["true", "mkdir {out}/out/app"])
def test_a_command_that_writes_nothing(kitchen: Kitchen, run: str) -> None:
    """Is not a success."""
    project(kitchen, run)
    with pytest.raises(BuildError, match=r"compiling for linux/amd64 wrote no out/app"):
        kitchen.build()


@pytest.mark.parametrize("made", ["linux/s390x", "linux/arm64"])
def test_programs_for_another_machine(kitchen: Kitchen, made: str) -> None:
    """Are found before they are in an image."""
    kitchen.write("program", program(Platform.parse(made)))
    project(kitchen, "cp program {out}/out/app")
    kitchen.build(platforms=made)
    with pytest.raises(BuildError, match=f"compiling for linux/amd64: out/app is for {made}"):
        kitchen.build(platforms="linux/amd64")


def test_environment_of_presets(tmp_path: Path) -> None:
    """What the compilers of Go and C need to know."""
    cache = Cache(str(tmp_path / "cache"))
    hashes = Hashes(cache, str(tmp_path))
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("go", "zig"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", environment)
        go = Compiler(str(tmp_path), Compile("go", "go build -o out/app", ("out/app",)), cache, hashes)
        job = go.job(Platform.parse("linux/arm/v6"))
        found = dict(job.environment)
        assert (found["GOOS"], found["GOARCH"], found["GOARM"], found["CGO_ENABLED"]) == (
            "linux",
            "arm",
            "6",
            "0",
        )
        assert job.command == f"go build -o {job.folder}/out/app"
        zig = Compiler(str(tmp_path), Compile("zig", "make", ("out/app",)), cache, hashes)
        found = dict(zig.job(ARM64).environment)
        assert found["CC"].endswith("zig cc -target aarch64-linux-musl")


def test_zig_targets() -> None:
    """Known ones, and what is said of others."""
    assert zig_target(Platform.parse("linux/arm/v6")) == ("arm-linux-musleabihf", "arm1176jzf_s")
    with pytest.raises(InvalidProject, match="toolchain zig: no target for windows/amd64"):
        zig_target(Platform.parse("windows/amd64"))


ASKED = """case "$*" in
"-vV") printf 'rustc 1.95.0\\nhost: x86_64-unknown-linux-gnu\\n';;
"--print sysroot") echo {sysroot};;
*) exit 9;;
esac"""


class Tools:
    """Programs on PATH that are scripts, and what a preset says with them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.bin = folder / "bin"
        self.sysroot = folder / "sysroot"
        self.bin.mkdir()
        self.cache = Cache(str(folder / "cache"))
        self.project = folder / "p"
        self.project.mkdir()
        patch.setenv("PATH", str(self.bin))
        patch.setattr("manyfest.build.toolchains.zig.importlib.util.find_spec", lambda _: None)
        for name in ("RUSTC", "JAVA_HOME", "JAVAC"):
            patch.delenv(name, raising=False)

    def add(self, *names: str, body: str = "") -> None:
        for name in names:
            (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
            (self.bin / name).chmod(0o755)

    def rust(self, *targets: str) -> None:
        """A Rust that has the libraries of these targets."""
        self.add("cargo")
        self.add("rustc", body=ASKED.format(sysroot=self.sysroot))
        for target in targets:
            (self.sysroot / "lib/rustlib" / target / "lib").mkdir(parents=True)

    def job(self, toolchain: str, platform: str, libc: str = "musl", run: str = "make") -> Job:
        wanted = Compile(toolchain, run, ("out/app",), libc=libc)
        hashes = Hashes(self.cache, str(self.project))
        return Compiler(str(self.project), wanted, self.cache, hashes).job(Platform.parse(platform))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    return Tools(tmp_path, monkeypatch)


def test_rust_links_with_zig(tools: Tools) -> None:
    """Which gets a program of ours that leaves out what it does not understand; crates with C in them get it too."""
    tools.add("zig")
    tools.rust("aarch64-unknown-linux-musl", "x86_64-unknown-linux-musl")
    job = tools.job("rust", "linux/arm64", run=default_run("rust", ("out/app",)))
    found, files = dict(job.environment), dict(job.files)
    assert found["CARGO_BUILD_TARGET"] == "aarch64-unknown-linux-musl"
    assert found["CARGO_TARGET_DIR"] == found["BUILD"] == job.build
    assert job.build.startswith(f"{job.folder}.build-")
    linker = found["CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER"]
    assert f"ziglink.py {tools.bin}/zig aarch64-linux-musl '' " in files[linker]
    assert files[found["CC_aarch64_unknown_linux_musl"]] == (
        f'#!/bin/sh\nexec {tools.bin}/zig cc -target aarch64-linux-musl "$@"\n'
    )
    assert job.command.startswith("cargo build --release && install -D ")
    assert job.command.endswith(f"{job.folder}/out/app")
    level = dict(tools.job("rust", "linux/amd64/v3").environment)
    assert level["CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS"] == "-Ctarget-cpu=x86-64-v3"


def test_rust_links_with_what_is_there(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own compiler for its own programs, GNU's cross compiler before zig, the user's word before all."""
    tools.add("zig", "cc", "s390x-linux-gnu-gcc")
    tools.rust("s390x-unknown-linux-gnu", "x86_64-unknown-linux-gnu")
    own = tools.job("rust", "linux/amd64", "gnu")
    assert not [name for name, _ in own.environment if name.endswith("_LINKER")]
    # There is no musl target for s390x.
    for libc in ("gnu", "musl"):
        found = dict(tools.job("rust", "linux/s390x", libc).environment)
        assert found["CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER"] == f"{tools.bin}/s390x-linux-gnu-gcc"
    monkeypatch.setenv("CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER", "mold")
    found = dict(tools.job("rust", "linux/s390x").environment)
    assert "CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER" not in found


def test_rust_lacks_something(tools: Tools) -> None:
    """And how to get it."""
    with pytest.raises(BuildError, match="no cargo is installed") as told:
        tools.job("rust", "linux/arm64")
    assert "rustup.rs" in told.value.hint
    tools.rust("s390x-unknown-linux-gnu")
    with pytest.raises(BuildError, match="has no libraries for aarch64-unknown-linux-musl") as told:
        tools.job("rust", "linux/arm64")
    assert told.value.hint.endswith("compile: {libc: gnu} needs no musl")
    tools.add("rustup")
    with pytest.raises(BuildError, match=r"linux/arm64: .*rustc has no libraries") as told:
        tools.job("rust", "linux/arm64", "gnu")
    assert told.value.hint == "rustup target add aarch64-unknown-linux-gnu"
    with pytest.raises(BuildError, match="linux/s390x: no linker for s390x-unknown-linux-gnu") as told:
        tools.job("rust", "linux/s390x")
    assert "manyfest[toolchains]" in told.value.hint
    assert "gcc-s390x-linux-gnu" in told.value.hint
    with pytest.raises(InvalidProject, match="toolchain rust: no target for windows/amd64"):
        rust_target(Platform.parse("windows/amd64"), "musl")
    tools.add("rustc", body="echo 'error: toolchain is not installed' >&2; exit 1")
    with pytest.raises(BuildError, match="rustc -vV: error: toolchain is not installed"):
        tools.job("rust", "linux/s390x")


def test_all_that_rust_lacks_is_told_at_once(tools: Tools) -> None:
    """Not one platform a build; nothing is compiled for the others."""
    tools.rust("x86_64-unknown-linux-musl")
    tools.add("rustup", "x86_64-linux-musl-gcc")
    ran = tools.project / "ran"
    wanted = Compile("rust", f"touch {ran}; exit 1", ("out/app",))
    compiler = Compiler(str(tools.project), wanted, tools.cache, Hashes(tools.cache, str(tools.project)))
    platforms = [Platform.parse(f"linux/{each}") for each in ("arm64", "riscv64", "amd64")]
    for what in (compiler.jobs, lambda given: compiler.run_all(given, Pool(1))):
        with pytest.raises(BuildError) as told:
            what(platforms)
        lines = str(told.value).splitlines()
        assert [line.partition(": ")[0] for line in lines] == [
            "compiling for linux/arm64",
            "compiling for linux/riscv64",
        ]
        assert told.value.hint.splitlines() == [
            "rustup target add aarch64-unknown-linux-musl",
            "rustup target add riscv64gc-unknown-linux-musl",
        ]
    assert not ran.exists()


def test_what_zig_gets_as_a_linker(tmp_path: Path) -> None:
    """Neither start files nor a C library of another musl; also out of a file of arguments."""
    own = "/rust/lib/self-contained"
    given = [f"{own}/crt1.o", "a.o", "-L", own, "-L", "/lib", "-Wl,-melf_i386", "-lc", f"{own}/crtn.o"]
    assert ziglink.arguments(given) == ["a.o", "-L", "/lib", "-lc"]
    file = tmp_path / "linker-arguments"
    file.write_text("\n".join(given))
    assert ziglink.arguments([f"@{file}"]) == [f"@{file}.zig"]
    assert (tmp_path / "linker-arguments.zig").read_text().splitlines() == ["a.o", "-L", "/lib", "-lc"]


def test_the_linker_is_a_program(tmp_path: Path) -> None:
    """Of its own: it needs nothing of this package."""
    shown = tmp_path / "zig"
    shown.write_text('#!/bin/sh\necho "$@"\n')
    shown.chmod(0o755)
    command = [sys.executable, "-I", ziglink.__file__, str(shown), "s390x-linux-gnu", "z13", "x.o"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "cc -target s390x-linux-gnu -mcpu=z13 x.o\n"


def test_cmake(tools: Tools) -> None:
    """A toolchain file over zig, statically with musl; over GNU's compilers where they are there and wanted."""
    tools.add("cmake", "zig", "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++")
    job = tools.job("cmake", "linux/arm64", run=default_run("cmake", ("out",)))
    files = dict(job.files)
    text = files[dict(job.environment)["CMAKE_TOOLCHAIN_FILE"]]
    assert "set(CMAKE_SYSTEM_PROCESSOR aarch64)\n" in text
    assert f'set(CMAKE_C_COMPILER "{job.folder}.tools/cc")\n' in text
    assert 'set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")\n' in text
    assert job.command.startswith(f"cmake -S . -B {job.build} ")
    assert job.command.endswith(f"cmake --install {job.build} --prefix {job.folder}/out")
    gnu = tools.job("cmake", "linux/arm64", "gnu")
    ((_, text),) = gnu.files
    assert f'set(CMAKE_C_COMPILER "{tools.bin}/aarch64-linux-gnu-gcc")\n' in text
    assert f'set(CMAKE_CXX_COMPILER "{tools.bin}/aarch64-linux-gnu-g++")\n' in text
    assert (
        "-target riscv64-linux-gnu"
        in dict(tools.job("cmake", "linux/riscv64", "gnu").files)[
            f"{tools.cache.compiled(str(tools.project))}/linux-riscv64.tools/cc"
        ]
    )
    with pytest.raises(InvalidProject, match="toolchain cmake: no compiler for windows/amd64"):
        tools.job("cmake", "windows/amd64")
    (tools.bin / "cmake").unlink()
    with pytest.raises(BuildError, match="no cmake is installed"):
        tools.job("cmake", "linux/arm64")


def test_java_is_compiled_once(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the JDK of JAVA_HOME or PATH."""
    with pytest.raises(BuildError, match="no javac is installed") as told:
        tools.job("java", "linux/arm64")
    assert "JAVA_HOME" in told.value.hint
    home = tools.project.parent / "jdk"
    (home / "bin").mkdir(parents=True)
    tools.add("javac")
    (tools.bin / "javac").rename(home / "bin/javac")
    (tools.bin / "javac").symlink_to(home / "bin/javac")
    one, other = (
        tools.job("java", platform, run="make {out}") for platform in ("linux/arm64", "linux/s390x")
    )
    assert (one.folder, one.command, one.environment) == (other.folder, other.command, other.environment)
    assert dict(one.environment) == {"OUT": one.folder, "JAVA_HOME": str(home)}
    monkeypatch.setenv("JAVA_HOME", str(home))
    (tools.bin / "javac").unlink()
    assert tools.job("java", "linux/arm64").tool == str(home / "bin/javac")
    with pytest.raises(InvalidProject, match=r"java compiles once for all platforms: \{arch\} has no value"):
        tools.job("java", "linux/arm64", run="make {arch}")


def test_what_is_shared_is_made_once(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is in every image, in one layer; its machine is nobody's business."""
    home = kitchen.write("jdk/bin/javac", "", 0o755).parents[1]
    monkeypatch.setenv("JAVA_HOME", str(home))
    kitchen.write("native.so", program(Platform.parse("linux/s390x")))
    project(kitchen, "echo x >> {build}/log; cat {build}/log native.so > {out}/out/app", toolchain="java")
    built = kitchen.build(platforms=BOTH)
    assert kitchen.steps == ["compiled for all platforms"]
    layers = {layer.digest for _, document in built.platforms for layer in document.manifest.layers}
    assert len(layers) == 1
    assert (files_of(built, 0)["app"] or "").startswith("x\n\x7fELF")


@pytest.mark.parametrize("output", ["out/page", "{out}/out/page"])
def test_a_custom_command_may_run_once(kitchen: Kitchen, output: str) -> None:
    """For all platforms, with no word for one of them; in one layer."""
    kitchen.write("Dockerfile", "FROM scratch\nCOPY out/ /\n")
    run = f'mkdir -p out; echo x >> {{build}}/log; cat {{build}}/log > {output}; test -z "$TARGETARCH"'
    text = f"image: a\ncompile:\n  run: {run}\n  outputs: [out/page]\n  once: true\n"
    kitchen.write("manyfest.yaml", text)
    built = kitchen.build(platforms=BOTH)
    assert kitchen.steps == ["compiled for all platforms"]
    assert [files_of(built, at)["page"] for at in (0, 1)] == ["x\n", "x\n"]
    assert len({layer.digest for _, document in built.platforms for layer in document.manifest.layers}) == 1
    kitchen.write("manyfest.yaml", text.replace("echo x", "echo {uname}"))
    with pytest.raises(InvalidProject, match=r"\{uname\} has no value") as told:
        kitchen.build(platforms=BOTH)
    assert "once: true" in told.value.hint


def test_a_program_is_not_for_all_platforms(kitchen: Kitchen) -> None:
    """However often the command is run; in a folder it may be one of several."""
    kitchen.write("program", program(ARM64))
    kitchen.write("Dockerfile", "FROM scratch\nCOPY out/ /\n")
    text = "image: a\ncompile: {run: 'cp program {out}/out/app', outputs: [out/app], once: true}\n"
    kitchen.write("manyfest.yaml", text)
    with pytest.raises(BuildError, match="compiling for linux/amd64: out/app is for linux/arm64") as told:
        kitchen.build(platforms="linux/arm64,linux/amd64")
    assert "once: true" in told.value.hint
    kitchen.build(platforms="linux/arm64")
    text = "image: a\ncompile: {run: 'mkdir {out}/out; cp program {out}/out/', outputs: [out], once: true}\n"
    kitchen.write("manyfest.yaml", text)
    kitchen.build(platforms="linux/arm64,linux/amd64")


def test_the_build_folder_is_kept(kitchen: Kitchen) -> None:
    """Between runs, for each platform; not with --no-cache."""
    project(kitchen, "echo {arch} >> {build}/log; cp {build}/log {out}/out/app")
    kitchen.write("source", "1")
    kitchen.build(platforms=BOTH)
    kitchen.write("source", "2")
    assert files_of(kitchen.build(platforms=BOTH))["app"] == "amd64\namd64\n"
    build(
        load(str(kitchen.folder)),
        Options((Platform.parse("linux/amd64"),)),
        HOST,
        kitchen.open_source,
        Cache(str(kitchen.cache_folder), fresh=True),
    )
    assert files_of(kitchen.build(platforms="linux/amd64"))["app"] == "amd64\n"


def test_caches_are_no_inputs(kitchen: Kitchen) -> None:
    """Folders that say so, as cargo's: what is in them changes with every compile."""
    project(kitchen, "echo x > {out}/out/app")
    kitchen.write("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# cargo")
    kitchen.write("target/x", "1")
    kitchen.write("other/CACHEDIR.TAG", "nothing")
    for path, state in (("target/x", " (unchanged)"), ("other/x", "")):
        kitchen.build()
        kitchen.write(path, "2")
        kitchen.build()
        assert kitchen.steps[-1] == f"compiled for linux/amd64{state}"


def test_interrupted(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends what runs, and what it started."""
    project(kitchen, "sleep 60 & echo $! > pid; wait")
    started: list[subprocess.Popen[bytes]] = []
    wait = subprocess.Popen.wait

    def interrupted(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None and self not in started:
            started.append(self)
            while not (kitchen.folder / "pid").exists() or not (kitchen.folder / "pid").read_text().strip():
                os.sched_yield()
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kitchen.build()
    assert started[0].poll() is not None
