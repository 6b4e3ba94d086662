# SPDX-License-Identifier: Apache-2.0
"""What is really inside an image: judged from its bytes, without running anything.

:mod:`~manyfest.verify.facts` says what one file's bytes say, :mod:`~manyfest.verify.kinds` reads them::

    from manyfest.verify.kinds import read_facts, wanted
    from manyfest.verify.facts import Kept

    kept = Kept(wanted(head, size))     # a stream: these ranges of the file are needed
    ...                                 # kept.feed(chunk) for every chunk, from byte 0 on
    facts = read_facts(head, size, kept)  # None: nothing that runs
"""
