# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""A TCP port of 127.0.0.1 that nobody has. None of those that the kernel gives to whoever connects, or binds to port 0
(ip_local_port_range): the server that is to have it begins a moment later."""
import random, socket


def free_port():
    while True:
        port = random.SystemRandom().randrange(10240, 32768)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


if __name__ == "__main__":
    print(free_port())
