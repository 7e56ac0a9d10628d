# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# kernel_client.py SEED: the kernel's NBD client uses the disk while it moves. It has two
# partitions: one with a file system and files, whose files are read and changed, and one
# that is made into a file system; the first has blocks of 1 KiB, so that blocks of
# the disk are written in part. At the end the image is looked at from the host.
import hashlib, os, random, re, struct, sys
from disk import SECTOR
from machine import HOST, Machine, make_ext4, serve_origin
from model import expect_clean, read_files

rng = random.Random(int(sys.argv[1]))
PART = 32 << 20
FIRST = 1 << 20
FILES = 12


def make_origin():
    """Two partitions; returns what is in the files of the first one."""
    os.mkdir("tree")
    files = {f"file{i}": rng.randbytes(rng.randrange(1, 600000)) for i in range(FILES)}
    for name, content in files.items():
        with open("tree/" + name, "wb") as f:
            f.write(content)
    table = b"".join(struct.pack("<BxxxBxxxII", 0, 0x83, (FIRST + i * PART) // SECTOR, PART // SECTOR) for i in range(2))
    with open("origin.img", "wb") as f:
        f.write((bytes(446) + table + bytes(32) + b"\x55\xaa").ljust(FIRST, b"\0"))
        f.write(make_ext4("fs.img", PART, "-b", "1024", "-d", "tree"))
        f.write(rng.randbytes(PART))
    return files


def sums(m, directory):
    """{name: SHA-256} of the files there, as the machine reads them."""
    said = m.run(f"(cd {directory} && sha256sum $(find . -type f))")
    return {line.split()[1][2:]: line.split()[0] for line in said.splitlines()}


def digest(content):
    return hashlib.sha256(content).hexdigest()


def expect(what, found, expected):
    if found != expected:
        wrong = {n for n in {*found, *expected} if found.get(n) != expected.get(n)}
        sys.exit(f"{what}: not as it should be: {' '.join(sorted(wrong))}")


def write_random(m, name, kib):
    """A file of bytes by chance, which stay in the machine's memory for the comparison."""
    m.run(f"dd if=/dev/urandom of=/run/x bs=1k count={kib} 2>/dev/null && cp /run/x {name}")
    return m.run("sha256sum /run/x").split()[0]


def check_image(path, which, expected):
    """One partition of the image that was left: the file system is clean, the files are right."""
    with open(path, "rb") as f:
        f.seek(FIRST + which * PART)
        part = f.read(PART)
    expect_clean(f"partition {which + 1}", part)
    found = read_files(part, *("/" + name for name in expected))
    expect(f"partition {which + 1}, seen from the host",
           {name: digest(content or b"") for name, content in zip(expected, found)}, expected)


files = make_origin()
port = serve_origin("origin.img")
with open("cache.img", "wb") as f:
    f.truncate(128 << 20)  # the machine's disk, which becomes the image
with open("state.img", "wb") as f:
    f.write(make_ext4("fs.img", 16 << 20))
m = Machine("cache.img", "state.img")
m.run("mkdir -p /c /d && mount -t ext4 /dev/vdb /b")
m.run(f"xnbd-server --proxy --daemonize --lport 8521 {HOST} {port} /dev/vda /b/cache.bm /run/ctl.sock")
m.run("nbd-client -N '' 127.0.0.1 8521 /dev/nbd0 && blockdev --rereadpt /dev/nbd0 && test -b /dev/nbd0p2")

m.run("mount -t ext4 /dev/nbd0p1 /c && mkfs.ext4 -q -F /dev/nbd0p2 && mount -t ext4 /dev/nbd0p2 /d")
first = {name: digest(content) for name, content in files.items()}
expect("files of the origin", sums(m, "/c"), first)
second = {}
for i in range(6):
    first[f"new{i}"] = write_random(m, f"/c/new{i}", rng.randrange(1, 500))
    second[f"new{i}"] = write_random(m, f"/d/new{i}", rng.randrange(1, 1500))
m.run("rm /c/file3 && sync")
del first["file3"]

m.run("xnbd-bgctl --cache-all2 /run/ctl.sock")
for i in range(3):
    first[f"file{i}"] = write_random(m, f"/c/file{i}", 100)
m.run("xnbd-bgctl --cache-all /run/ctl.sock && xnbd-bgctl --switch /run/ctl.sock")
second["late"] = write_random(m, "/d/late", 700)
m.run("echo 3 >/proc/sys/vm/drop_caches")
expect("partition 1, after the switch", sums(m, "/c"), first)
expect("partition 2, after the switch", sums(m, "/d"), second)

m.run("umount /c && umount /d && nbd-client -d /dev/nbd0")
m.run("kill $(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p'); until_true 300 umount /b; sync")
m.kill()
check_image("cache.img", 0, first)
check_image("cache.img", 1, second)
with open("console.log", errors="replace") as f:
    trouble = re.findall(r".*(?:I/O error|EXT4-fs error|nbd.*(?:timed out|error)).*", f.read())
if trouble:
    sys.exit("\n".join(trouble))
print("ok")
