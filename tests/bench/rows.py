# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The rows of the table. A row has a name, and contenders; a contender has begin(),
# run(seconds) -> Result and end(). All contenders of a row have the same work.
import os, subprocess
from loads import MIB, Fio, Lean, bgctl, cache_all, copy_with, fio_across, fio_beside, read_all, read_then_write
from servers import BEFORE, CROWD_TARGETS, LEAN_TARGETS, PROXIES, TARGETS, TARGETS_AND_MEMORY, TLS_TARGETS, XNBDBOX, nbdkit, relay, run, xnbd, xnbd_proxy, xnbd_proxy_before

DELAYS_MS = 0, 1, 10, 50
KIB = 1 << 10
LEAN_CLIENTS = 1, 4, 16, 50, 150, 256
LEAN_SIZES = {"4k": 4 * KIB, "16k": 16 * KIB, "64k": 64 * KIB, "128k": 128 * KIB, "256k": 256 * KIB, "1m": MIB, "4m": 4 * MIB, "32m": 32 * MIB}


class Row:
    """others: the second contender and those after it are not ours. aside: names of contenders that are
    not counted among the others. asked: it is one of many, and run only if ROWS names it."""

    def __init__(self, name, contenders, quick=False, others=True, aside=(), asked=False):
        self.name, self.contenders, self.quick, self.others, self.aside, self.asked = name, contenders, quick, others, aside, asked


class Contender:
    """A server that stays from round to round. prepare(server) comes before the first."""

    def __init__(self, start, load, prepare=None):
        self.start, self.load, self.prepare = start, load, prepare
        self.server = None

    def begin(self):
        self.server = self.start()
        if self.prepare:
            self.prepare(self.server)

    def run(self, seconds):
        return self.load(self.server, seconds)

    def end(self):
        if self.server:
            self.server.stop()
        self.server = None


class Fresh(Contender):
    """A server that begins each round with nothing in its cache."""

    def begin(self):
        pass

    def run(self, seconds):
        try:
            Contender.begin(self)
            return Contender.run(self, seconds)
        finally:
            self.end()


class Program:
    """No server: a program that copies."""

    def __init__(self, copy):
        self.copy = copy

    def begin(self):
        pass

    def run(self, _seconds):
        return self.copy()

    def end(self):
        pass


