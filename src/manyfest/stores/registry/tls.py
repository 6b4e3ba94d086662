# SPDX-License-Identifier: Apache-2.0
"""TLS for registries: trust, client certificates, and errors that say what to do.

Reading the bundle of all public roots costs about 20 ms in every process; a directory of hashed names is looked up
only for the issuer at hand. So the directory is used where there is one (Debian and its kin), the bundle elsewhere
and whenever the user set ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``.
"""

from __future__ import annotations

import errno
import os
import ssl

from manyfest.errors import InputError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from manyfest.stores.registry.hosts import HostPolicy

__all__ = ["Connected", "NotTLS", "context_for", "tls_error"]

DIRECTORIES = ("/etc/ssl/certs",)
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class NotTLS(Unreachable):
    """The peer answered a TLS greeting with something else."""


class Connected(ssl.SSLSocket):
    """A socket that speaks TLS or is closed.

    Of one whose peer has hung up already, :mod:`ssl` makes a socket that has shaken no hands, or leaves it open.
    """

    def getpeername(self) -> Any:
        """See :meth:`socket.socket.getpeername`; asked first of all, to know whether there is anyone to greet."""
        try:
            return super().getpeername()
        except OSError as error:
            self.close()
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from error


def context_for(policy: HostPolicy) -> ssl.SSLContext:
    """A context that trusts what the policy says.

    Raises :class:`~manyfest.errors.InputError` when a certificate file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = Connected
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not policy.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _trust_public_roots(context)
    for path in policy.ca_files if policy.verify else ():
        # A certificate that the user names is trusted as it is, whether or not it is a root; Go does the same.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _load(path, lambda path=path: context.load_verify_locations(cafile=path), "CA certificate")
    for cert, key in policy.client_certs:
        # An empty password, so that OpenSSL does not ask for one on the terminal.
        _load(cert, lambda c=cert, k=key: context.load_cert_chain(c, k, password=""), "client certificate")
    return context


def _load(path: str, load: object, what: str) -> None:
    assert callable(load)
    try:
        load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            f"{path}: this {what} cannot be used: {reason}",
            hint="expected PEM files that this user may read; a key must not be encrypted",
        ) from error


def _trust_public_roots(context: ssl.SSLContext) -> None:
    if not os.environ.get("SSL_CERT_FILE") and not os.environ.get("SSL_CERT_DIR"):
        for directory in DIRECTORIES:
            if _is_hashed(directory):
                context.load_verify_locations(capath=directory)
                return
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        context.set_default_verify_paths()
        return
    bundle = next((path for path in BUNDLES if os.path.exists(path)), None)
    if bundle is not None:
        _load(bundle, lambda: context.load_verify_locations(cafile=bundle), "bundle of CA certificates")


def _is_hashed(directory: str) -> bool:
    """Does it hold names like ``4a6481c9.0``?"""
    try:
        with os.scandir(directory) as entries:
            return any(entry.name.endswith(".0") for entry in entries)
    except OSError:
        return False


# X509_V_ERR_*: openssl-verification-options(1)
_VERIFY = {
    9: ("the certificate is not valid yet", "check the clock of this machine"),
    10: (
        "the certificate has expired",
        "the registry needs a new certificate; check the clock of this machine too",
    ),
    62: ("the certificate is for another host name", ""),
    64: ("the certificate is for another address", ""),
}
_NO_TRUST = (18, 19, 20, 21)
_PLAIN = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "UNKNOWN_PROTOCOL",
)


def tls_error(error: OSError, peer: str) -> Unreachable:
    """What went wrong with TLS, and what names the fix."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verify_error(error, peer)
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or ""
    if reason in _PLAIN:
        return NotTLS(
            f"{peer}: expected TLS, got something else; this looks like a plain HTTP server",
            hint="allow it with --insecure, or plain_http = true for this host in the configuration file",
        )
    # Python before 3.11.4 gives a zero return where OpenSSL says that the answer was no TLS.
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return NotTLS(
            f"{peer}: the connection was closed during the TLS handshake",
            hint="the port may speak plain HTTP (--insecure allows that), or a firewall hung up",
        )
    if "CERTIFICATE_REQUIRED" in reason or "ALERT_HANDSHAKE_FAILURE" in reason or "BAD_CERTIFICATE" in reason:
        host = peer.partition("://")[2] or peer
        return Unreachable(
            f"{peer}: the server did not accept this client without a certificate ({reason.lower()})",
            hint=f"put NAME.cert and NAME.key into /etc/docker/certs.d/{host}/, or set cert and key for this host",
        )
    return Unreachable(
        f"{peer}: TLS failed ({reason or error})", hint="check versions and ciphers of the server"
    )


def _verify_error(error: ssl.SSLCertVerificationError, peer: str) -> Unreachable:
    host = peer.partition("://")[2] or peer
    if error.verify_code in _NO_TRUST:
        return Unreachable(
            f"{peer}: the certificate's issuer is not known here ({error.verify_message})",
            hint=f"put the CA certificate at /etc/docker/certs.d/{host}/ca.crt, set ca for this host in the "
            "configuration file, or give --insecure",
        )
    what, hint = _VERIFY.get(
        error.verify_code, (f"the certificate is not accepted ({error.verify_message})", "")
    )
    hint = hint or "use the name that the certificate's subjectAltName has, or give --insecure"
    return Unreachable(f"{peer}: {what} ({error.verify_message})", hint=hint)
