# SPDX-License-Identifier: Apache-2.0
"""Debian's docker-registry, on loopback, over plain HTTP or TLS, with a log of every request."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Authority", "Registry"]

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: "{root}"}}, delete: {{enabled: true}}}}
http:
  addr: 127.0.0.1:{port}
  secret: bench
"""
_TLS = '  tls: {{certificate: "{chain}", key: "{key}"}}\n'
_REQUEST = re.compile(r'"(?:GET|HEAD|POST|PUT|PATCH|DELETE) /v2/')
_WRITE = re.compile(r'"(?:POST|PUT|PATCH|DELETE) /v2/')


class Authority:
    """A certificate authority of this run, and a certificate of 127.0.0.1 signed by it, in ``folder``.

    ``ca`` goes into SSL_CERT_FILE, which Go's programs, OpenSSL's and manyfest all heed.
    """

    def __init__(self, folder: Path) -> None:
        self.ca, self.chain, self.key = folder / "ca.crt", folder / "host.crt", folder / "host.key"
        request, extensions = folder / "host.csr", folder / "host.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        _openssl(
            *("req", "-x509", *curve, "-days", "2", "-subj", "/CN=bench authority"),
            *("-keyout", folder / "ca.key", "-out", self.ca),
        )
        _openssl("req", *curve, "-subj", "/CN=127.0.0.1", "-keyout", self.key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", folder / "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", extensions, "-out", self.chain),
        )


class Registry:
    """One registry process over the storage ``root``, which two processes may share; a context manager."""

    def __init__(self, folder: Path, root: Path, authority: Authority | None = None) -> None:
        self.port = _free_port()
        self._log = folder / f"registry-{self.port}.log"
        self._config = folder / f"registry-{self.port}.yml"
        text = _CONFIG.format(root=root, port=self.port)
        if authority is not None:
            text += _TLS.format(chain=authority.chain, key=authority.key)
        self._config.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def requests(self) -> int:
        """Requests answered so far. The registry writes a line when an answer is complete."""
        return len(_REQUEST.findall(self._log.read_text(errors="replace")))

    @property
    def writes(self) -> int:
        """Those of them that sent something."""
        return len(_WRITE.findall(self._log.read_text(errors="replace")))

    def forget(self) -> None:
        """Begin the log again: it is re-read for every count."""
        with self._log.open("r+b") as log:
            log.truncate(0)

    def __enter__(self) -> Self:
        program = shutil.which("docker-registry")
        if program is None:
            raise SystemExit("bench: docker-registry is not installed; run: apt-get install docker-registry")
        # Appending, so that the log can be truncated while the registry holds it open.
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([program, "serve", str(self._config)], stdout=log, stderr=log)
        _wait_for(self.port, self._process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"bench: docker-registry does not listen on port {port} (exit status {process.poll()})")


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: openssl failed: {done.stderr.strip()}")
