# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# power.py file|device|behind CUTS SEED: a machine with a proxy, whose disks have volatile write
# caches, loses its power CUTS times, while two clients write and the background copy runs.
# The cache image is a file on ext4 or a whole disk; the bitmap is a file on another disk. behind: the commit file is on the
# first one, behind the end of the disk that moves, which is covered then.
#
# After each cut, of each of several throws of the dice, the disks are looked at from the
# host: what FLUSH or FUA has acknowledged is there, all else is old or new, sector by
# sector; no block that was committed is forgotten, and every committed one is right. From
# the last throw the machine goes on. At the end: copy, switch, cut; then a start, which is a target, and a cut.
#
# Of a committed block that is not as the origin has it, the commit file says that a client may
# have written it. So all other blocks can still be compared, and are, after each start.
import random, sys, threading, time
from disk import Disk, SECTOR, outcome
from machine import HOST, Machine, connect, make_ext4, serve_origin
from model import BLOCK, Model, Writer, bits, noted, read_files, uncover

KIND, CUTS, SEED = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SIZE = (40 << 20) - 3 * SECTOR  # the last block is short
RATE = SIZE // 2 // CUTS  # of the copy, a second: it is to last
BEHIND = 40 << 20  # in a device of 52 MiB
THROWS = 3
rng = random.Random(SEED)
log = open("power.log", "w", buffering=1)


