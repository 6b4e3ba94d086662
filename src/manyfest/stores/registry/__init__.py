# SPDX-License-Identifier: Apache-2.0
"""The distribution protocol, as a client: https://github.com/opencontainers/distribution-spec

From the bottom up: ``transport`` moves bytes, ``wire`` reads what registries write, ``credentials`` knows who we are,
``auth`` says so when it is asked for, ``retry`` tries again, ``session`` gets one request through, and ``client``
is the store that the rest of the program sees. Nothing is imported here: a command pays for what it uses.
"""
