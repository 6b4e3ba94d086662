# SPDX-License-Identifier: Apache-2.0
"""Dockerfiles without RUN, and the files they copy: what three builders must make alike."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BASE", "CASES", "Case", "write_files"]

BASE = """\
FROM scratch
COPY rootfs/ /
ENV PATH=/opt/bin:/usr/bin BASE_SAYS="hello there"
LABEL from=base shared=base
CMD ["from-base"]
WORKDIR /srv
"""

FILES: dict[str, tuple[str, int]] = {
    "app": ("the app\n", 0o755),
    "conf/a.conf": ("a\n", 0o644),
    "conf/b.conf": ("b\n", 0o600),
    "conf/deep/c.txt": ("c\n", 0o640),
    "conf/deep/skip.tmp": ("no\n", 0o644),
    "data.bin": ("\0\1\2", 0o644),
    "one.txt": ("1\n", 0o644),
    "two.txt": ("2\n", 0o644),
    "three.md": ("3\n", 0o644),
    "with space.txt": ("s\n", 0o644),
    "ümläut.txt": ("u\n", 0o644),
    "long/" + "x" * 90 + "/" + "y" * 120: ("long\n", 0o644),
    "rootfs/etc/passwd": ("root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n", 0o644),
    "rootfs/etc/group": ("root:x:0:\nwww:x:202:\n", 0o644),
    "rootfs/usr/bin/sh": ("not a shell\n", 0o755),
    "rootfs/tmp/.keep": ("", 0o644),
    "rootfs/opt/file": ("f\n", 0o644),
}
LINKS = {"rootfs/bin": "usr/bin", "conf/link": "a.conf", "conf/out": "/etc/hostname", "to-app": "app"}


@dataclass
class Case:
    """A Dockerfile, with ``{base}`` for the base image. ``odd``: settings that buildah 1.28 does its own way."""

    name: str
    dockerfile: str
    ignore: str = ""
    args: dict[str, str] = field(default_factory=dict)
    odd: tuple[str, ...] = ()


CASES = [
    Case("scratch", "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n"),
    Case("config-exec", """\
FROM {base}
ENV A=1 B="two words" C=$A D=${{BASE_SAYS}}
ENV OLD style value
LABEL one=1 "two words"="x y" shared=child
EXPOSE 80 53/udp 8000-8002/tcp
USER web
VOLUME /data /more
VOLUME ["/json", "/list"]
STOPSIGNAL SIGINT
ENTRYPOINT ["/opt/file", "--flag"]
""", odd=("ExposedPorts",)),  # It keeps ranges as they are.
    Case("config-shell", """\
FROM {base}
SHELL ["/bin/sh", "-eu", "-c"]
CMD echo $HOME   and more
HEALTHCHECK --interval=1m30s --timeout=2s --retries=4 --start-period=500ms CMD curl -f  http://localhost/ || exit 1
ONBUILD COPY . /later
ONBUILD ENV X=1
MAINTAINER Somebody <some@body.example>
""", odd=("Cmd",)),  # It ignores SHELL here.
    Case("entrypoint-shell-and-cmd", "FROM {base}\nCMD [\"a\", \"b\"]\nENTRYPOINT exec top -b\nHEALTHCHECK NONE\n"),
    Case("health-exec", "FROM {base}\nHEALTHCHECK --retries=2 CMD [\"/probe\", \"-q\"]\n"),
    Case("workdir", """\
FROM {base}
WORKDIR /a/b
WORKDIR c
ENV SUB=d
WORKDIR ${{SUB}}/../e
COPY one.txt .
WORKDIR /opt
"""),
    Case("copy-shapes", """\
