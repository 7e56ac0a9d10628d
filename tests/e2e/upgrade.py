# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# upgrade.py load|exports|states|order|waiting|committing ...: clients of a server whose program is exchanged.
#   load SEED PORT SOCKET DISK COMMAND...: while COMMAND, which exchanges it, runs, three clients have 16
#     requests each in flight and check every byte: two by TCP, with structured replies and without,
#     one by a Unix socket. Each request must be answered once.
#   exports SEED SOCKET NAME=DISK,NAME=DISK... COMMAND...: the same of a wrapper, with one client for each NAME=DISK; those of one name
#     have different parts of it.
#   states SOCKET DISK COMMAND...: clients that are in the middle of something when COMMAND runs.
#   order SOCKET DISK PID COMMAND...: replies that wait; PID is the origin.
#   waiting SOCKET DISK PID COMMIT_FILE COMMAND...: requests of each kind that wait for the origin, and handshakes.
#   committing SOCKET COMMIT_FILE COMMAND...: a write with FUA whose commit waits for the disk; COMMAND ends that wait, too.
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
    return drive([Client(0, content, rng, lambda h: h.connect_tcp("127.0.0.1", port)),
                  Client(1, content, rng, lambda h: h.connect_tcp("127.0.0.1", port), structured=False),
                  Client(2, content, rng, lambda h: h.connect_unix(path))], command)


def exports(seed, path, names, *command):
    rng, clients, names = random.Random(int(seed)), [], [n.split("=") for n in names.split(",")]
    for i, (name, disk) in enumerate(names):
        def connect(h):
            h.set_export_name(name)
            h.connect_unix(path)
        with open(disk, "rb") as f:
            clients.append(Client([n for n, _ in names[:i]].count(name), f.read(), rng, connect, structured=i % 2 == 0))
    return drive(clients, command)


def drive(clients, command):
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
READ, WRITE, FLUSH, ZEROES, STATUS = 0, 1, 3, 6, 7
FUA = 1
CONTEXTS = {1: b"base:allocation", 2: b"x-xnbd:local"}  # by the server's number of them
COMMIT_HEADER_BYTES = 8192  # of the commit file, in front of its bits


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

    def option(self, number, data):
        """Sends it; its replies, until the last."""
        self.s.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        replies = []
        while not replies or replies[-1][0] not in (1, 2) and replies[-1][0] < 1 << 31:
            _, option, kind, n = struct.unpack(">QIII", self.get(20))
            replies.append((kind, self.get(n)))
            if option != number:
                sys.exit("a reply to another option")
        return replies

    def negotiate(self):
        """Structured replies, and both contexts; what is left is go()."""
        self.get(18)
        self.s.sendall(struct.pack(">I", 1))
        self.option(8, b"")
        queries = b"".join(struct.pack(">I", len(c)) + c for c in CONTEXTS.values())
        found = dict(struct.unpack(">I", d[:4]) + (d[4:],) for kind, d in self.option(10, struct.pack(">II", 0, 2) + queries) if kind == 4)
        if found != CONTEXTS:
            sys.exit(f"contexts: {found}")
        return self

    def go(self):
        if self.option(7, bytes(6))[-1][0] != 1:
            sys.exit("the handshake is refused")
        return self

    def chunk(self, cookie):
        magic, flags, kind, found, n = struct.unpack(">IHHQI", self.get(20))
        if (magic, found) != (0x668E33EF, cookie):
            sys.exit("this is not a chunk of the reply")
        return flags & 1, kind, self.get(n)

    def read_structured(self, cookie, offset, n):
        """The bytes of the reply to a READ."""
        data, done = bytearray(n), False
        while not done:
            done, kind, d = self.chunk(cookie)
            if kind in (1, 2):
                at = struct.unpack(">Q", d[:8])[0] - offset
                data[at:at + (len(d) - 8 if kind == 1 else 0)] = d[8:] if kind == 1 else b""
            elif kind:
                sys.exit(f"a chunk of type {kind}")
        return bytes(data)

    def status(self, cookie, length):
        """The reply to a BLOCK_STATUS: of each context one chunk, with extents that are not longer than it."""
        found, done = [], False
        while not done:
            done, kind, d = self.chunk(cookie)
            lengths = [x[0] for x in struct.iter_unpack(">II", d[4:])]
            if kind != 5 or not lengths or 0 in lengths or sum(lengths[:-1]) >= length:
                sys.exit(f"this is no block status: {kind} {d}")
            found.append(struct.unpack(">I", d[:4])[0])
        if sorted(found) != sorted(CONTEXTS):
            sys.exit(f"block status of contexts {found}")

    def request(self, kind, cookie, offset, length, flags=0):
        return REQUEST.pack(0x25609513, flags, kind, cookie, offset, length)

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
    reader.s.sendall(reader.request(READ, 4, 32 << 20, 8 << 20))
    head = reader.get(4 << 20)
    reader.s.sendall(reader.request(READ, 5, 16 << 20, 4096))  # else its reply may be the first
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


