# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# log_writes.py STEPS SEED: what a proxy does to its disk, write by write, recorded by the
# kernel's dm-log-writes; then a power cut before each FLUSH, and before each write with
# FUA, that the kernel has sent. Image and bitmap are files of one ext4 file system. The
# cache is one of xNBD's at the start: it has no commit file, but blocks that a client wrote.
#
# The log's format: Documentation/admin-guide/device-mapper/log-writes.rst in the kernel's
# source. A write stands there before the first FLUSH that covers it.
import os, random, struct, sys
from disk import SECTOR, outcome
from machine import HOST, Machine, connect, make_ext4, serve_origin
from model import BLOCK, HEADER, Model, Writer, bits, read_files

STEPS, SEED = int(sys.argv[1]), int(sys.argv[2])
SIZE = (12 << 20) - 3 * SECTOR
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
rng = random.Random(SEED)
log = open("log_writes.log", "w", buffering=1)


def make_adopted():
    """xNBD's cache, in a new file system: every third block is local, and a client's."""
    os.mkdir("tree")
    blocks = -(-SIZE // BLOCK)
    with open("tree/cache.img", "wb") as image, open("tree/cache.bm", "wb") as bitmap:
        for at in adopted:
            image.seek(at)
            image.write(adopted[at])
        image.truncate(SIZE)
        n = sum(1 << at // BLOCK for at in adopted)
        bitmap.write(n.to_bytes(-(-blocks // 64) * 8, "little"))
    return make_ext4("fs.img", 24 << 20, "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", "tree")


class Start(Model):
    """What is there at the start: the origin's, and what is adopted."""

    def __init__(self, content):
        super().__init__(content)
        for at in adopted:
            for i in range(0, BLOCK, SECTOR):
                self.may[(at + i) // SECTOR] = [adopted[at][i:i + SECTOR]]


class Recorder(Start):
    """A model that can be had again as it was."""

    def __init__(self, content):
        super().__init__(content)
        self.events = []

    def sent(self, offset, data):
        self.events.append(("sent", offset, data))
        super().sent(offset, data)

    def safe(self, sector, content):
        self.events.append(("safe", sector, content))
        super().safe(sector, content)


class Replay:
    """The model between two marks: what was safe at the first, and what was sent until
    the second."""

    def __init__(self, recorder):
        self.model = Start(recorder.origin)
        self.parts, part = [], []
        for event in recorder.events:
            if event[0] == "mark":
                self.parts.append(part)
                part = []
            else:
                part.append(event)
        self.parts.append(part)
        self.at = 0
        self.apply("sent")

    def apply(self, kind):
        for event in self.parts[self.at]:
            if event[0] == kind:
                getattr(self.model, kind)(*event[1:])

    def mark(self):
        self.apply("safe")
        self.at += 1
        self.apply("sent")


def entries(path):
    """(flags, offset, data) of the log, one by one."""
    with open(path, "rb") as f:
        magic, version, count, sector_bytes = struct.unpack("<QQQI", f.read(28))
        if (magic, version) != (0x6A736677736872, 1):
            sys.exit("this is not the log of dm-log-writes")
        f.seek(sector_bytes)
        for _ in range(count):
            head = f.read(sector_bytes)
            sector, sectors, flags, data_bytes = struct.unpack("<QQQQ", head[:32])
            if flags & DISCARD:
                sys.exit("a discard: this test knows no such thing")
            data = head[32:32 + data_bytes] if flags & MARK else f.read(sectors * sector_bytes)
            yield flags, sector * sector_bytes, data


def run_machine(recorder, port):
    """Leaves log.img and, in disk.img, what the disk was before."""
    for name, size in (("log.img", 1 << 30), ("work.img", 0)):
        with open(name, "wb") as f:
            f.write(before if not size else b"")
            f.truncate(size or len(before))
    m = Machine("work.img,cache=unsafe", "log.img,cache=unsafe")  # FLUSH is for the log, not for the host's disk
    m.run(f"dmsetup create log --table '0 {len(before) // SECTOR} log-writes /dev/vda /dev/vdb'")
    m.run("mount -t ext4 /dev/dm-0 /a")
    m.run(f"xnbd-server --proxy --daemonize --adopt-bitmap --lport 8521 --rate {SIZE // 8} {HOST} {port} /a/cache.img /a/cache.bm"
          " /run/ctl.sock && xnbd-bgctl --cache-all2 /run/ctl.sock")
    client = connect(m.port)
    writer = Writer(recorder, client, 0, rng.random())

    def mark():
        m.run("dmsetup message log 0 mark here")
        recorder.events.append(("mark",))

    for step in range(STEPS):
        for _ in range(rng.randrange(1, 4)):
            writer.batch()
        if rng.random() < 0.7:
            flush = recorder.before_flush()
            client.flush()
            recorder.flushed(flush)
        mark()
    m.run("xnbd-bgctl --cache-all /run/ctl.sock && xnbd-bgctl --switch /run/ctl.sock")
    recorder.flushed(recorder.before_flush())
    mark()
    m.run("kill $(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p'); until_true 300 umount /a")
    m.run("dmsetup remove log && sync")
    m.kill()


def look(disk):
    image, commit, bitmap = read_files(disk, "/cache.img", "/cache.bm.commit", "/cache.bm")
    if commit is None:  # then a start takes the bitmap's word
        commit = bytes(HEADER) + (bitmap or b"")
    return image or b"", bits(commit, SIZE)


class Checker:
    def __init__(self, recorder):
        self.replay = Replay(recorder)
        self.stable, self.pending = bytearray(before), []
        self.local = look(before)[1]
        self.cuts = self.torn = 0

    def cut(self, also=()):
        pending = self.pending + list(also)
        image, local = look(outcome(self.stable, pending, rng))
        wrong = self.replay.model.wrong(image, local)
        if wrong:
            sys.exit(f"after {self.replay.at} marks: {wrong}")
        if any(was and not now for was, now in zip(self.local, local)):
            sys.exit(f"after {self.replay.at} marks: a committed block is forgotten")
        self.cuts += 1

    def write(self, offset, data):
        self.stable[offset:offset + len(data)] = data

    def step(self, flags, offset, data):
        if flags & MARK:
            if data.rstrip(b"\0") == b"here":
                self.replay.mark()
                self.local = look(self.stable)[1]
        elif flags & (FLUSH | FUA):
            if flags & FLUSH:
                self.cut()
                for write in self.pending:
                    self.write(*write)
                self.pending = []
            if data:
                self.cut([(offset, data)])
                self.write(offset, data)
        else:
            self.pending.append((offset, data))


def check(recorder):
    c = Checker(recorder)
    for entry in entries("log.img"):
        c.step(*entry)
    image, local = look(c.stable)
    print(f"{c.cuts} cuts, {c.replay.at} marks, {sum(local)} blocks local", file=log)
    if not all(local) or image != recorder.settled(0, SIZE):
        sys.exit("the image is not the disk")
    if c.replay.at != STEPS + 1 or c.cuts < STEPS:
        sys.exit(f"{c.replay.at} marks and {c.cuts} cuts: this was no test")


origin = b"".join(bytes(1 << 16) if rng.random() < 0.2 else rng.randbytes(1 << 16) for _ in range(12 << 4))[:SIZE]
with open("origin.img", "wb") as f:
    f.write(origin)
adopted = {at: rng.randbytes(BLOCK) for at in range(0, SIZE - BLOCK, 3 * BLOCK)}
before = make_adopted()
recorder = Recorder(origin)
run_machine(recorder, serve_origin("origin.img"))
check(recorder)
print("ok")