FROM {base}
COPY app /usr/local/bin/
COPY app /renamed
COPY app /opt
COPY conf /etc/conf
COPY conf/ /etc/conf2/
COPY one.txt two.txt /texts/
COPY *.txt /glob/
COPY t?o.txt three.m[a-d] /glob2/
COPY ["with space.txt", "/with space/"]
COPY conf/deep /deep/one
COPY conf/deep /deep/two/
COPY . /all
"""),
    Case("copy-over", "FROM {base}\nCOPY app /bin/app\nCOPY rootfs/ /\nCOPY conf /tmp/\nCOPY one.txt /opt/file\n"),
    Case("copy-owner", """\
FROM {base}
COPY --chown=web:www conf /own/conf
COPY --chown=7 app /own/app
COPY --chown=7:8 app /deep/er/app
COPY --chown=web one.txt /own/one
"""),
    Case("copy-mode", "FROM {base}\nCOPY --chmod=0751 conf /m/conf\nCOPY --chmod=600 app /m/deep/app\n"),
    Case("copy-link", "FROM {base}\nCOPY to-app /followed\nCOPY conf/link one.txt /dir/\n"),
    Case("links-inside", "FROM {base}\nCOPY conf /kept\n"),
    Case("stages", """\
ARG TAG=none
ARG BASE={base}
FROM scratch AS files
ARG TAG
COPY conf /x/conf
COPY app /x/
ENV TAG=$TAG
FROM ${{BASE}} AS other
COPY --from=files /x /from-name
COPY --from=0 --chown=3:4 /x/app /x/conf/deep/ /from-number/
COPY --from={base} /etc/passwd /from-image
FROM other
COPY --from=other /from-name/conf/a.conf /last/
""", args={"TAG": "given"}),
    Case("args", """\
ARG GLOBAL=one
FROM {base}
ARG GLOBAL
ARG LOCAL=${{GLOBAL}}-two
ARG TARGETPLATFORM
ARG TARGETARCH
ARG UNSET
ENV E1=$GLOBAL E2=$LOCAL E3=${{TARGETARCH:-none}} E4=${{TARGETOS:-none}} E5=${{UNSET:-dflt}} E6=${{LOCAL:+alt}}
ENV E7='$LOCAL' E8="\\$LOCAL" E9=a\\ b
LABEL v=${{LOCAL}}
"""),
    Case("ignore", "FROM {base}\nCOPY . /ctx\n",
         ignore="*.txt\n!two.txt\nconf\n!conf/deep\n**/*.tmp\nlong\n/rootfs\n# comment\n"),
    Case("escape", "# escape=`\nFROM {base}\nENV A=x`\n B=y\nCOPY app `\n  /app\n"),
    Case("archives", """\
FROM {base}
ADD plain.tar /plain/
ADD zipped.tar.gz /zipped
ADD one.txt /one
ADD zipped.tar.gz app /both/
"""),
    Case("user-workdir", "FROM {base}\nUSER web\nWORKDIR /home/web/x\nCOPY one.txt .\n"),
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
    (folder / "conf").chmod(0o755)
    (folder / "conf/deep").chmod(0o750)
    (folder / "rootfs/tmp").chmod(0o1777)
    for name, how in (("plain.tar", "w"), ("zipped.tar.gz", "w:gz")):
        with tarfile.open(folder / name, how) as archive:  # type: ignore[call-overload]
            _fill(archive)


def _fill(archive: tarfile.TarFile) -> None:
    def add(name: str, **fields: Any) -> None:
        info = tarfile.TarInfo(name)
        info.mode = 0o644
        data = b""
        for key, value in fields.items():
            if key == "data":
                data = value
                info.size = len(value)
            else:
                setattr(info, key, value)
        archive.addfile(info, io.BytesIO(data) if data else None)

    add("dir", type=tarfile.DIRTYPE, mode=0o750, uid=5, gid=6)
    add("dir/file", data=b"in an archive\n", mode=0o640, uid=5, gid=6)
    add("dir/hard", type=tarfile.LNKTYPE, linkname="dir/file", mode=0o640, uid=5, gid=6)
    add("dir/soft", type=tarfile.SYMTYPE, linkname="file", mode=0o777)
    add("deep/er/file", data=b"x", mode=0o600)
