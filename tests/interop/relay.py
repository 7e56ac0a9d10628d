# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""Stands between a client and a server, counts connections, and cuts them off.

  relay.py LISTEN CONNECT COUNT [BYTES]

COUNT is a file with two numbers: the most connections at a time, and all there were.
With BYTES, a connection is cut, wherever it is, when the server has sent so many bytes.
"""
import select, socket, sys, threading

listen, connect, count = sys.argv[1:4]
cut = int(sys.argv[4]) if len(sys.argv) > 4 else None
lock = threading.Lock()
clients = []
most = total = 0


def begins(client):
    """Who has hung up is not counted, even if its thread has yet to see it."""
    global most, total
    with lock:
        clients.append(client)
        poll = select.poll()
        for c in clients:
            poll.register(c, 0)
        gone = sum(1 for _, events in poll.poll(0) if events & select.POLLHUP)
        most = max(most, len(clients) - gone)
        total += 1
        with open(count, "w") as f:
            print(most, total, file=f)


def ends(client):
    with lock:
        clients.remove(client)


def shut(*sockets):
    for s in sockets:
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def pump(source, sink, left=None):
    try:
        while data := source.recv(65536 if left is None else min(65536, left)):
            sink.sendall(data)
            if left is not None:
                left -= len(data)
                if not left:
                    break
    except OSError:
        pass
    shut(source, sink)


def serve(client):
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(connect)
    except OSError:
        client.close()
        return
    begins(client)
    other = threading.Thread(target=pump, args=(client, server), daemon=True)
    other.start()
    pump(server, client, cut)
    other.join()
    ends(client)
    client.close()
    server.close()


listener = socket.socket(socket.AF_UNIX)
listener.bind(listen)
listener.listen(64)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
