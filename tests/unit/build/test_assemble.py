# SPDX-License-Identifier: Apache-2.0
"""What instructions do; the same against BuildKit and buildah is in tests/real/test_build.py."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from tests.unit.build.conftest import Kitchen, config_of, files_of, members_of, settings_of

from manyfest.emulate.images import write_image
from manyfest.errors import BuildError, Error, InvalidProject
from manyfest.platforms import Platform
from manyfest.testing.images import make_image, make_index


def test_settings(kitchen: Kitchen) -> None:
    """One of each."""
    built = kitchen.build(
        "FROM scratch\nENV A=1 B=$A\nENV C=$A\nLABEL x=y\nEXPOSE 80 90-91/udp\nVOLUME /v\nUSER 7\nSTOPSIGNAL 9\n"
        'SHELL ["/s", "-c"]\nCMD hi  there\nENTRYPOINT ["/e"]\nHEALTHCHECK --interval=1m1.5s CMD x\nONBUILD ENV a=b\n'
        "WORKDIR w\nWORKDIR ../v\nMAINTAINER me\n"
    )
    found = settings_of(built)
    assert found["Env"] == ["WorkingDir"] or found["Env"][1:] == ["A=1", "B=", "C=1"]
    assert found["Env"][0].startswith("PATH=/usr/local/sbin:")
    assert found["Labels"] == {"x": "y"}
    assert list(found["ExposedPorts"]) == ["80/tcp", "90/udp", "91/udp"]
    assert (found["Volumes"], found["User"], found["StopSignal"]) == ({"/v": {}}, "7", "9")
    assert (found["Shell"], found["Cmd"], found["Entrypoint"]) == (
        ["/s", "-c"],
        ["/s", "-c", "hi  there"],
        ["/e"],
    )
    assert found["Healthcheck"] == {"Test": ["CMD-SHELL", "x"], "Interval": 61_500_000_000}
    assert (found["OnBuild"], found["WorkingDir"]) == (["ENV a=b"], "/v")
    whole = config_of(built)
    assert (whole["author"], whole["created"]) == ("me", "1970-01-01T00:00:00Z")
    assert (
        len([h for h in whole["history"] if not h.get("empty_layer")])
        == len(whole["rootfs"]["diff_ids"])
        == 2
    )


def test_entrypoint_drops_the_bases_cmd(kitchen: Kitchen) -> None:
    """But not the stage's own."""
    base = kitchen.base("base")
    layers = [b"".join([tarfile.TarInfo("x").tobuf(), bytes(1024)])]
    write_image(base, Platform.parse("linux/amd64"), layers, settings={"Cmd": ["old"], "Env": ["PATH=/p"]})
    base.tag(write_image(base, Platform.parse("linux/amd64"), layers, settings={"Cmd": ["old"]}), "1")
    assert "Cmd" not in settings_of(kitchen.build('FROM base\nENTRYPOINT ["/e"]\n'))
    assert settings_of(kitchen.build('FROM base\nCMD ["new"]\nENTRYPOINT ["/e"]\n'))["Cmd"] == ["new"]


def test_platform_args_must_be_declared(kitchen: Kitchen) -> None:
    """In the stage; before FROM they are there by themselves."""
    built = kitchen.build(
        "FROM --platform=$BUILDPLATFORM scratch AS a\nFROM scratch\nENV A=${TARGETARCH:-no}\nARG TARGETARCH\n"
        "ARG TARGETVARIANT=unset\nENV B=$TARGETARCH C=$TARGETVARIANT\n",
        "linux/arm/v7,linux/s390x",
    )
    assert settings_of(built)["Env"][1:] == ["A=no", "B=arm", "C=unset"]
    assert settings_of(built, 1)["Env"][1:] == ["A=no", "B=s390x", "C=unset"]


def test_build_args(kitchen: Kitchen) -> None:
    """Given, default, from before FROM; ENV wins; unused ones are told."""
    text = (
        "ARG G=1\nARG N\nFROM scratch\nARG G\nARG N\nARG D=d\nARG H=h\nENV H=env\nARG H\nENV O=$G-$N-$D-$H\n"
    )
    built = kitchen.build(text, args=(("N", "given"), ("H", "arg"), ("UNUSED", "x"), ("HTTP_PROXY", "p")))
    assert settings_of(built)["Env"][-1] == "O=1-given-d-env"
    assert kitchen.warnings == ["build argument UNUSED is given, but no ARG of that name was met"]