def make_origin():
    """Bytes by chance, with stretches of zeroes."""
    content = b"".join(bytes(1 << 18) if rng.random() < 0.2 else rng.randbytes(1 << 18)
                       for _ in range(SIZE // (1 << 18) + 1))
    with open("origin.img", "wb") as f:
        f.write(content[:SIZE])
    return content[:SIZE]


class Cache:
    """The machine's two disks, and what is known of them."""

    def __init__(self):
        lazy = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
        # What a disk had before the cache came is no zero.
        image = make_ext4("fs.img", 56 << 20, *lazy) if KIND == "file" else rng.randbytes((52 if KIND == "behind" else 48) << 20)
        self.power = threading.Event()
        self.image = Disk("image.sock", image, self.power)
        self.bitmap = Disk("bitmap.sock", make_ext4("fs.img", 16 << 20, *lazy), self.power)
        self.commit = self.image if KIND == "behind" else self.bitmap
        self.begun = KIND != "behind"  # else what the disk had before has to be overwritten
        self.local = bits(b"", SIZE)
        self.comparable = []  # local, and not written by clients; None: that is not known

    def boot(self):
        m = Machine("nbd+unix:///?socket=image.sock", "nbd+unix:///?socket=bitmap.sock")
        m.run("mount -t ext4 /dev/vdb /b")
        if KIND == "file":
            m.run("mount -t ext4 /dev/vda /a")
        if rng.random() < 0.5:  # the kernel writes soon what nobody has synced, in its own order
            m.run("cd /proc/sys/vm && echo 2 >dirty_writeback_centisecs && echo 2 >dirty_expire_centisecs; cd /")
        return m

    def look(self, image, bitmap):
        if KIND == "behind":
            commit = image[BEHIND:]
            self.begun = b"XNBDCMT" in (commit[:7], commit[4096:4103])
            if not self.begun:
                return image, bits(b"", SIZE), None
            return uncover(image[:SIZE], commit)[0], bits(commit, SIZE), noted(commit, SIZE)
        commit = read_files(bitmap, "/cache.bm.commit")[0]
        if KIND == "file":
            image = read_files(image, "/cache.img")[0]
        return image or b"", bits(commit or b"", SIZE), noted(commit or b"", SIZE)

    def power_off(self, m):
        self.power.set()
        m.kill()
        self.image.wait()
        self.bitmap.wait()

    def cut(self, model, known):
        """What the power cut has left. known: so many blocks are committed."""
        for _ in range(THROWS):
            disks = [outcome(disk.stable, disk.pending, rng) for disk in (self.image, self.bitmap)]
            image, local, written = self.look(*disks)
            wrong = model.wrong(image, local)
            if wrong:
                sys.exit(wrong)
            if any(was and not now for was, now in zip(self.local, local)) or sum(local) < known:
                sys.exit(f"{sum(local)} blocks count as local, there were {max(known, sum(self.local))}")
            self.comparable = written and [b for b, here in enumerate(local) if here and not written[b]]
            for b in self.comparable or []:
                if image[b * BLOCK:(b + 1) * BLOCK][:SIZE - b * BLOCK] != model.origin[b * BLOCK:(b + 1) * BLOCK]:
                    sys.exit(f"block {b} is not the origin's, and nothing says that a client has written it")
        self.local = local
        print(f"{len(self.image.pending)} and {len(self.bitmap.pending)} writes were in the caches", file=log)
        self.power.clear()
        self.image.power_on(disks[0])
        self.bitmap.power_on(disks[1])
        return image


def proxy_command(rate):
    image = "/a/cache.img" if KIND == "file" else "/dev/vda"
    more = "" if KIND != "behind" else "--commit-file /dev/vda " if cache.begun else "--commit-file /dev/vda --clear-bitmap "
    return (f"xnbd-server --proxy --daemonize --lport 8521 --rate {rate} {more}{HOST} {port} {image} /b/cache.bm"
            " /run/ctl.sock")


def check_reads(client, model):
    for _ in range(3):
        length = rng.choice((SECTOR, BLOCK, 1 << 17))
        offset = rng.randrange((SIZE - length) // SECTOR + 1) * SECTOR
        if client.pread(length, offset) != model.settled(offset, length):
            sys.exit(f"{length} bytes read at offset {offset} are not what is on the disk")


def start_writers(m):
    writers = [Writer(model, connect(m.port), i, rng.random()) for i in range(2)]
    for w in writers:
        w.start()
    return writers


def check_start(m, client):
    cached = int(m.query()["cached"])
    if cached != sum(cache.local):
        sys.exit(f"{cached} blocks are local after the start, {sum(cache.local)} were committed")
    said = m.run("xnbd-bgctl --verify /run/ctl.sock 2>&1; echo status $?")
    n = len(cache.comparable or [])
    expected = f"compared {n} of {n if cache.comparable is not None else cached} blocks", f"status {0 if n else 2}"
    if not all(words in said for words in expected):
        sys.exit(f"after the start: {said}; expected: {expected}")
    print(expected[0], file=log)
    check_reads(client, model)


def flushed_blocks(m, client):
    """So many blocks are committed now."""
    cached = int(m.query()["cached"])
    client.flush()
    return cached


def work(m, client):
    """Everything goes on at once, for a while. Returns how many blocks must be known
    after the cut, and the writers."""
    m.run("xnbd-bgctl --cache-all2 /run/ctl.sock")
    if rng.random() < 0.25:  # nobody asks for a FLUSH: what is on the disks is the kernel's choice
        time.sleep(rng.uniform(0.5, 2))
        return 0, []
    writers = start_writers(m)
    time.sleep(rng.uniform(0, 1.5))
    known = flushed_blocks(m, client) if rng.random() < 0.7 else 0
    time.sleep(rng.uniform(0, 0.5))
    disk = rng.choice((cache.image, cache.bitmap, None))
    if disk:  # in the middle of its next FLUSH
        disk.flushes_left = 1
        cache.power.wait(5)
    return known, writers


def one_cut():
    m = cache.boot()
    known, writers = 0, []
    if rng.random() < 0.2:  # while the proxy starts
        cache.commit.flushes_left = rng.randrange(1, 6)
        m.tell(proxy_command(RATE))
        cache.power.wait(rng.uniform(0, 1))
    else:
        m.run(proxy_command(RATE))
        client = connect(m.port)
        check_start(m, client)
        known, writers = work(m, client)
    cache.power_off(m)
    for w in writers:
        w.join()
    image = cache.cut(model, known)
    return model.settle(image, cache.local), sum(w.writes for w in writers), sum(w.flushes for w in writers)


def cut_after_flush(m, client, writers):
    """Stops the writers with a FLUSH, and cuts. All blocks are safe."""
    time.sleep(0.5)
    for w in writers:
        w.enough.set()
        w.join()
    flush = model.before_flush()
    client.flush()
    model.flushed(flush)
    cache.power_off(m)
    image = cache.cut(model, len(cache.local))
    if image[:SIZE] != model.settled(0, SIZE):
        sys.exit("the image is not the disk")


def cut_after_switch():
    m = cache.boot()
    m.run(proxy_command(0))
    client = connect(m.port)
    check_start(m, client)
    writers = start_writers(m)
    m.run("xnbd-bgctl --cache-all /run/ctl.sock && xnbd-bgctl --switch /run/ctl.sock")
    cut_after_flush(m, client, writers)


def cut_of_target():
    """The switch has survived: the same command starts a target."""
    m = cache.boot()
    m.run(proxy_command(0))
    if m.query()["mode"] != "target":
        sys.exit("the switch was forgotten")
    client = connect(m.port)
    check_reads(client, model)
    cut_after_flush(m, client, start_writers(m))


model = Model(make_origin())
port = serve_origin("origin.img")
cache = Cache()
lost = 0
for i in range(CUTS - 2):
    start = time.monotonic()
    figures = one_cut()
    lost += figures[0]
    print(f"cut {i + 1}: {sum(cache.local)} blocks local, {figures[1]} writes, {figures[2]} FLUSHes,"
          f" {figures[0]} sectors lost, {time.monotonic() - start:.1f} s", file=log)
cut_after_switch()
cut_of_target()
if not lost and CUTS >= 8:
    sys.exit("no cut has lost anything: this was no test")
print("ok")
