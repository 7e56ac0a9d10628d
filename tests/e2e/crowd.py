# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# crowd.py KIND COUNT: so many clients of a kind that nobody wants, on proxy.sock and
# ctl.sock. Says "ready" when all are there, and stays until its stdin ends.
import resource, select, sys
from peer import READ, WRITE, connect, request, session

KIND, COUNT = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (COUNT + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def silent(i):
    """Half of them say nothing at all, half nothing after the handshake."""
    return session("proxy.sock") if i % 2 else connect("proxy.sock")


def trickle(i):
    """A byte a second: half of them in the handshake, half in the data of a WRITE."""
    if i % 2 == 0:
        return connect("proxy.sock")
    s = session("proxy.sock")
    s.sendall(request(WRITE, i, 8 << 20, 1 << 20))
    return s


def deaf(i):
    """Asks for 16 MiB, and never reads."""
    s = session("proxy.sock")
    s.sendall(b"".join(request(READ, n, n << 18, 1 << 18) for n in range(64)))
    return s


def deaf_control(i):
    """Asks again and again, and never reads."""
    s = connect("ctl.sock")
    s.sendall(b"cache-all follow\n" if i % 2 else b"status\n" * 1000)
    return s


crowd = [globals()[KIND](i) for i in range(COUNT)]
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 1)[0]:
    if KIND == "trickle":
        for s in crowd:
            try:
                s.sendall(b"\0")
            except OSError:
                pass  # its time was up
