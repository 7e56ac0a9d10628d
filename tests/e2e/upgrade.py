# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# upgrade.py load|states|order ...: clients of a server whose program is exchanged.
#   load SEED PORT SOCKET DISK COMMAND...: while COMMAND, which exchanges it, runs, three clients have 16
#     requests each in flight and check every byte: two by TCP, with structured replies and without,
#     one by a Unix socket. Each request must be answered once.
#   states SOCKET DISK COMMAND...: clients that are in the middle of something when COMMAND runs.
#   order SOCKET DISK PID COMMAND...: replies that wait; PID is the origin.
import os, random, signal, socket, struct, subprocess, sys, time
import nbd

SLOT = 2 << 20   # of the disk; at most one request at a time is in one
SLOTS = 16


class Client:
    """Its part of the disk, and what has to be there."""

    def __init__(self, number, disk, rng, connect, structured=True):
        self.h = nbd.NBD()
        self.h.set_strict_mode(0)
        if not structured:
            self.h.set_request_structured_replies(False)
        else:
            self.h.add_meta_context("base:allocation")
        connect(self.h)
        self.structured, self.rng, self.base = structured, rng, number * SLOTS * SLOT
        self.want = bytearray(disk[self.base:self.base + SLOTS * SLOT])
        self.flight = {}  # slot: (cookie, what to do when it is answered)
        self.done = self.longest = 0

    def submit(self, slot):
        rng, h = self.rng, self.h
        length = rng.choice((512, 4096, 4096, 65536, 300000, 1 << 20, SLOT))
        at = slot * SLOT + rng.randrange(0, SLOT - length + 1)
        offset, kind, then = self.base + at, rng.randrange(10), lambda: None
        if kind < 4:
            buf = nbd.Buffer(length)
            cookie = h.aio_pread(buf, offset)
            then = lambda: self.expect(at, buf)
        elif kind < 7:
            data = rng.randbytes(length)
            cookie = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset, flags=nbd.CMD_FLAG_FUA if kind == 4 else 0)
            self.want[at:at + length] = data
        elif kind == 7:
            cookie = h.aio_zero(length, offset)
            self.want[at:at + length] = bytes(length)
        elif kind == 8 and self.structured:
            cookie = h.aio_block_status(length, offset, lambda *a: 0)
        else:
            cookie = h.aio_flush()
        self.flight[slot] = cookie, then, time.monotonic()

    def expect(self, at, buf):
        found = buf.to_bytearray()
        if found != self.want[at:at + len(found)]:
            sys.exit(f"wrong bytes at {self.base + at}")

    def turn(self, more):
        for slot in range(SLOTS):
            if slot in self.flight:
                cookie, then, since = self.flight[slot]
                if not self.h.aio_command_completed(cookie):
                    continue
                then()
                self.longest = max(self.longest, time.monotonic() - since)
                del self.flight[slot]
                self.done += 1
            if more:
                self.submit(slot)
        if self.flight:
            self.h.poll(1)


def load(seed, port, path, disk, *command):
    rng = random.Random(int(seed))
    with open(disk, "rb") as f:
        content = f.read()
    clients = [Client(0, content, rng, lambda h: h.connect_tcp("127.0.0.1", port)),
               Client(1, content, rng, lambda h: h.connect_tcp("127.0.0.1", port), structured=False),
               Client(2, content, rng, lambda h: h.connect_unix(path))]
    p = subprocess.Popen(command)
    while p.poll() is None or any(c.flight for c in clients):
        for c in clients:
            c.turn(p.returncode is None)
    for c in clients:
        if not c.done:
            sys.exit("a client got no answer at all")
        for slot in range(SLOTS):
            if c.h.pread(SLOT, c.base + slot * SLOT) != c.want[slot * SLOT:(slot + 1) * SLOT]:
                sys.exit(f"wrong bytes in the end, in slot {slot}")
        c.h.shutdown()
    print(f"{sum(c.done for c in clients)} requests, the longest took {max(c.longest for c in clients):.3f} s", file=open("load.out", "w"))
    return p.returncode


# ---- clients in the middle of something ---------------------------------------------------

REQUEST, REPLY = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")
READ, WRITE = 0, 1