def test_secrets_are_warned_of(kitchen: Kitchen) -> None:
    """By name; a public key is none."""
    kitchen.build("FROM scratch\nARG NPM_TOKEN\nENV PASSWORD=x PUBLIC_KEY=y MONKEY=z\n")
    assert [w.partition(": ")[2].split(":")[0] for w in kitchen.warnings] == ["ARG NPM_TOKEN", "ENV PASSWORD"]


def test_much_is_warned_of(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository's history, and files by the thousand."""
    kitchen.write(".git/HEAD", "ref")
    kitchen.write("a", "a")
    monkeypatch.setattr("manyfest.build.caution._MANY_FILES", 3)
    kitchen.build("FROM scratch\nCOPY . /\n")
    assert [text.partition(":2: ")[2] for text in kitchen.warnings] == [
        "copies .git (1 files); list it in .dockerignore",
        "copies 4 files of 0 MB; .dockerignore can leave some out",
    ]


def test_heredocs(kitchen: Kitchen) -> None:
    """Become files; quoted ones as they are."""
    built = kitchen.build(
        "FROM scratch\nARG V=1\nCOPY --chmod=755 <<EOF /run\nv=$V \"q\"\nEOF\nCOPY <<'A' <<B /d/\n$V\nA\nb\nB\n"
    )
    assert files_of(built) == {"run": 'v=1 "q"\n', "d": None, "d/A": "$V\n", "d/B": "b\n"}
    assert members_of(built)[0].mode == 0o755


def test_parents_and_exclude(kitchen: Kitchen) -> None:
    """Newer flags that Debian's builders do not know yet."""
    for name in ("a/b/c.txt", "a/b/d.md", "a/e/f.txt", "g.txt"):
        kitchen.write(name, name)
    built = kitchen.build("FROM scratch\nCOPY --parents a/b/c.txt ./a/./e g.txt /out/\n")
    assert [k for k, v in files_of(built).items() if v] == ["out/a/b/c.txt", "out/e/f.txt", "out/g.txt"]
    built = kitchen.build("FROM scratch\nCOPY --exclude=**/*.md --exclude=e a /out\n")
    assert [k for k, v in files_of(built).items() if v] == ["out/b/c.txt"]
    built = kitchen.build("FROM scratch\nCOPY --parents **/*.txt /out/\n")
    assert [k for k, v in files_of(built).items() if v] == [
        "out/a/b/c.txt",
        "out/a/e/f.txt",
        "out/g.txt",
    ]


def test_a_layer_does_not_replace_a_link_of_the_base(kitchen: Kitchen) -> None:
    """/bin -> usr/bin stays; with --link nothing below is looked at."""
    kitchen.write("root/usr/bin/sh", "sh")
    (kitchen.folder / "root/bin").symlink_to("usr/bin")
    kitchen.write("app", "app")
    text = "FROM scratch AS base\nCOPY root /\nFROM base\nCOPY {} app /bin/\n"
    assert "usr/bin/app" in files_of(kitchen.build(text.format("")))
    assert "bin/app" in files_of(kitchen.build(text.format("--link")))


def test_folders_of_the_base_keep_their_mode(kitchen: Kitchen) -> None:
    """A layer lists no folder that is there already."""
    kitchen.write("app", "app")
    text = "FROM scratch AS base\nCOPY --chmod=1777 tmp /tmp/\nFROM base\nCOPY app /tmp/x/app\n"
    kitchen.write("tmp/sub/.keep")
    names = [m.name for m in members_of(kitchen.build(text))]
    assert names == ["tmp", "tmp/sub", "tmp/sub/.keep", "tmp/x", "tmp/x/app"]


def test_onbuild_of_a_base(kitchen: Kitchen) -> None:
    """Is carried out after FROM, and gone from the image."""
    base = kitchen.base("base")
    base.tag(
        write_image(base, Platform.parse("linux/amd64"), [bytes(1024)], settings={"OnBuild": ["COPY a /a"]}),
        "1",
    )
    kitchen.write("a", "A")
    built = kitchen.build("FROM base\n")
    assert (files_of(built), settings_of(built).get("OnBuild")) == ({"a": "A"}, None)
    base.tag(
        write_image(base, Platform.parse("linux/amd64"), [bytes(1024)], settings={"OnBuild": ["RUN x"]}), "1"
    )
    with pytest.raises(BuildError, match=r"Dockerfile:1: RUN x: RUN needs a container engine"):
        kitchen.build("FROM base\n")


def test_archives(kitchen: Kitchen) -> None:
    """Unpacked by ADD, copied by COPY and --unpack=false; names cannot leave."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name in ("../../evil", "/abs", "d/f"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    kitchen.write("a.tar.xz", buffer.getvalue())
    built = kitchen.build("FROM scratch\nADD a.tar.xz /in/\n")
    assert files_of(built) == {"in": None, "in/abs": "x", "in/d": None, "in/d/f": "x", "in/evil": "x"}
    for text in ("COPY a.tar.xz /in/", "ADD --unpack=false a.tar.xz /in/"):
        assert list(files_of(kitchen.build(f"FROM scratch\n{text}\n"))) == ["in", "in/a.tar.xz"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN apt-get install x", r"Dockerfile:2: RUN apt-get install x: RUN needs a container engine"),
        ("COPY nothing /", r"Dockerfile:2: nothing: not in .*project"),
        ("COPY ignored /", r"Dockerfile:2: ignored: not in"),
        ("COPY ../secret /", r"Dockerfile:2: \.\./secret leads out of the project"),
        ("COPY out /", r"out: a link that leads out of the project, to /"),
        ("COPY outdir/passwd /", r"outdir/passwd: a link that leads out of the project"),
        ("COPY a b /c", r"Dockerfile:2: several files for one destination '/c'"),
        ("COPY [ab] /c", r"Dockerfile:2: several files for one destination"),
        ("COPY pipe /c", r"a device, pipe or socket in the project"),
        ("COPY a /x\nCOPY b /x/y", r"Dockerfile:3: /x is no folder"),
        ("COPY d /x/\nCOPY a /x/\nCOPY a /x/a/b", r"Dockerfile:4: /x/a is no folder"),
        ("COPY --from=nobody a /", r"Dockerfile:2: the base nobody is not there"),
        ("COPY --from=1 a /", r"--from=1: no such stage before this one"),
        ("COPY --from=$X a /", r"variables are not replaced here"),
        ("COPY --chown=web a /", r"Dockerfile:2: web: the image's /etc/passwd has no web"),
        ("COPY --chmod=u+y a /", r"--chmod=u\+y: expected a mode such as 755"),
        ("ADD https://x.example/y /", r"ADD https://x.example/y: remote files are not fetched"),
        ("ADD git@x.example:y.git /", r"remote files are not fetched"),
        ("EXPOSE 70000", r"Dockerfile:2: EXPOSE 70000"),
        ("EXPOSE 80/xyz", r"EXPOSE 80/xyz"),
        ("STOPSIGNAL ;", r"STOPSIGNAL ;"),
        ("USER $NONE", r"USER: expected a value"),
        ("HEALTHCHECK --interval=5 CMD x", r"--interval=5: expected a duration"),
        ("HEALTHCHECK MAYBE x", r"HEALTHCHECK MAYBE: expected CMD or NONE"),
        ('ENV A="${B:?say B}"', r"Dockerfile:2: .*say B"),
    ],
)  # fmt: skip
def test_refused(kitchen: Kitchen, text: str, message: str) -> None:
    """With the line, and what to do."""
    for name in ("a", "b", "ignored", "d/x"):
        kitchen.write(name, name)
    (kitchen.folder / "out").symlink_to("/etc/passwd")
    (kitchen.folder / "outdir").symlink_to("/etc")
    __import__("os").mkfifo(kitchen.folder / "pipe")
    kitchen.write(".dockerignore", "ignored\n")
    with pytest.raises(Error, match=message) as caught:
        kitchen.build(f"FROM scratch\n{text}\n")
    assert isinstance(caught.value, (BuildError, InvalidProject))


def test_wildcards_may_match_nothing(kitchen: Kitchen) -> None:
    """What may be there is copied if it is; when nothing at all is, somebody should know."""
    kitchen.write("package.json", "{}")
    kitchen.write("![x", "")
    built = kitchen.build("FROM scratch\nCOPY package.json yarn.lock* ./\nCOPY [!x]* [z-a] /x/\n")
    assert files_of(built).keys() == {"package.json", "x", "x/![x"}
    assert kitchen.warnings == []
    kitchen.build("FROM scratch\nCOPY none* [z-a] /x/\n")
    assert kitchen.warnings[0].endswith("Dockerfile:2: COPY copies nothing: none* [z-a] matches no file")


def test_several_sources_go_into_a_folder_that_is_there(kitchen: Kitchen) -> None:
    """Whether the destination ends with a slash or not; folders may become one folder."""
    for name in ("a", "b", "d/x", "e/y"):
        kitchen.write(name, name)
    built = kitchen.build(
        "FROM scratch\nWORKDIR /app\nCOPY a b /app\nCOPY d e /both\nCOPY <<c a /app\ntext\nc\n"
    )
    assert {"app/a", "app/b", "app/c", "both/x", "both/y"} <= files_of(built).keys()


def test_an_ignored_source_says_so(kitchen: Kitchen) -> None:
    """In the hint."""
    kitchen.write("a", "a")
    kitchen.write(".dockerignore", "a\n")
    with pytest.raises(BuildError) as caught:
        kitchen.build("FROM scratch\nCOPY a /\n")
    assert "it is there, but" in caught.value.hint


def test_only_a_line_feed_ends_a_pattern(kitchen: Kitchen) -> None:
    """As for engines: other characters that end lines elsewhere are part of names."""
    for name in ("a\u2028b", "b", "c"):
        kitchen.write(f"ctx/{name}", name)
    kitchen.write(".dockerignore", "ctx/a\u2028b\r\nctx/c\r\n")
    assert list(files_of(kitchen.build("FROM scratch\nCOPY ctx /\n"))) == ["b"]


def test_the_dockerfiles_own_ignore_file_goes_first(kitchen: Kitchen) -> None:
    """And alone."""
    for name in ("a", "b"):
        kitchen.write(f"ctx/{name}", name)
    kitchen.write(".dockerignore", "ctx/a\n")
    kitchen.write("Dockerfile.dockerignore", "ctx/b\n")
    assert list(files_of(kitchen.build("FROM scratch\nCOPY ctx /\n"))) == ["a"]


def test_a_base_by_platform(kitchen: Kitchen) -> None:
    """Each platform's own, pinned in the annotations; a lower variant serves a higher one."""
    index = make_index(kitchen.base("base"), ["linux/amd64", "linux/arm/v6", "linux/386"], tag="1")
    built = kitchen.build("FROM base\n", "linux/amd64/v3,linux/arm/v7,linux/386")
    for at, entry in enumerate(index.index.manifests):
        annotations = built.platforms[at][1].manifest.annotations
        assert annotations["org.opencontainers.image.base.digest"] == str(entry.digest)
        assert annotations["org.opencontainers.image.base.name"] == "docker.io/library/base:latest"
    assert [config_of(built, i).get("variant") for i in range(3)] == ["v3", "v7", None]


@pytest.mark.parametrize("platform", ["linux/s390x", "linux/arm/v5"])
def test_a_base_without_the_platform(kitchen: Kitchen, platform: str) -> None:
    """Lists what it has; 386 never stands in for amd64."""
    make_index(kitchen.base("base"), ["linux/386", "linux/arm/v7"], tag="1")
    for wanted in (platform, "linux/amd64"):
        with pytest.raises(BuildError, match=f"Dockerfile:1: base: an index without {wanted}") as caught:
            kitchen.build("FROM base\n", wanted)
        assert "it has linux/386, linux/arm/v7" in caught.value.hint


def test_a_single_image_of_another_platform(kitchen: Kitchen) -> None:
    """Is refused, where engines of old took it."""
    make_image(kitchen.base("base"), "linux/arm64", tag="1")
    with pytest.raises(BuildError, match="base: a single image, not for linux/amd64") as caught:
        kitchen.build("FROM base\n")
    assert "it has linux/arm64" in caught.value.hint


def test_a_base_on_this_machine_is_pinned_without_its_path(kitchen: Kitchen) -> None:
    """Others could not follow it."""
    image = make_image(kitchen.base("oci:/here/base"), "linux/amd64", tag="1")
    built = kitchen.build("FROM oci:/here/base\n")
    assert built.platforms[0][1].manifest.annotations == {
        "org.opencontainers.image.base.digest": str(image.digest)
    }


def test_files_of_a_base(kitchen: Kitchen, tmp_path: Path) -> None:
    """Read for --from, for owners by name, and remembered for the next build."""
    files = {"/etc/passwd": (b"web:x:11:12::/:/bin/sh\n", 0o644), "/data/x": (b"X", 0o600)}
    make_image(kitchen.base("base"), "linux/amd64", files=files, tag="1")
    text = "FROM base AS b\nFROM b\nCOPY --from=base /data/ /copy/\nCOPY --chown=web --from=b /data/x /own\n"
    for _ in range(2):
        built = kitchen.build(text)
        members = {m.name: m for m in members_of(built)}
        assert (members["own"].uid, members["own"].gid, members["own"].mode) == (11, 12, 0o600)
        assert files_of(built)["copy/x"] == "X"
