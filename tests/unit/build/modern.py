# SPDX-License-Identifier: Apache-2.0
"""Dockerfiles with what only newer frontends know, and the files they copy.

Debian's engines are too old for them, so what BuildKit made of them is recorded in ``tests/golden/buildkit`` by
``tools/record_buildkit.py``. A stage stands for the base: recording needs no registry.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CASES", "Case", "write_files"]

BASE = """\
FROM scratch AS base
COPY rootfs/ /
ENV PATH=/opt/bin:/usr/bin
WORKDIR /srv
"""

FILES: dict[str, tuple[str, int]] = {
    "app": ("the app\n", 0o755),
    "plain": ("plain\n", 0o644),
    "conf/a.conf": ("a\n", 0o644),
    "conf/b.txt": ("b\n", 0o600),
    "conf/deep/c.txt": ("c\n", 0o640),
    "conf/deep/d.conf": ("d\n", 0o4755),
    "conf/deep/er/e.txt": ("e\n", 0o644),
    "more/x.txt": ("x\n", 0o644),
    "more/deep/y.conf": ("y\n", 0o664),
    "rootfs/etc/passwd": ("root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n", 0o644),
    "rootfs/etc/group": ("root:x:0:\nwww:x:202:\n", 0o644),
    "rootfs/usr/bin/sh": ("not a shell\n", 0o755),
    "rootfs/opt/file": ("f\n", 0o644),
    "rootfs/tmp/.keep": ("", 0o644),
}
LINKS = {"rootfs/bin": "usr/bin", "conf/link": "a.conf", "to-conf": "conf"}


@dataclass
class Case:
    """A Dockerfile that starts with the base's stage; ``own_ignore`` is the Dockerfile's own ignore file."""

    name: str
    dockerfile: str
    args: dict[str, str] = field(default_factory=dict)
    ignore: str = "Dockerfile*\n.dockerignore\n"
    own_ignore: str = ""


CASES = [
    Case("heredocs", """\
FROM base
ARG WHO=world
COPY <<EOF /plain
hello $WHO
  indented ${WHO}s
EOF
COPY <<'EOF' /raw
hello $WHO
EOF
COPY <<-EOF /tabs
\t\thello
\tthere
EOF
COPY --chmod=0755 --chown=web:www <<one <<two app /many/
first
one
second
two
ADD <<EOF /added/file
x
EOF
"""),
    Case("link", """\
FROM base
COPY --link app /bin/app
COPY --link --chown=7:8 conf /tmp/conf
COPY --link plain /deep/er/plain
COPY --link=false plain /bin/plain
WORKDIR /work
COPY --link plain .
COPY --link --from=base /etc /etc2/
"""),
    Case("exclude", """\
FROM base
COPY --exclude=*.txt conf /one/
COPY --exclude=**/*.txt --exclude=deep/d.* conf /two/
COPY --exclude=deep conf more /three/
COPY --exclude=link --from=base /etc /four/
ADD --exclude=*.conf conf /five/
"""),
    Case("parents", """\
FROM base
COPY --parents conf/deep/c.txt /one/
COPY --parents conf/./deep/c.txt more/x.txt /two/
COPY --parents conf/*/*.txt /three/
COPY --parents ./conf/deep /four/
COPY --parents **/*.conf /five/
COPY --parents --from=base /etc/./passwd /usr/bin/sh /six/
COPY --parents --exclude=**/*.txt conf /seven/
COPY --parents --chown=3:4 --chmod=700 conf/deep/c.txt eight/
COPY --parents --exclude=*.txt conf/b.txt plain /nine/
COPY --parents --exclude=c.txt conf/deep/./c.txt conf/deep/./d.conf /ten/
COPY --parents to-conf conf/link to-conf/./a.conf /eleven/
COPY --parents --chmod=go-rx conf/deep/c.txt /twelve/
"""),
    Case("chmod", """\
FROM base
ARG MODE=u+x
COPY --chmod=u+x plain /m/u+x
COPY --chmod=u+x,go-r plain /m/more
COPY --chmod=a=rX conf /m/conf
COPY --chmod=u=rwX,go=rX conf /m/conf2
COPY --chmod=go=u-w conf/b.txt /m/copied
COPY --chmod=+x plain /m/+x
COPY --chmod=+w plain /m/+w
COPY --chmod=-r app /m/-r
COPY --chmod=ug+s,+t app /m/special
COPY --chmod=o+s plain /m/o+s
COPY --chmod==r app /m/equal
COPY --chmod=u+rw-x app /m/two
COPY --chmod=g=o,o= app /m/chain
COPY --chmod=$MODE plain /m/variable
COPY --chmod=0 plain /m/none
COPY --chmod=g+X plain app /m/x/
COPY --chmod=u-s conf/deep/d.conf /m/unset
ADD --chmod=g+w,o= plain.tar /m/archive/
"""),
    Case("modifiers", """\
