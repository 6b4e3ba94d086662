# SPDX-License-Identifier: Apache-2.0
"""Lists, a swarm and who answers, live: as a web page (``manyfest dashboard``) or in the terminal (``manyfest watch``).

:mod:`~manyfest.serve.dashboard.state` holds what is known, :mod:`~manyfest.serve.dashboard.watchers` find it out,
:mod:`~manyfest.serve.dashboard.app` serves it. Nothing here changes anything anywhere.
"""
