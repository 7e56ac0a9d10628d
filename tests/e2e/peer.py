# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# For tests of what no well-kept client or server does: the wire of NBD by hand.
# Everything is as the protocol document has it, but where a test asks for something
# else.
import os, socket, struct, subprocess, threading, time

OPTION_MAGIC = 0x49484156454F5054
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)


def until_listens(path, server):
    """Somebody listens on path. Its file is there before: who connects between bind(2) and listen(2) is refused."""
    while not os.path.exists(path) or f" ino:{os.stat(path).st_ino} " not in subprocess.check_output(["ss", "-xlHe"], text=True):
        assert server.poll() is None, "the server has ended"
        time.sleep(0.05)


def connect(path, timeout=20):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout)
    s.connect(path)
    return s


def receive(s, n):
    data = bytearray()
    while len(data) < n:
        part = s.recv(min(n - len(data), 1 << 20))
        if not part:
            raise EOFError(len(data))
        data += part
    return bytes(data)


def option(s, number, data=b""):
    s.sendall(struct.pack(">QII", OPTION_MAGIC, number, len(data)) + data)


def option_reply(s):
    magic, number, kind, length = struct.unpack(">QIII", receive(s, 20))
    assert magic == 0x3E889045565A9
    return kind, receive(s, length)


def shake_hands(s, name=b""):
    """Fixed newstyle, simple replies. Returns the export's size."""
    receive(s, 18)
    s.sendall(struct.pack(">I", 1))
    option(s, 7, struct.pack(">I", len(name)) + name + bytes(2))
    size = None
    while True:
        kind, data = option_reply(s)
        if kind == 3 and data[:2] == b"\0\0":
            size = struct.unpack(">QH", data[2:])[0]
        elif kind == 1:
            return size
        elif kind != 3:
            raise AssertionError(hex(kind))


def session(path, timeout=20, name=b""):
    s = connect(path, timeout)
    shake_hands(s, name)
    return s


def request(kind, cookie, offset, length, flags=0):
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length)


def reply(s):
    magic, error, cookie = struct.unpack(">IIQ", receive(s, 16))
    assert magic == 0x67446698, hex(magic)
    return error, cookie


def ask(path, line, timeout=20):
    """The answer of the control socket."""
    s = connect(path, timeout)
    s.sendall(line.encode() + b"\n")
    return answer(s)


def answer(s):
    text = b""
    while True:
        part = s.recv(1)
        if not part:
            return text.decode() + "<hung up>"
        text += part
        if part == b"\n":
            last = text[text[:-1].rfind(b"\n") + 1:]
            if last == b"ok\n" or last.startswith(b"error "):
                return text.decode()


def status(path, key):
    return dict(l.split(" ", 1) for l in ask(path, "status").splitlines() if " " in l)[key]


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid):
    return int(next(l for l in open(f"/proc/{pid}/status") if l.startswith("VmRSS")).split()[1])


class Origin:
    """An origin full of ones. hook(origin, socket, kind, cookie, offset, length) may
    return True: then it has answered, or will not. extents(offset, length) answers
    BLOCK_STATUS."""

    def __init__(self, path, size, hook=None, extents=None, min_block=None):
        self.size, self.hook, self.extents, self.min_block = size, hook, extents, min_block
        self.connections = self.requests = 0
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(64)
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            s = listener.accept()[0]
            self.connections += 1
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def option_answer(self, s, number, kind, data=b""):
        s.sendall(struct.pack(">QIII", 0x3E889045565A9, number, kind, len(data)) + data)

    def serve(self, s):
        try:
            s.sendall(b"NBDMAGIC" + struct.pack(">QH", OPTION_MAGIC, 3))
            receive(s, 4)
            while self.handshake(s):
                pass
            while True:
                _, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", receive(s, 28))
                if kind == DISC:
                    return
                self.requests += 1
                if not (self.hook and self.hook(self, s, kind, cookie, offset, length)):
                    self.reply(s, kind, cookie, offset, length)
        except (EOFError, OSError):
            pass
        finally:
            s.close()

    def handshake(self, s):
        _, number, length = struct.unpack(">QII", receive(s, 16))
        receive(s, length)
        if number == 8:
            self.option_answer(s, number, 1)
        elif number == 10:
            self.option_answer(s, number, 4, struct.pack(">I", 7) + b"base:allocation")
            self.option_answer(s, number, 1)
        elif number in (6, 7):
            self.option_answer(s, number, 3, struct.pack(">HQH", 0, self.size, 1 | 1 << 8))
            if self.min_block:
                self.option_answer(s, number, 3, struct.pack(">HIII", 3, self.min_block, self.min_block, 32 << 20))
            self.option_answer(s, number, 1)
        return number != 7

    def reply(self, s, kind, cookie, offset, length):
        if kind == READ:
            s.sendall(struct.pack(">IHHQIQ", 0x668E33EF, 1, 1, cookie, 8 + length, offset) + b"\1" * length)
        else:
            extents = self.extents(offset, length) if self.extents else [(length, 0)]
            s.sendall(struct.pack(">IHHQII", 0x668E33EF, 1, 5, cookie, 4 + 8 * len(extents), 7)
                      + b"".join(struct.pack(">II", *e) for e in extents))
