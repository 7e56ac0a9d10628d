# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A disk with a volatile write cache: an NBD server for QEMU. What was written since the
# last FLUSH is only in the cache; a power cut keeps, drops or tears each of these writes.
import os, random, socket, struct, threading

SECTOR = 512  # is written whole or not at all

HANDSHAKE = b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 3)  # fixed newstyle, no zeroes
OPT_ABORT, OPT_GO = 2, 7
REP_ACK, REP_INFO, REP_ERR_UNSUP = 1, 3, 0x80000001
FLAGS = 1 | 4  # has flags, FLUSH. No FUA: QEMU then sends a FLUSH instead
READ, WRITE, DISCONNECT, FLUSH = range(4)


def outcome(stable, pending, rng):
    """What a power cut leaves of a disk: the bytes that were safe, and of the writes in
    the cache, (offset, data) in their order, what chance keeps."""
    after = bytearray(stable)
    # Some cuts keep nearly all, some nearly nothing: order errors show best there.
    keep = rng.choice((0, 0.1, 0.5, 0.9, 1))
    tear = rng.choice((0, 0.3))
    for offset, data in pending:
        if rng.random() < tear:
            for i in range(0, len(data), SECTOR):
                if rng.random() < keep:
                    after[offset + i:offset + i + SECTOR] = data[i:i + SECTOR]
        elif rng.random() < keep:
            after[offset:offset + len(data)] = data
    return bytes(after)


class Disk:
    """power: an event, shared by the disks of a machine: set when the power is gone. From
    then on nothing is read, written, made safe or answered."""

    def __init__(self, path, content, power):
        self.path, self.power = path, power
        self.power_on(content)

    def power_on(self, content):
        """Serves one connection, until the machine is gone."""
        self.flushes_left = 0  # so many FLUSHes of something, then the power fails; 0: it does not
        self.stable, self.now, self.pending = bytearray(content), bytearray(content), []
        if os.path.exists(self.path):
            os.unlink(self.path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(1)
        self.thread = threading.Thread(target=self.serve, args=(listener,), daemon=True)
        self.thread.start()

    def wait(self):
        """Until the machine is gone."""
        self.thread.join()

    def serve(self, listener):
        s = listener.accept()[0]
        listener.close()
        f = s.makefile("rb")
        try:
            if self.negotiate(s, f):
                while not self.power.is_set() and self.request(s, f):
                    pass
            while f.read(1 << 20):
                pass
        except (OSError, EOFError):
            pass  # the machine was killed
        s.close()

    def negotiate(self, s, f):
        s.sendall(HANDSHAKE)
        take(f, 4)
        while True:
            _, option, length = struct.unpack(">8sII", take(f, 16))
            take(f, length)

            def reply(kind, data=b""):
                s.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)

            if option == OPT_GO:
                reply(REP_INFO, struct.pack(">HQH", 0, len(self.now), FLAGS))
                reply(REP_ACK)
                return True
            reply(REP_ACK if option == OPT_ABORT else REP_ERR_UNSUP)
            if option == OPT_ABORT:
                return False

    def request(self, s, f):
        _, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", take(f, 28))
        data = b""
        if kind == READ:
            data = self.now[offset:offset + length]
        elif kind == WRITE:
            written = take(f, length)
            self.now[offset:offset + length] = written
            self.pending.append((offset, written))
        elif kind == FLUSH:
            if self.flushes_left and self.pending:
                self.flushes_left -= 1
                if not self.flushes_left:
                    self.power.set()
            # As long as a disk's arm would take: time for the power to fail.
            if self.power.wait(random.uniform(0, 0.02)):
                return False
            for offset, written in self.pending:
                self.stable[offset:offset + len(written)] = written
            self.pending = []
        elif kind == DISCONNECT:
            return False
        else:
            raise SystemExit(f"disk: request {kind} is not known")
        s.sendall(struct.pack(">IIQ", 0x67446698, 0, cookie) + data)
        return True


def take(f, n):
    data = f.read(n)
    if len(data) < n:
        raise EOFError
    return data