class Rows:
    """They need a disk, a sparse one and a small one, each served by an origin; and one to be
    written at random. That was written in small pieces: ext4 walks over all blocks of a piece as
    the page cache holds it for each write, and would be what is measured."""

    def __init__(self, base, programs, mib, piece_bytes):
        self.base, self.programs = base, programs
        self.relay_program, self.lean_program = programs + "/relay", programs + "/lean"
        self.running = []
        self.disk = self.make("disk", mib, mib)
        self.pieces = self.make("pieces", mib, mib, piece_bytes)
        self.sparse = self.make("sparse", mib, max(1, mib // 32))
        self.small = self.make("small", max(1, mib // 4), max(1, mib // 4))
        self.origin = self.serve(nbdkit(base, self.disk))
        self.sparse_origin = self.serve(nbdkit(base, self.sparse))
        self.small_origin = self.serve(nbdkit(base, self.small))

    def make(self, name, mib, data_mib, piece_bytes=MIB):
        path = "%s/%s.img" % (self.base, name)
        with open(path, "wb", buffering=0) as f:
            f.truncate(mib * MIB)
            for i in range(data_mib):  # a MiB here and there, or everywhere
                f.seek(i * (mib // data_mib) * MIB)
                for _ in range(MIB // piece_bytes):
                    f.write(os.urandom(piece_bytes))
        return path

    def serve(self, server):
        self.running.append(server)
        return server.socket

    def end(self):
        """Those that serve others are stopped after these."""
        for server in reversed(self.running):
            server.stop()

    # ---- a disk that is here

    def target(self, name, load, tcp=False, servers=TARGETS, quick=False, disk=None):
        start = lambda make: lambda: make(self.base, disk or self.disk, tcp)
        return Row(name, {who: Contender(start(make), load) for who, make in servers.items()}, quick)

    def targets(self):
        for rw, disk in ("randread", self.disk), ("randwrite", self.pieces):
            for depth in 1, 8, 32, 128:
                yield self.target("%s-4k-d%d" % (rw, depth), Fio(rw, "4k", depth), quick=depth in (1, 32), disk=disk,
                                  servers=TARGETS_AND_MEMORY if rw == "randread" and depth in (1, 32) else TARGETS)
            for depth in 1, 32:
                yield self.target("%s-4k-d%d-tcp" % (rw, depth), Fio(rw, "4k", depth), tcp=True, disk=disk)
            for jobs in 4, 16:
                yield self.target("%s-4k-d8-c%d" % (rw, jobs), Fio(rw, "4k", 8, jobs), quick=rw == "randread" and jobs == 4,
                                  servers=TARGETS if jobs == 4 else CROWD_TARGETS, disk=disk)
            yield self.target(rw + "-64k-d8", Fio(rw, "64k", 8), disk=disk)
        yield self.target("seqread-256k-d4", Fio("read", "256k", 4), quick=True)
        yield self.target("seqwrite-256k-d4", Fio("write", "256k", 4), quick=True)
        yield self.target("mixed-4k-d32", Fio("randrw", "4k", 32, 1, "--rwmixread=70"), disk=self.pieces)
        yield self.target("flush-4k-d1", Fio("randwrite", "4k", 1, 1, "--fsync=16"), disk=self.pieces)
        size = os.path.getsize(self.disk)
        yield self.target("nbdcopy-read", lambda server, seconds: read_all(server, seconds, size))
        yield self.target("nbdcopy-read-tcp", lambda server, seconds: read_all(server, seconds, size), tcp=True)

    def lean(self):
        """Any number of clients and any size of request, without and with two clients that take
        nothing. What is in flight of large ones is one a client: nbdkit has it all in memory."""
        for stuck in 0, 2:
            for rw, disk in ("read", self.disk), ("write", self.pieces):
                for size, block in LEAN_SIZES.items():
                    for clients in LEAN_CLIENTS:
                        if block > os.path.getsize(disk):
                            continue
                        load = Lean(self.lean_program, rw, block, 8 if block < MIB else 1, clients, stuck)
                        name = "lean-%s-%s-c%d%s" % (rw, size, clients, "-stuck" if stuck else "")
                        yield self.target(name, load, servers=LEAN_TARGETS, disk=disk, quick=size in ("4k", "128k") and clients in (1, 50) and not stuck)

    def keys(self):
        """The file with the key for TLS."""
        path = self.base + "/tls/keys.psk"  # the name that QEMU looks for
        if not os.path.exists(path):
            os.mkdir(os.path.dirname(path))
            run("psktool", "-u", "alice", "-p", path, "-s", "32")
        return path

    def tls(self):
        """nbdcopy's own part (GnuTLS) is the same for all whom it reads from."""
        size = os.path.getsize(self.disk)
        start = lambda make: lambda: make(self.base, self.disk, keys=self.keys())
        read = lambda server, seconds: read_all(server, seconds, size)
        yield Row("tls-nbdcopy-read", {who: Contender(start(make), read) for who, make in TLS_TARGETS.items()})
        origin = nbdkit(self.base, self.disk, keys=self.keys())
        self.running.append(origin)
        yield self.copies("tls-copy", self.disk, origin.uri())

    def watched(self):
        """What --verbose and a control socket that is asked for the counters cost."""
        load = Lean(self.lean_program, "read", 4 * KIB, 8, 4)

        def seen(server, seconds):
            result = load(server, seconds)
            run(XNBDBOX, "xnbd-bgctl", "--export-metrics", server.dir + "/ctl")
            return result

        start = lambda *more: lambda: xnbd(self.base, self.disk, more=more)
        return Row("watched", {"xnbd": Contender(start("--verbose", "--control", "ctl"), seen), "unseen": Contender(start(), load)}, others=False)

    # ---- one that stands before an origin

    def proxy(self, name, load, origin=None, kind=Fresh, prepare=None, quick=False, servers=PROXIES):
        start = lambda make: lambda: make(self.base, origin or self.origin)
        return Row(name, {who: kind(start(make), load, prepare) for who, make in servers.items()}, quick)

    def proxies(self):
        size = os.path.getsize(self.disk)
        fill = lambda server: run("nbdcopy", server.uri(), "null:")
        copy_through = lambda server, seconds: read_all(server, seconds, size)
        yield self.proxy("proxy-cold-seq", copy_through, quick=True)
        yield self.straight(copy_through, size)
        yield self.proxy("proxy-cold-randread-4k-d32", Fio("randread", "4k", 32), quick=True)
        yield self.proxy("proxy-warm-seq", copy_through, kind=Contender, prepare=fill)
        yield self.proxy("proxy-warm-randread-4k-d1", Fio("randread", "4k", 1), kind=Contender, prepare=fill)
        yield self.proxy("proxy-warm-randread-4k-d32", Fio("randread", "4k", 32), kind=Contender, prepare=fill)
        yield self.proxy("proxy-write-whole-4k-d32", Fio("randwrite", "4k", 32))
        yield self.proxy("proxy-write-part-1k-d32", Fio("randwrite", "1k", 32))

    def straight(self, load, size):
        """A first reading in order, and what is the least that it has to do."""
        uri, out = "nbd+unix:///?socket=" + self.origin, self.base + "/out.img"
        least = Program(lambda: read_then_write(uri, out, size))
        return Row("cold-seq-straight", {"xnbd": Fresh(lambda: xnbd_proxy(self.base, self.origin), load), "read + write": least}, others=False)

    # ---- the copy

    def copies(self, name, image, origin, prepare=None, quick=False):
        """origin: a socket, or a URI, which only nbdcopy can read for TLS"""
        uri = origin if "://" in origin else "nbd+unix:///?socket=" + origin
        out = self.base + "/out.img"
        contenders = {"xnbd": Fresh(lambda: xnbd_proxy(self.base, origin), lambda server, _: cache_all(server, image), prepare)}
        if BEFORE:
            contenders["before"] = Fresh(lambda: xnbd_proxy_before(self.base, origin), lambda server, _: cache_all(server, image), prepare)
            return Row(name, contenders, quick)
        copiers = {"nbdcopy": ["nbdcopy", uri, out]}
        if not uri.startswith("nbds"):
            copiers["qemu-img"] = ["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, out]
        for who, argv in copiers.items():
            contenders[who] = Program(lambda argv=argv: copy_with(argv, out, image))
        return Row(name, contenders, quick)

    def background(self):
        half = os.path.getsize(self.disk) // 2 >> 20
        fill_half = lambda s: run("qemu-io", "-r", "-f", "raw", "-c", "read -q 0 %dM" % half, s.uri())
        yield self.copies("copy-full", self.disk, self.origin, quick=True)
        yield self.copies("copy-sparse", self.sparse, self.sparse_origin, quick=True)
        yield self.copies("copy-half-local", self.disk, self.origin, prepare=fill_half)
        yield self.while_copying()
        yield self.polite("polite", self.origin, True)
        yield self.switch()

    def while_copying(self):
        """A client at depth 1, while all the rest is fetched as fast as it goes."""
        fio = Fio("randread", "4k", 1)

        def load(server, _seconds):
            if hasattr(server, "control"):
                return fio_beside(fio, server, lambda: bgctl("--cache-all", server.control))
            return fio_beside(fio, server, lambda: subprocess.Popen(["nbdcopy", server.uri(), "null:"]))

        return self.proxy("read-while-copying", load, quick=True)

    def polite(self, name, origin, quick=False):
        """What a client's first reads cost beside the copy, and alone."""
        fio = Fio("randread", "4k", 1)
        start = lambda: xnbd_proxy(self.base, origin)
        beside = lambda server, _: fio_beside(fio, server, lambda: bgctl("--cache-all", server.control))
        return Row(name, {"xnbd": Fresh(start, beside), "no copy": Fresh(start, fio)}, quick, others=False)

    def switch(self):
        """What a client sees of it: the longest wait, with a switch and without."""
        fio = Fio("randread", "4k", 1)
        start = lambda: xnbd_proxy(self.base, self.origin)
        fill = lambda server: run(XNBDBOX, "xnbd-bgctl", "--cache-all", server.control)
        across = lambda server, seconds: fio_across(fio, server, seconds, lambda: bgctl("--switch", server.control))
        return Row("switch", {"xnbd": Fresh(start, across, fill), "no switch": Fresh(start, fio, fill)}, True, others=False)

    # ---- with a delay on the link

    def delayed(self):
        size = os.path.getsize(self.small)
        through = lambda server, seconds: read_all(server, seconds, size)
        for ms in DELAYS_MS:
            origin = self.serve(relay(self.base, self.relay_program, self.small_origin, ms))
            large = self.serve(relay(self.base, self.relay_program, self.origin, ms))
            # nbdkit's cache waits for one block after the other: for minutes, that would be.
            servers = {who: make for who, make in PROXIES.items() if ms < 10 or who != "nbdkit cache"}
            yield self.proxy("delay%d-cold-seq" % ms, through, origin, servers=servers)
            yield self.proxy("delay%d-cold-randread-4k-d32" % ms, Fio("randread", "4k", 32), large)
            yield self.proxy("delay%d-cold-read-128k-d1" % ms, Fio("read", "128k", 1), large)
            yield self.copies("delay%d-copy" % ms, self.small, origin, quick=ms == 10)
            if ms:
                yield self.polite("delay%d-polite" % ms, large)

    def all(self):
        yield from self.targets()
        yield from self.lean()
        yield self.watched()
        yield from self.tls()
        yield from self.proxies()
        yield from self.background()
        yield from self.delayed()
