# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# What sendfile(2) would bring: a file that is in the page cache goes through a socket in pieces
# of 64 KiB and 256 KiB, read and sent, or by sendfile. Three rounds in turn: the rate, and what
# the sender and the receiver use of the processor.
import os, resource, socket, tempfile, time

MIB = 1 << 20
FILE_BYTES, ALL_BYTES = 512 * MIB, 2048 * MIB


def unix():
    return socket.socketpair()


def tcp():
    with socket.create_server(("127.0.0.1", 0)) as s:
        a = socket.create_connection(s.getsockname())
        b = s.accept()[0]
    b.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return a, b


def copy_out(fd, to, at, piece, buf):
    os.preadv(fd, [buf], at)
    to.sendall(buf)


def send_out(fd, to, at, piece, _buf):
    end = at + piece
    while at < end:
        at += os.sendfile(to.fileno(), fd, at, end - at)


def cpu_s(who):
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def receive(s, piece):
    buf = bytearray(piece)
    while s.recv_into(buf):
        pass


def one(fd, name, way, pair, piece):
    here, there = pair()
    began, sender, receivers = time.monotonic(), cpu_s(resource.RUSAGE_SELF), cpu_s(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if not child:
        there.close()
        receive(here, piece)
        os._exit(0)
    here.close()
    buf = bytearray(piece)
    for at in range(0, ALL_BYTES, piece):
        way(fd, there, at % FILE_BYTES, piece, buf)
    there.close()
    os.waitpid(child, 0)
    gib = ALL_BYTES / (1 << 30)
    print("%-4s %3d KiB %-12s %5.0f MiB/s, sender %.2f s/GiB, receiver %.2f s/GiB" % (
        pair.__name__, piece >> 10, name, ALL_BYTES / MIB / (time.monotonic() - began),
        (cpu_s(resource.RUSAGE_SELF) - sender) / gib, (cpu_s(resource.RUSAGE_CHILDREN) - receivers) / gib), flush=True)


with tempfile.TemporaryFile() as f:
    for _ in range(FILE_BYTES // MIB):
        f.write(os.urandom(MIB))
    f.flush()
    for pair in unix, tcp:
        for piece in 64 << 10, 256 << 10:
            for _ in range(3):
                one(f.fileno(), "read, sent", copy_out, pair, piece)
                one(f.fileno(), "sendfile", send_out, pair, piece)
