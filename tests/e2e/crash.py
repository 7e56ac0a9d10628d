# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# crash.py ROUNDS SEED file|device: a proxy is killed (-9) ROUNDS times while clients
# write and the background copy runs; the cache image is a file, or a loop device.
# Every fourth time the power is cut too: what was not synced is lost.
#
# - A model knows what was acknowledged to two clients. What was acknowledged is there,
#   after a power cut what was flushed. (A cell whose last write was not acknowledged
#   may be old or new.) This is looked up in the files, after each crash (rules 1, 2,
#   3, 7), and through NBD.
# - fio writes and verifies through a keeper, and sees no crash at all.
# - No restart knows fewer blocks than the run before.
# - The last run fetches what is missing and no more, counted by a relay.
import atexit, random, socket, subprocess, sys, threading, time
import nbd
from disks import Disks, run
from keeper import Keeper

ROUNDS, SEED, KIND = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
SIZE, CELL, BLOCK = 48 << 20, 1024, 4096  # clients write whole cells: each has one writer
CELLS, MODEL = SIZE // CELL, (24 << 20) // CELL  # the first half is the model's,
FIO, FIO_SIZE = 40 << 20, 8 << 20  # the end is fio's, between them nobody writes
rng = random.Random(SEED)
fetched = 0


def relay(path, to):
    """Counts the bytes that come from the origin."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)

    def pump(a, b, count):
        global fetched
        try:
            while data := a.recv(1 << 18):
                fetched += len(data) if count else 0
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve():
        while True:
            a = listener.accept()[0]
            b = socket.socket(socket.AF_UNIX)
            b.connect(to)
            threading.Thread(target=pump, args=(a, b, False), daemon=True).start()
            threading.Thread(target=pump, args=(b, a, True), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


# ---- servers ---------------------------------------------------------------------------


def wait_for(path):
    for _ in range(8000):
        try:
            h = nbd.NBD()
            h.connect_unix(path)
            return h
        except nbd.Error:
            time.sleep(0.0025)
    sys.exit("no server at " + path)


def start_proxy():
    p = subprocess.Popen(["xnbd-server", "--proxy", "--lport", "0", "--unix", "p.sock", "unix:relay.sock", "-",
                          disks.image, disks.bitmap, "ctl.sock"])
    servers.append(p)
    return p, wait_for("p.sock")


def bits_on_file():
    """What a restart has to know at least: status may count bits that are on their way."""
    return int.from_bytes(open(disks.bitmap, "rb").read(), "little").bit_count()


def cached():
    status = run("xnbd-bgctl", "--query", "ctl.sock")
    return int(dict(line.split(" ", 1) for line in status.splitlines())["cached"])


# ---- the model ----------------------------------------------------------------------------
# What a cell may hold: the last content that was acknowledged, those sent since (maybe),
# and after a power cut also those older than it that it had since it was last flushed.

origin_bytes = rng.randbytes(SIZE)
from_origin = [origin_bytes[i * CELL:(i + 1) * CELL] for i in range(CELLS)]
acked = list(from_origin)
maybe = [[] for _ in range(CELLS)]
older = [[] for _ in range(CELLS)]


def acknowledge(c, data, durable):
    older[c] = [] if durable else older[c] + [acked[c]] + [d for d in maybe[c] if d is not data]
    acked[c], maybe[c] = data, []


def choose(r, parity):
    """What a writer asks for at a time: [(first cell, cells)]. Cells of one parity in the
    first part, so that two clients share blocks; whole blocks in the second."""
    if r.randrange(2):
        n = r.choice((1, 1, 1, 3, 8))
        first = r.randrange(MODEL // 2 - 2 * n) // 2 * 2 + parity
        return [(c, 1) for c in range(first, first + 2 * n, 2)]
    first, n = r.randrange(16), r.randrange(1, 17)  # of the 64 KiB that are one writer's
    place = MODEL // 2 + r.randrange(MODEL // 256) * 128 + parity * 64
    return [(place + first // 4 * 4, 4 * ((n + 3) // 4))]


def writer(parity, seed, kill_at):
    """Writes until the server dies, and flushes now and then. From kill_at on it kills
    the server itself, at the moment of an answer."""
    r = random.Random(seed)
    h = nbd.NBD()
    unflushed = set()

    def send(first, n):
        fua = r.choice((0, 0, 0, nbd.CMD_FLAG_FUA))
        zero = n > 1 and r.randrange(4) == 0
        data = bytes(n * CELL) if zero else r.randbytes(n * CELL)
        parts = [(first + i, data[i * CELL:(i + 1) * CELL]) for i in range(n)]
        for c, part in parts:
            maybe[c].append(part)
        if zero:
            return parts, fua, h.aio_zero(n * CELL, first * CELL, flags=fua)
        return parts, fua, h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), first * CELL, flags=fua)

    def answered(parts, fua):
        for c, part in parts:
            acknowledge(c, part, fua)
            unflushed.add(c)

    try:
        h.connect_unix("p.sock")
        while True:
            flight = [send(*what) for what in choose(r, parity)]
            while flight:
                h.poll(1000)
                for f in list(flight):
                    if h.aio_command_completed(f[2]):
                        answered(f[0], f[1])
                        flight.remove(f)
                        if time.monotonic() > kill_at:
                            proxy.kill()
            if r.randrange(8) == 0:
                h.flush()
                for c in unflushed:
                    older[c] = []
                unflushed.clear()
    except nbd.Error:
        pass


def found(c, got, what, power_cut=False):
    """This is what the cell holds."""
    if got is not acked[c] and got != acked[c] and got not in maybe[c] and not (power_cut and got in older[c]):
        sys.exit(f"{what}: offset {c * CELL} is wrong: it has "
                 + ("what the origin has" if got == from_origin[c] else "what it had before" if got in older[c] else "neither"))
    if power_cut:
        acked[c], maybe[c], older[c] = got, [], []
    elif maybe[c]:
        older[c] += [d for d in [acked[c]] + maybe[c] if d != got]
        acked[c], maybe[c] = got, []


def look_at_files(what, power_cut):
    """After a crash: what the next run will believe to be local is right, and where it
    will ask the origin, no write is lost."""
    image = open(disks.image, "rb").read(SIZE)
    bits = open(disks.bitmap, "rb").read()
    if power_cut:
        bits = open(disks.bitmap + ".commit", "rb").read()[8192:]
    for block in range(FIO // BLOCK):
        local = bits[block // 8] >> block % 8 & 1
        for c in range(block * BLOCK // CELL, (block + 1) * BLOCK // CELL):
            found(c, image[c * CELL:(c + 1) * CELL] if local else from_origin[c], what, power_cut)


def read(h, what, start):
    """Reads a MiB."""
    data = bytes(h.pread(1 << 20, start))
    for c in range(start // CELL, (start + (1 << 20)) // CELL):
        found(c, data[c * CELL - start:(c + 1) * CELL - start], what)


# ---- fio ------------------------------------------------------------------------------------


class Fio(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.enough, self.runs, self.failure = False, 0, None
        self.start()

    def run(self):
        while not self.enough and not self.failure:
            p = subprocess.run(["fio", "--name=f", "--ioengine=nbd", "--uri=nbd+unix:///?socket=keeper.sock",
                                "--rw=randwrite", "--bsrange=512-64k", "--bs_unaligned", f"--offset={FIO}", f"--size={FIO_SIZE}",
                                f"--io_size={FIO_SIZE // 4}", "--iodepth=8", "--verify=crc32c", "--verify_backlog=32",
                                "--verify_fatal=1", "--randrepeat=0", "--fsync=100"], capture_output=True, text=True)
            if p.returncode:
                self.failure = (p.stdout + p.stderr)[-1500:]
            self.runs += 1


# ---- the rounds --------------------------------------------------------------------------------

servers = []
disks = Disks(KIND, SIZE)  # its end is registered first, so it comes last
atexit.register(lambda: [(p.kill(), p.wait()) for p in servers])
open("origin.img", "wb").write(origin_bytes)
origin = subprocess.Popen(["xnbd-server", "--target", "--readonly", "--lport", "0", "--unix", "o.sock", "origin.img"])
servers.append(origin)
wait_for("o.sock").shutdown()
relay("relay.sock", "o.sock")
keeper = Keeper("keeper.sock", "p.sock", SIZE)
proxy, h = start_proxy()
fio = Fio()
known, power_cut = 0, False
for round_ in range(ROUNDS):
    what = f"round {round_}" + (", after a power cut" if power_cut else "")
    if round_:
        proxy, h = start_proxy()
    local = cached()
    if not power_cut and local < known:
        sys.exit(f"{what}: {local} blocks are local, there were {known}")
    if round_ % 5 == 4:  # reading makes blocks local: a little, and not every time
        read(h, what, rng.randrange(FIO >> 20) << 20)
    # It is not to get to its end before the last round. Before the writers, who end the server.
    s = socket.socket(socket.AF_UNIX)
    s.connect("ctl.sock")
    s.sendall(b"cache-all rate=%d\n" % (SIZE // ROUNDS * 2))
    at = time.monotonic() + rng.uniform(0.02, 0.3)
    threads = [threading.Thread(target=writer, args=(i, rng.random(), at + (0 if round_ % 2 else 1000))) for i in range(2)]
    for t in threads:
        t.start()
    if round_ % 2:
        proxy.wait(60)
    else:
        time.sleep(max(0, at - time.monotonic()))
        known = bits_on_file()
        time.sleep(rng.uniform(0, 0.01))
        proxy.kill()
        proxy.wait()
    servers.remove(proxy)
    for t in threads:
        t.join()
    power_cut = round_ % 4 == 3
    if power_cut:
        disks.cut_power()
    look_at_files(f"after round {round_}" + (" and a power cut" if power_cut else ""), power_cut)

proxy, h = start_proxy()
fio.enough = True
fio.join()
if fio.failure or keeper.errors:
    sys.exit(f"fio: errors {keeper.errors}, {fio.failure}")
missing = SIZE - cached() * BLOCK
before = fetched
run("xnbd-bgctl", "--cache-all", "ctl.sock")
fetched_now = fetched - before
run("xnbd-bgctl", "--switch", "ctl.sock")
origin.kill()
for start in range(0, FIO, 1 << 20):
    read(h, "at the end", start)
h.shutdown()
proxy.terminate()
status = proxy.wait()
print(f"{missing} bytes were missing, the origin sent {fetched_now}; fio ran {fio.runs} times, {keeper.answered} requests", file=sys.stderr)
if not 0 < missing < SIZE or not missing <= fetched_now <= missing + missing // 50 + 4096:
    sys.exit("not what was missing was fetched")
print("ok" if status == 0 else f"exit status {status}")
