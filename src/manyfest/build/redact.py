# SPDX-License-Identifier: Apache-2.0
"""What must not be told: values of build arguments that are, or look like, secrets.

A name may say it (``NPM_TOKEN``), or the value itself: an address with a password, a private key, or a token whose
issuer marks its tokens so that they are found (https://docs.github.com/en/code-security/secret-scanning).

    >>> redacted("VERSION", "1.2"), redacted("NPM_TOKEN", "x"), redacted("INDEX", "https://ann:pw@example.org/simple")
    ('1.2', 'REDACTED', 'REDACTED')
"""

from __future__ import annotations

import re

from manyfest.build.settings import looks_secret

__all__ = ["REDACTED", "redacted"]

REDACTED = "REDACTED"

_SECRET_VALUE = re.compile(
    r"://[^/@\s]*:[^/@\s]+@"  # user:password@host
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(?:gh[oprsu]_|github_pat_|glpat-|npm_|pypi-|dckr_pat_|xox[abeoprs]-|hvs\.|sk-)[\w-]{16,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\."  # a JSON web token
)


def redacted(name: str, value: str) -> str:
    """The value, or :data:`REDACTED`."""
    return REDACTED if looks_secret(name) or _SECRET_VALUE.search(value) else value
