# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# What a disk may hold after a power cut, sector by sector; and what two clients write.
import os, random, subprocess, sys, threading
import nbd
from disk import SECTOR

BLOCK = 4096
HEADER = 8192  # of the commit file, before its bits
SWITCHED = 56 + 8 * 77  # in a copy of it: the number of this name of struct state_header


class Model:
    """For each sector the contents that it may have, oldest first. The first one is safe:
    nothing older may come back."""

    def __init__(self, content):
        self.origin = content
        self.may = [[content[i:i + SECTOR]] for i in range(0, len(content), SECTOR)]
        self.answered = [0] * len(self.may)  # of these contents, the last that was acknowledged
        self.written = set()  # the sectors that have more than one
        self.lock = threading.Lock()

    def sent(self, offset, data):
        """A write is about to be sent. A sector has one write at a time."""
        with self.lock:
            for i in range(0, len(data), SECTOR):
                sector = (offset + i) // SECTOR
                self.may[sector].append(data[i:i + SECTOR])
                self.written.add(sector)

    def acknowledged(self, offset, length, fua):
        with self.lock:
            for sector in range(offset // SECTOR, (offset + length) // SECTOR):
                self.answered[sector] = len(self.may[sector]) - 1
                if fua:
                    self.safe(sector, self.may[sector][-1])

    def before_flush(self):
        """What a FLUSH that is sent now makes safe."""
        with self.lock:
            return [(s, self.may[s][self.answered[s]]) for s in self.written if self.answered[s]]

    def flushed(self, what):
        with self.lock:
            for sector, content in what:
                self.safe(sector, content)

    def safe(self, sector, content):
        # Contents differ. One that is not there was overwritten by what is safe already.
        if content in self.may[sector]:
            i = self.may[sector].index(content)
            del self.may[sector][:i]
            self.answered[sector] = max(0, self.answered[sector] - i)
            if len(self.may[sector]) == 1:
                self.written.discard(sector)

    def settled(self, offset, length):
        """What is there, when no write is."""
        return b"".join(may[-1] for may in self.may[offset // SECTOR:(offset + length) // SECTOR])

    def wrong(self, image, local):
        """What is wrong with what a power cut has left: the image, and for each block
        whether it is local."""
        for block in range(len(local)):
            at = block * BLOCK
            have = (image if local[block] else self.origin)[at:min(at + BLOCK, len(self.origin))]
            if len(have) < min(BLOCK, len(self.origin) - at):
                return f"offset {at} is wrong: the image ends before it"
            for i in range(0, len(have), SECTOR):
                if have[i:i + SECTOR] not in self.may[(at + i) // SECTOR]:
                    what = "the image has " + self.name((at + i) // SECTOR, have[i:i + SECTOR])
                    return f"offset {at + i} is wrong: " + (what if local[block] else "the block counts as missing")
        return None

    def name(self, sector, content):
        at = sector * SECTOR
        if content == self.origin[at:at + SECTOR]:
            return "what the origin has"
        return "zeroes" if not any(content) else "something else"

    def settle(self, image, local):
        """The cut is over: each sector has what is there now, and only that. Returns in
        how many the last acknowledged write was lost."""
        lost = 0
        for block in range(len(local)):
            have = image if local[block] else self.origin
            for s in range(block * BLOCK // SECTOR, min((block + 1) * BLOCK, len(self.origin)) // SECTOR):
                now = have[s * SECTOR:(s + 1) * SECTOR]
                lost += now not in self.may[s][self.answered[s]:]
                self.may[s], self.answered[s] = [now], 0
        self.written = set()
        return lost


def bits(commit, size):
    """Which blocks are local, by a commit file (b"": there is none)."""
    return [len(commit) > HEADER and bool(commit[HEADER + b // 8] >> b % 8 & 1) for b in range(-(-size // BLOCK))]


def newest_header(commit):
    copies = [commit[at:at + 1024] for at in (0, HEADER // 2)]
    return max(copies, key=lambda c: (c[:7] == b"XNBDCMT", c[56:64]))


def is_covered(commit):
    return newest_header(commit)[7:8] == b"3"


def is_switched(commit):
    """What clients write after that is noted nowhere."""
    return any(newest_header(commit)[SWITCHED:SWITCHED + 8])


def ends(size):
    """Of a disk, as far as it is covered: first byte, end, and where that is behind the planes of a commit file."""
    head = min(size, 8 << 20)
    tail = max(head, (size - (2 << 20)) // BLOCK * BLOCK)
    return (0, head, 0), (tail, size, -(-head // BLOCK) * BLOCK)


def uncover(image, commit):
    """The disk that an image and a commit file are together. What the image itself shows, but for its first sector."""
    size = len(image)
    if not is_covered(commit):
        return image, image[512:]
    blocks = -(-size // BLOCK)
    at = HEADER + -(-blocks // (8 * BLOCK)) * BLOCK
    at += -(-((-(-blocks // 16) // 64 + 1) * 8) // BLOCK) * BLOCK
    disk = bytearray(image)
    for first, end, where in ends(size):
        disk[first:end] = commit[at + where:at + where + end - first]
    return bytes(disk), b"".join(image[max(first, 512):end] for first, end, _ in ends(size))


def together(origin, image, commit):
    """The disk that clients have: of an image that is covered what is local, and the rest of the origin's bytes."""
    disk, shown = uncover(image, commit)
    if any(shown):
        sys.exit("the half-copied disk is not covered")
    whole = bytearray(origin)
    for block in (b for b, local in enumerate(bits(commit, len(origin))) if local):
        whole[block * BLOCK:(block + 1) * BLOCK] = disk[block * BLOCK:(block + 1) * BLOCK]
    return bytes(whole)


def noted(commit, size):
    """Which blocks a client may have written, by a commit file; None: that is not known."""
    blocks = -(-size // BLOCK)
    at = HEADER + -(-blocks // (8 * BLOCK)) * BLOCK  # a bit for 16 blocks, and one behind them

    def bit(i):
        return commit[at + i // 8] >> i % 8 & 1

    if len(commit) <= at or is_switched(commit) or bit(-(-blocks // 16)):
        return None
    return [bool(bit(b // 16)) for b in range(blocks)]


def read_files(file_system, *names):
    """Files of an ext4 file system after a power cut, None for those that are not there.
    The journal is replayed by e2fsck, which may find nothing else to mend."""
    with open("fs.img", "wb") as f:
        f.write(file_system)
    fsck = subprocess.run(["e2fsck", "-f", "-p", "fs.img"], capture_output=True, text=True)
    if fsck.returncode not in (0, 1):
        sys.exit("the file system is damaged: " + fsck.stdout + fsck.stderr)
    found = []
    for name in names:
        if os.path.exists("file"):
            os.unlink("file")
        subprocess.run(["debugfs", "-R", f"dump {name} file", "fs.img"], check=True, capture_output=True)
        if os.path.exists("file"):
            with open("file", "rb") as f:
                found.append(f.read())
        else:
            found.append(None)
    return found


class Writer(threading.Thread):
    """One of two clients. Small writes at cells of 1 KiB, of which every second is its
    own, so that both write to the same blocks; larger ones in its half of the last
    quarter. Until `enough` is set, or the server is gone."""

    CELL = 1024

    def __init__(self, model, client, parity, seed):
        super().__init__(daemon=True)
        self.model, self.client, self.parity, self.random = model, client, parity, random.Random(seed)
        self.enough = threading.Event()
        self.size = len(model.origin)
        self.writes = self.flushes = 0

    def choose(self):
        """Places for some writes that do not touch each other."""
        r, cells = self.random, self.size // self.CELL
        if r.random() < 0.2:
            eighth = cells // 8
            n = r.choice((4, 16, 64, 200))
            return [((6 + self.parity) * eighth + r.randrange(eighth - n), n)]
        first = r.randrange(cells * 3 // 4 - 32) // 2 * 2 + self.parity
        return [(first + 2 * i, 1) for i in range(r.choice((1, 1, 3, 8, 16)))]

    def send(self, cell, n):
        offset, length, r = cell * self.CELL, n * self.CELL, self.random
        fua = r.random() < 0.1
        flags = nbd.CMD_FLAG_FUA if fua else 0
        if r.random() < 0.1 and not any(len(m) > 1 for m in self.model.may[offset // SECTOR:(offset + length) // SECTOR]):
            self.model.sent(offset, bytes(length))
            return offset, length, fua, self.client.aio_zero(length, offset, flags=flags)
        data = r.randbytes(length)
        self.model.sent(offset, data)
        buffer = nbd.Buffer.from_bytearray(bytearray(data))
        return offset, length, fua, self.client.aio_pwrite(buffer, offset, flags=flags)

    def batch(self):
        flight = [self.send(*place) for place in self.choose()]
        flush = None
        if self.random.random() < 0.15:  # while the writes are under way
            flush = self.model.before_flush(), self.client.aio_flush()
        while flight or flush:
            self.client.poll(1000)
            for w in list(flight):
                if self.client.aio_command_completed(w[3]):
                    self.model.acknowledged(*w[:3])
                    flight.remove(w)
                    self.writes += 1
            if flush and self.client.aio_command_completed(flush[1]):
                self.model.flushed(flush[0])
                flush = None
                self.flushes += 1

    def run(self):
        try:
            while not self.enough.is_set():
                self.batch()
        except nbd.Error:
            pass  # the machine was killed


def expect_clean(name, file_system):
    """The bytes of an ext4 file system in which e2fsck finds nothing to do."""
    with open("part.img", "wb") as f:
        f.write(file_system)
    fsck = subprocess.run(["e2fsck", "-f", "-n", "part.img"], capture_output=True, text=True)
    if fsck.returncode:
        sys.exit(f"{name} is not clean: {fsck.stdout}{fsck.stderr}")