FROM base
ARG path=/a/b/c.tar.gz
ARG empty=
ENV A=${path#*/} B=${path##*/} C=${path%.*} D=${path%%.*} E=${path/a/x} F=${path//[ac]/x} G=${path/\\//_}
ENV H=${nope:-dflt} I=${empty:-dflt} J=${empty-dflt} K=${nope-dflt} L=${path:+yes} M=${empty:+yes} N=${empty+yes}
ENV O=${nope:-${path##*.}} P="${path}'s" Q='${path}' R=\\$path S=$path.x T=${path:?must} U=${path%%t*z}
"""),
    Case("args", """\
ARG V=1 W=${V}2
FROM base AS one
ARG V W X=a Y=${X}b
ARG TARGETPLATFORM BUILDPLATFORM TARGETVARIANT TARGETOS TARGETSTAGE
ENV V=$V W=$W Y=$Y P=$TARGETPLATFORM B=$BUILDPLATFORM T=<$TARGETVARIANT> O=$TARGETOS G=$TARGETSTAGE
LABEL w=$W
FROM --platform=$TARGETPLATFORM one
ENV AGAIN=$Y
""", args={"V": "given"}),
    Case("onbuild", """\
FROM base AS trigger
ONBUILD COPY plain /triggered
ONBUILD ENV TRIGGERED=yes
FROM trigger
ENV AFTER=$TRIGGERED
"""),
    Case("archives", """\
FROM base
ADD --chown=9:8 plain.tar /owned/
ADD --unpack=false plain.tar /packed/
ADD packed.tar.xz packed.tar.bz2 /both/
ADD --link plain.tar /bin/
COPY plain.tar /copied.tar
"""),
    Case("shapes", """\
FROM base
COPY con* /glob/
COPY conf more /merged/
COPY conf more/x.txt /merged2
COPY app plain /opt
COPY to-conf /through
COPY conf /bin
COPY app /srv
COPY app .
COPY ./conf/../app /dots/a/../b/
COPY ["plain", "/json/"]
COPY conf/deep/*.t?t /one-match
COPY --from=base /bin/sh /bin /from/
"""),
    Case("settings", """\
FROM base
EXPOSE 80-82 53/UDP
HEALTHCHECK --interval=5s --start-period=1m --start-interval=2s --retries=3 CMD ["/x"]
LABEL "a b"=c d='e "f"' g="h\\
i"
USER web:www
STOPSIGNAL 9
VOLUME ["/a", "/b c"]
CMD ["x", "y z"]
SHELL ["/bin/sh", "-c"]
ENTRYPOINT run $PATH
"""),
    Case("quoting", """\
# a comment
FROM base
ENV A="x\\ty" B='single $PATH' C=a\\\\b D="say \\"hi\\"" E=${PATH}:/more F="a  b"   G=1
# between
ENV H=one \\
  # a comment inside
  I=two \\

  J="three \\
four"
ENV LEGACY value with  "spaces" and $A
LABEL "com.example.a"="multi \\
line" b=$A 'c d'="e" f="it's"
LABEL empty="" $G=name
ENV K=$A$B L=${A}x M=\\${A} N="\\$A" O='\\$A' P=$$ Q=${Q:-"quoted default"} R="${NONE:-a b}"
CMD echo "hello   there" $A && true
USER ${USER_ID:-7}:$G
EXPOSE ${PORT:-8080} 9090/udp
VOLUME $A /x/$G
WORKDIR ${A}/sub
WORKDIR "quoted dir"
STOPSIGNAL ${SIG:-SIGTERM}
"""),
    Case("wildcards", """\
FROM base
COPY conf/* /a/
COPY conf/*/* /b/
COPY */deep /c/
COPY [cm]o* /d/
COPY app* pla?n /e/
COPY conf/deep/[!c].conf /f/
COPY rootfs/* /g/
COPY rootfs/tmp/.* /h/
COPY conf/ more/ /i
COPY . /j/
COPY ./ /k
COPY /conf/deep /l
COPY conf/link /m
COPY conf/link /n/
COPY to-conf/ /o/
COPY app /tmp
COPY app /tmp/../p/q
COPY --from=base /usr /r
COPY --from=base /bin /s
COPY --from=base /bin/sh /usr/bin/sh2
COPY --from=base . /t
"""),
    Case("patterns", "FROM base\nCOPY . /ctx\n",
         ignore="  more  \n/app\n./plain\nconf/deep/\n!conf/deep/er\n**/*.tar*\n!plain.tar\n"
         "to-*\n\n#x\n\\!x\nroot?s/opt\n"),
    Case("stages", """\
ARG WHICH=two
FROM base AS one
COPY plain /from/one
FROM base AS two
COPY app /from/two
ENV IN=two
FROM ${WHICH} AS picked
ENV PICKED=$IN
FROM scratch AS never
COPY conf /never
FROM picked AS last
COPY --from=one /from /merged
COPY --from=1 /from/one /by-number
COPY --from=picked --chown=5 --chmod=500 /from/two /owned/
"""),
    Case("ignored", "FROM base\nCOPY . /ctx\n", ignore="plain\n",
         own_ignore="# own\n*\n!rootfs\n!conf\n!more/deep\nconf/**/*.txt\n!**/e.txt\n"),
]  # fmt: skip


def write_files(folder: Path) -> None:
    """The project that all cases share."""
    for name, (text, mode) in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    for name, mode in (("conf", 0o755), ("conf/deep", 0o750), ("more", 0o700), ("rootfs/tmp", 0o1777)):
        (folder / name).chmod(mode)
    for name, how in (("plain.tar", "w"), ("packed.tar.xz", "w:xz"), ("packed.tar.bz2", "w:bz2")):
        with tarfile.open(folder / name, how) as archive:  # type: ignore[call-overload]
            for member, data, mode in (("dir/file", b"in\n", 0o640), (f"{name}.txt", b"named\n", 0o604)):
                info = tarfile.TarInfo(member)
                info.size, info.mode, info.uid, info.gid = len(data), mode, 5, 6
                archive.addfile(info, io.BytesIO(data))


def dockerfile_of(case: Case) -> str:
    """The whole Dockerfile; global arguments stay first."""
    first, newline, rest = case.dockerfile.partition("\n")
    if first.startswith("ARG"):
        return f"{first}\n{BASE}{rest}"
    return f"{BASE}{first}{newline}{rest}"
