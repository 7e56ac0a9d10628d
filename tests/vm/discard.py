# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# discard.py [thin]: fstrim on the kernel's device, before the copy, on each kind of cache, or on thin volumes only; and a
# sparse disk that is copied onto one of these. SPARSE_MIB=10240: a larger one, in minutes.
import hashlib, os, random, re, subprocess, sys
from machine import HOST, Machine, expect_quiet, serve_origin

MIB = 1 << 20
SIZE = 128 * MIB
SPARSE = int(os.environ.get("SPARSE_MIB", "1024")) * MIB
CHUNK = 128  # sectors, of the thin pool
rng = random.Random(1)


def place(i):
    """Of one of ten pieces of a MiB."""
    return SPARSE // MIB // 10 * MIB * i + 5 * MIB


def make_origins():
    """A file system whose free space is full of what was deleted; and a sparse disk."""
    os.mkdir("tree")
    content = rng.randbytes(8 * MIB)
    with open("tree/file", "wb") as f:
        f.write(content)
    with open("origin.img", "wb") as f:
        for _ in range(SIZE // MIB):
            f.write(rng.randbytes(MIB))
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0", "-d", "tree", "origin.img"], check=True)
    with open("sparse.img", "wb") as f:
        f.truncate(SPARSE)
        for i in range(10):
            f.seek(place(i))
            f.write(rng.randbytes(MIB))
    return hashlib.sha256(content).hexdigest()


def begin(port, cache, options):
    m.run(f"rm -f /run/cache.bm*; xnbd-server --proxy --daemonize --clear-bitmap {options} --pidfile /run/pid --logpath /run/log --lport 8521 "
          f"--device /dev/nbd0 {HOST} {port} {cache} /run/cache.bm /run/ctl.sock")


def copy():
    m.run("xnbd-bgctl --cache-all /run/ctl.sock >/dev/null; while ! xnbd-bgctl --query /run/ctl.sock | grep -q '^job done'; do sleep 1; done")


def end():
    m.run("kill $(cat /run/pid) && until_true 300 sh -c '! [ -e /run/pid ]'")


def cached():
    return int(m.query()["cached"])


def trim(what, cache, options=""):
    begin(origin, cache, options)
    m.run("mount -t ext4 /dev/nbd0 /c")
    before = cached()
    trimmed = int(re.search(r"(\d+) bytes", m.run("fstrim -v /c")).group(1))
    here = (cached() - before) * 4096
    said = f"{what} {options}: {trimmed // MIB} MiB trimmed, {here // MIB} MiB of them local without a fetch"
    print(said, flush=True)
    if trimmed < 80 * MIB or here < trimmed * 0.95:
        sys.exit(said)
    m.run("echo 3 >/proc/sys/vm/drop_caches")
    if m.run("sha256sum /c/file").split()[0] != digest:
        sys.exit("the file")
    copy()
    m.run("umount /c && xnbd-bgctl --switch /run/ctl.sock")
    end()
    m.run(f"mount -t ext4 {'-o loop ' if cache.startswith('/b') else ''}{cache} /c")
    if m.run("sha256sum /c/file").split()[0] != digest:
        sys.exit("the file, in the image")
    m.run("umount /c")


def allocated():
    """Bytes of the pool."""
    return int(m.run("dmsetup status pool").split()[5].split("/")[0]) * CHUNK * 512


def thin_volume(size):
    m.run(f"dmsetup create pool --table '0 {512 * MIB // 512} thin-pool /dev/vdd /dev/vdc {CHUNK} 0' && dmsetup message pool 0 'create_thin 0' && "
          f"dmsetup create thin --table '0 {size // 512} thin 253:0 0' && dmsetup mknodes")


def no_thin_volume():
    m.run("dmsetup remove thin && dmsetup remove pool && dd if=/dev/zero of=/dev/vdd bs=64k count=1 2>/dev/null")


def sparse(options):
    thin_volume(SPARSE)
    begin(thick, "/dev/mapper/thin", options)
    copy()
    m.run("xnbd-bgctl --switch /run/ctl.sock")
    end()
    m.run("sync")
    said = f"a thin volume {options}: 10 MiB of data in {SPARSE // MIB} MiB, {allocated() / MIB:.1f} MiB allocated"
    print(said, flush=True)
    if allocated() > 20 * MIB:
        sys.exit(said)
    for i in range(10):
        with open("sparse.img", "rb") as f:
            f.seek(place(i))
            expected = hashlib.sha256(f.read(2 * MIB)).hexdigest()
        if m.run(f"dd if=/dev/mapper/thin bs=1M skip={place(i) // MIB} count=2 2>/dev/null | sha256sum").split()[0] != expected:
            sys.exit("the data of the thin volume")
    no_thin_volume()


digest = make_origins()
origin, thick = serve_origin("origin.img"), serve_origin("sparse.img")
for name, size in ("cache.img", SIZE), ("files.img", 400 * MIB), ("pool.img", 512 * MIB), ("meta.img", 16 * MIB):
    with open(name, "wb") as f:
        f.truncate(size)
m = Machine("cache.img", "files.img", "pool.img", "meta.img", disk=",discard=off,write-zeroes=off")
m.run("[ $(cat /sys/block/vda/queue/write_zeroes_max_bytes) = 0 ]")
m.run("mkdir -p /c && mkfs.ext4 -q -F /dev/vdb && mount -t ext4 /dev/vdb /b && truncate -s 128M /b/loop.img && losetup /dev/loop5 /b/loop.img")
if "thin" not in sys.argv:
    for options in "", "--root-storage", "--discard ignore":
        trim("a disk without discard", "/dev/vda", options)
    trim("a loop device", "/dev/loop5")
    m.run("losetup -d /dev/loop5 && rm /b/loop.img")
    trim("a file", "/b/cache.img")
for options in "", "--root-storage":
    thin_volume(SIZE)
    trim("a thin volume", "/dev/mapper/thin", options)
    no_thin_volume()
    sparse(options)
m.kill()
expect_quiet()
print("ok")
