# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# fairness.py NEIGHBOUR SOCKET [DISK_MS]: how much longer a client waits while its neighbour keeps the
# slowest legal work going. Prints "fair", or the ratios of the 99th percentiles: with the
# neighbour to without, measured in turns. The best of each counts: what is unfair is so in all of
# them, what else the machine does is not. DISK_MS: a flush may also wait so long, for what the
# disk itself has in hand.
# fairness.py misses SOCKET: how much a neighbour, who asks for 64 MiB at a time, gets from an origin with little bandwidth
# while a client waits for one missing block. Prints "fair" if it is less than 20 MiB, or else that: 10 may be under way.
import mmap, os, random, signal, struct, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer

ROUNDS, READS, FLUSHES, MOST = 5, 500, 300, 3
SLICE = .001  # seconds: what is shorter may be the wait for a processor, which the neighbour uses, too
LOCAL = 16 << 20  # so much at the beginning is there, and stays
NO_HOLE = 2


def zeroes(path):
    """The whole disk, 32 requests at a time, on a file system that has to write them."""
    s = peer.connect(path, 300)
    size = peer.shake_hands(s)
    part = (size - LOCAL) // 32
    keep_going(s, [(peer.ZEROES, LOCAL + i * part, part, NO_HOLE) for i in range(32)])


def trims(path):
    s = peer.connect(path, 300)
    size = peer.shake_hands(s)
    keep_going(s, [(peer.TRIM, LOCAL, min(size - LOCAL, 0xfffff000), 0)] * 8)


def keep_going(s, requests):
    for i, (kind, at, n, flags) in enumerate(requests):
        s.sendall(peer.request(kind, i, at, n, flags))
    while True:
        magic, = struct.unpack(">I", peer.receive(s, 4))
        if magic == 0x668E33EF:
            _, kind, i, n = struct.unpack(">HHQI", peer.receive(s, 16))
            peer.receive(s, n)
            assert kind == 5, kind
        else:
            error, i = struct.unpack(">IQ", peer.receive(s, 12))
            assert error == 0, error
        kind, at, n, flags = requests[i]
        s.sendall(peer.request(kind, i, at, n, flags))


def status(path):
    """Of all, 64 requests at a time."""
    s = peer.connect(path, 300)
    peer.receive(s, 18)
    s.sendall(struct.pack(">I", 1))
    name = b"base:allocation"
    for number, data in ((8, b""), (10, struct.pack(">III", 0, 1, len(name)) + name), (7, bytes(6))):
        peer.option(s, number, data)
        while peer.option_reply(s)[0] != 1:
            pass
    keep_going(s, [(peer.STATUS, 0, 0xfffff000, 0)] * 64)


def missing(path):
    """Reads that wait for an origin that is lost."""
    s = peer.session(path, 300)
    for i in range(64):
        s.sendall(peer.request(peer.READ, i, LOCAL + i * (1 << 20), 1 << 20))
    time.sleep(300)


def payload(path):
    """Writes whose data comes at a byte a second, on as many connections."""
    all = [peer.session(path, 300) for _ in range(4)]
    for s in all:
        s.sendall(peer.request(peer.WRITE, 1, LOCAL, 32 << 20))
    while True:
        for s in all:
            try:
                s.sendall(b"x")
            except OSError:
                pass
        time.sleep(1)


def ask(s, kind, at, n, data=b""):
    """Seconds that it took."""
    begin = time.monotonic()
    s.sendall(peer.request(kind, 1, at, n) + data)
    magic, error, cookie = struct.unpack(">IIQ", peer.receive(s, 16))
    if kind == peer.READ:
        peer.receive(s, n)
    assert magic == 0x67446698 and error == 0, error
    return time.monotonic() - begin


def p99(all):
    return sorted(all)[len(all) * 99 // 100]


def window(s):
    reads = [ask(s, peer.READ, 4096 * random.randrange(LOCAL >> 12), 4096) for _ in range(READS)]
    flushes = []
    for _ in range(FLUSHES):
        ask(s, peer.WRITE, 4096 * random.randrange(LOCAL >> 12), 4096, b"w" * 4096)
        flushes.append(ask(s, peer.FLUSH, 0, 0))
    return p99(reads), p99(flushes)


def misses(path):
    """256 reads of 256 KiB all the time; how many bytes have come is at the beginning of this memory."""
    got, n = mmap.mmap(-1, 8), 256 << 10
    pid = os.fork()
    if not pid:
        s = peer.session(path, 300)
        at = iter(range(0, 1 << 62, n))
        s.sendall(b"".join(peer.request(peer.READ, i, next(at), n) for i in range(256)))
        for sum in range(n, 1 << 62, n):
            peer.receive(s, 16)
            peer.receive(s, n)
            got[:] = struct.pack("=Q", sum)
            s.sendall(peer.request(peer.READ, 0, next(at), n))

    def mib():
        return struct.unpack("=Q", got[:])[0] / (1 << 20)

    s = peer.connect(path, 300)
    size, most = peer.shake_hands(s), 0
    while mib() < 24:  # by then nothing is left of what the origin has saved up
        time.sleep(.01)
    for i in range(1, 5):
        before = mib()
        ask(s, peer.READ, size - i * (1 << 20), 4096)
        most = max(most, mib() - before)
        if most >= 20:
            break
    assert mib() > 25, "the neighbour has hardly anything to ask for"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    print("fair" if most < 20 else "unfair: %.0f MiB of the neighbour's came first" % most)


def main(neighbour, path, disk_ms=0):
    s = peer.session(path, 300)
    quiet, noisy = [], []
    window(s)
    for _ in range(ROUNDS):
        quiet.append(window(s))
        pid = os.fork()
        if not pid:
            s.close()
            os.nice(10)
            neighbour(path)
        time.sleep(.3)
        noisy.append(window(s))
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the neighbour has ended"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        time.sleep(.1)
    text, fair = [], True
    for i, what in enumerate(("reads", "flushes")):
        before, after = min(w[i] for w in quiet), min(w[i] for w in noisy)
        text.append("%s %.2f ms, %.2f without" % (what, after * 1000, before * 1000))
        fair = fair and after <= max(MOST * before, SLICE) + (i and float(disk_ms) / 1000)
    print("fair" if fair else "unfair: " + "; ".join(text))


if sys.argv[1] == "misses":
    misses(sys.argv[2])
else:
    main(globals()[sys.argv[1]], *sys.argv[2:])
