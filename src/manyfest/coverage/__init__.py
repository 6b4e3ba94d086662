# SPDX-License-Identifier: Apache-2.0
"""Will it run on those nodes? What engines choose, what schedulers filter, and what that means for every node.

* :mod:`~manyfest.coverage.rules`: each engine's own matching rule.
* :mod:`~manyfest.coverage.nodes`: the machines.
* :mod:`~manyfest.coverage.sources`: the images that files ask for, and where they may go.
* :mod:`~manyfest.coverage.matrix`: images times nodes; :mod:`~manyfest.coverage.report` shows it.
"""
