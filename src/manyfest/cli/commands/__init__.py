# SPDX-License-Identifier: Apache-2.0
"""One module a command: ``SUMMARY`` (one line), ``EXAMPLES`` (lines), ``configure(parser)``, ``run(args, console)``.

``run`` returns the exit code: 0, or 1 when the answer is no. Everything else is raised. The line of the command in
:mod:`manyfest.cli.table` repeats ``SUMMARY``, so that the overview imports nothing. ``PLAIN``, where a command has
one, is its commonest form (:mod:`manyfest.cli.plain`).
"""
