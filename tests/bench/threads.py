# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Rows of servers and a client that are bound to processors of their own: the server to the first, or to the
# first two (threads2), the client to the last. So a machine needs two processors, or three.
import os
from loads import Lean
from rows import Contender, Row
from servers import BEFORE, TARGETS, ceiling, on_processors, xnbd_threads

CONNECTIONS = 1, 4, 16, 64, 150
DEPTHS = 1, 8, 32
PROCESSORS = sorted(os.sched_getaffinity(0))


def all(rows):
    for n in 1, 2:
        servers = dict(TARGETS)
        if not BEFORE:
            servers["xnbd"] = xnbd_threads(n)
            servers["ceiling"] = ceiling(rows.programs + "/ceiling")
            if n > 1:
                servers["xnbd 1 thread"] = xnbd_threads(1)
        for rw, disk, more in ("read", rows.disk, ["-t"]), ("write", rows.pieces, []):
            for connections in CONNECTIONS:
                for depth in DEPTHS:
                    load = Lean(rows.lean_program, rw, 4096, depth, connections, more=more, processors=PROCESSORS[-1:])
                    name = "threads%s-%s-c%d-d%d" % ("" if n == 1 else n, rw, connections, depth)
                    yield Row(name, {who: Contender(bound(rows.base, make, disk, PROCESSORS[:n]), load) for who, make in servers.items()},
                              aside=("ceiling", "xnbd 1 thread"), asked=True)


def bound(base, make, disk, processors):
    def start():
        with on_processors(processors):
            return make(base, disk, True)

    return start