class Raw:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(path)

    def get(self, n):
        data = b""
        while len(data) < n:
            part = self.s.recv(n - len(data))
            if not part:
                sys.exit("the server has hung up")
            data += part
        return data

    def greet(self):
        self.get(18)
        self.s.sendall(struct.pack(">I", 1) + b"IHAVEOPT" + struct.pack(">II", 7, 6) + bytes(6))
        while True:
            _, _, kind, n = struct.unpack(">QIII", self.get(20))
            self.get(n)
            if kind == 1:
                return self

    def request(self, kind, cookie, offset, length):
        return REQUEST.pack(0x25609513, 0, kind, cookie, offset, length)

    def reply(self, cookie, error=0):
        if REPLY.unpack(self.get(16)) != (0x67446698, error, cookie):
            sys.exit("this is not the reply")


def states(path, disk, *command):
    with open(disk, "rb") as f:
        content = f.read()
    half = 5 << 20
    data = random.Random(1).randbytes(2 * half)
    greeting = Raw(path)                      # half an option
    greeting.get(18)
    greeting.s.sendall(struct.pack(">I", 1) + b"IHAV")
    silent = Raw(path).greet()                # half a header
    r = silent.request(READ, 1, 24 << 20, 8192)
    silent.s.sendall(r[:13])
    writer = Raw(path).greet()                # half of a long WRITE's data
    writer.s.sendall(writer.request(WRITE, 2, 0, len(data)) + data[:half])
    short = Raw(path).greet()                 # ... of a short one
    short.s.sendall(short.request(WRITE, 3, 20 << 20, 1000) + data[:500])
    beyond = Raw(path).greet()                # ... of one that has failed: it is behind the end of the disk
    beyond.s.sendall(beyond.request(WRITE, 7, len(content) - 4096, 1 << 20) + data[:half // 10])
    reader = Raw(path).greet()                # two replies that it does not take: long, and behind it a short one
    reader.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.s.sendall(reader.request(READ, 4, 32 << 20, 8 << 20) + reader.request(READ, 5, 16 << 20, 4096))
    head = reader.get(4 << 20)
    time.sleep(0.5)
    status = subprocess.call(command)
    greeting.s.sendall(b"EOPT" + struct.pack(">II", 7, 6) + bytes(6))
    if struct.unpack(">QIII", greeting.get(20))[:2] != (0x3E889045565A9, 7):
        sys.exit("the handshake did not go on")
    silent.s.sendall(r[13:])
    silent.reply(1)
    if silent.get(8192) != content[24 << 20:(24 << 20) + 8192]:
        sys.exit("half a header: wrong bytes")
    writer.s.sendall(data[half:])
    writer.reply(2)
    short.s.sendall(data[500:1000])
    short.reply(3)
    beyond.s.sendall(data[half // 10:1 << 20])
    beyond.reply(7, 28)
    rest = head + reader.get(16 + (8 << 20) - len(head))
    if rest != REPLY.pack(0x67446698, 0, 4) + content[32 << 20:40 << 20]:
        sys.exit("a reply in pieces: wrong bytes")
    reader.reply(5)
    if reader.get(4096) != content[16 << 20:(16 << 20) + 4096]:
        sys.exit("the reply behind it: wrong bytes")
    for offset, wanted in ((0, data), (20 << 20, data[:1000])):
        silent.s.sendall(silent.request(READ, 6, offset, len(wanted)))
        silent.reply(6)
        if silent.get(len(wanted)) != wanted:
            sys.exit("what was written is not there")
    return status


def order(path, disk, origin, *command):
    """A READ that waits for the origin, which stands still, and behind it a long one, whose reply has begun."""
    with open(disk, "rb") as f:
        content = f.read()
    missing, here, n = 96 << 20, 48 << 20, 8 << 20
    before = Raw(path).greet()
    before.s.sendall(before.request(READ, 1, here, n))
    before.reply(1)
    before.get(n)
    reader = Raw(path).greet()
    reader.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    os.kill(int(origin), signal.SIGSTOP)
    reader.s.sendall(reader.request(READ, 2, missing, 512 << 10) + reader.request(READ, 3, here, n))
    reader.reply(3)
    os.kill(int(origin), signal.SIGCONT)
    time.sleep(1)  # it is here by now, and its reply waits for the other's end
    status = subprocess.call(command)
    if reader.get(n) != content[here:here + n]:
        sys.exit("another reply is in the middle of one")
    reader.reply(2)
    if reader.get(512 << 10) != content[missing:missing + (512 << 10)]:
        sys.exit("the reply that had to wait: wrong bytes")
    return status


sys.exit({"load": load, "states": states, "order": order}[sys.argv[1]](*sys.argv[2:]))