def is_committed(path, block):
    with open(path, "rb") as f:
        f.seek(COMMIT_HEADER_BYTES + block // 8)
        return f.read(1)[0] >> block % 8 & 1


def waiting(path, disk, origin, commit, *command):
    """What is under way when the origin stands still. Each request is answered once, and a handshake goes on."""
    with open(disk, "rb") as f:
        content = f.read()
    zeroes, other = 40 << 20, 60 << 20
    half = Raw(path).negotiate()                # a handshake with options that were agreed on
    later = Raw(path)                           # ... and one in which nothing was said yet
    later.get(18)
    simple, structured, asks, zero, fua, two = (Raw(path).greet(), Raw(path).negotiate().go(), Raw(path).negotiate().go(),
                                                    Raw(path).greet(), Raw(path).greet(), Raw(path).greet())
    os.kill(int(origin), signal.SIGSTOP)
    simple.s.sendall(simple.request(READ, 1, 64 << 20, 8192))
    structured.s.sendall(structured.request(READ, 2, 68 << 20, 8192))
    asks.s.sendall(asks.request(STATUS, 3, 72 << 20, 4 << 20))
    zero.s.sendall(zero.request(ZEROES, 4, zeroes + 512, 8192))
    fua.s.sendall(fua.request(WRITE, 5, other + 512, 512, FUA) + b"f" * 512)
    time.sleep(0.3)
    status = subprocess.call(command)
    simple.s.settimeout(0.5)
    try:
        simple.get(1)
        sys.exit("the origin stands still, and a READ is answered")
    except TimeoutError:
        simple.s.settimeout(60)
    later.s.sendall(struct.pack(">I", 1))
    later.go()
    os.kill(int(origin), signal.SIGCONT)
    fua.reply(5)
    if not is_committed(commit, other // 4096):
        sys.exit("a write with FUA was answered, and is not committed")
    simple.reply(1)
    if simple.get(8192) != content[64 << 20:(64 << 20) + 8192]:
        sys.exit("a READ with a simple reply: wrong bytes")
    if structured.read_structured(2, 68 << 20, 8192) != content[68 << 20:(68 << 20) + 8192]:
        sys.exit("a READ with a structured reply: wrong bytes")
    asks.status(3, 4 << 20)
    zero.reply(4)
    half.go()
    half.s.sendall(half.request(STATUS, 8, zeroes, 4 << 20))
    half.status(8, 4 << 20)
    half.s.sendall(half.request(READ, 9, 76 << 20, 16384))
    if half.read_structured(9, 76 << 20, 16384) != content[76 << 20:(76 << 20) + 16384]:
        sys.exit("a handshake that went on: wrong bytes")
    for offset, want in ((zeroes, content[zeroes:zeroes + 512] + bytes(8192) + content[zeroes + 8704:zeroes + 12288]), (other, content[other:other + 512] + b"f" * 512 + content[other + 1024:other + 4096])):
        two.s.sendall(two.request(READ, 10, offset, len(want)))
        two.reply(10)
        if two.get(len(want)) != want:
            sys.exit(f"wrong bytes at {offset}")
    for c in (simple, structured, asks, zero, fua, half):  # no second reply is in front of this one
        c.s.sendall(c.request(FLUSH, 11, 0, 0))
        c.reply(11)
    return status


def committing(path, commit, *command):
    """Long zeroes, and a write with FUA that waits for its commit: what others write behind them is not written over. The disk is
    slow."""
    at, zeroes, long = 4 << 20, 16 << 20, 8 << 20
    fua, zero, other = Raw(path).greet(), Raw(path).greet(), Raw(path).greet()

    def read(offset):
        other.s.sendall(other.request(READ, 2, offset, 4096))
        other.reply(2)
        return other.get(4096)

    def wait_for(offset, want):
        for _ in range(2000):
            if read(offset) == want:
                return
            time.sleep(0.01)
        sys.exit(f"it is not there: {want[:1]}")

    fua.s.sendall(fua.request(WRITE, 1, at, 4096, FUA) + b"f" * 4096)
    wait_for(at, b"f" * 4096)
    zero.s.sendall(zero.request(ZEROES, 4, zeroes, long))
    wait_for(zeroes, bytes(4096))
    for offset in at, zeroes:
        other.s.sendall(other.request(WRITE, 3, offset, 4096) + b"o" * 4096)
        other.reply(3)
    for c, what in (fua, "the commit"), (zero, "the zeroing"):
        c.s.settimeout(0.3)
        try:
            c.get(1)
            sys.exit(f"{what} has come to its end")
        except TimeoutError:
            c.s.settimeout(60)
    status = subprocess.call(command)
    fua.reply(1)
    if not is_committed(commit, at // 4096):
        sys.exit("a write with FUA was answered, and is not committed")
    zero.reply(4)
    if read(at) != b"o" * 4096 or read(zeroes) != b"o" * 4096:
        sys.exit("an old request has come over a newer write")
    if any(read(offset) != bytes(4096) for offset in range(zeroes + 4096, zeroes + long, 4096)):
        sys.exit("not all is zeroed")
    return status


sys.exit({"load": load, "exports": exports, "states": states, "order": order, "waiting": waiting, "committing": committing}[sys.argv[1]](*sys.argv[2:]))
