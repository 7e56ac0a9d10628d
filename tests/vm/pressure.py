# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# pressure.py tcp|unix|client|nbd|ublk SECONDS SEED: a machine swaps onto a disk that it serves to itself, by
# nbd-client (tcp, unix) or xnbd-client (client), or by the server's own device (nbd, ublk: in the machine that has
# it). The kernel's block device, our proxy, its cache image (a disk of the machine) and the swapping are
# one loop: if any of them has to wait for memory that only swapping would free, it stands
# still. What the server notes of its disk is in a tmpfs and on a disk without a file system; its log is in a
# file system that others keep busy. Programs want twice the memory there is, and look at all they have written; files
# are written, read and compared; the copy runs, and in the last quarter the server has
# switched.
import hashlib, os, random, re, struct, sys, time
from disk import SECTOR
from machine import HOST, Machine, kernel, make_ext4, serve_origin
from model import expect_clean, read_files

KIND, SECONDS, rng = sys.argv[1], int(sys.argv[2]), random.Random(int(sys.argv[3]))
MIB = 1 << 20
MEMORY = 192  # MiB
HOGS = (150, 150)  # MiB of each
FIRST, FILES, SWAP = 1, 48, 400  # MiB: begin of the first partition; sizes
ORIGIN = (FIRST + FILES + SWAP) * MIB
RATE = ORIGIN * 4 // 3 // SECONDS  # of the copy, a second
TROUBLE = r".*(?:blocked for more than|I/O error|EXT4-fs error|[Oo]ut of memory|nbd.*(?:timed out|error)|ublk.*error).*"
DEVICE = "/dev/ublkb0" if KIND == "ublk" else "/dev/nbd0"
CLIENT = {"tcp": "nbd-client -swap -N '' 127.0.0.1 8521", "unix": "nbd-client -swap -N '' -unix /run/nbd.sock",
          "client": "xnbd-client --swap --persist --unix /run/nbd.sock"}.get(KIND)
log = open("pressure.log", "w", buffering=1)


def digest(content):
    return hashlib.sha256(content).hexdigest()


def make_origin():
    """Two partitions: files, and for the swap what a used disk has. Returns the files' sums."""
    os.mkdir("tree")
    sums = {}
    for i in range(8):
        content = rng.randbytes(rng.randrange(MIB, 2 * MIB))
        with open(f"tree/file{i}", "wb") as f:
            f.write(content)
        sums[f"file{i}"] = digest(content)
    table, start = b"", FIRST
    for size in FILES, SWAP:
        table += struct.pack("<BxxxBxxxII", 0, 0x83, start * MIB // SECTOR, size * MIB // SECTOR)
        start += size
    with open("origin.img", "wb") as f:
        f.write((bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa").ljust(FIRST * MIB, b"\0"))
        f.write(make_ext4("fs.img", FILES * MIB, "-d", "tree"))
        for _ in range(SWAP):
            f.write(rng.randbytes(MIB))
    return sums


def check_console():
    with open("console.log", errors="replace") as f:
        trouble = re.findall(TROUBLE, f.read())
    if trouble:
        sys.exit("the kernel says:\n" + "\n".join(trouble))


def expect_files(m, sums):
    """As the machine reads them, not from its memory."""
    said = m.run("sync; echo 1 >/proc/sys/vm/drop_caches; cd /c; sha256sum $(find . -type f); cd /")
    found = {line.split()[1][2:]: line.split()[0] for line in said.splitlines()}
    wrong = {n for n in {*found, *sums} if found.get(n) != sums.get(n)}
    if wrong:
        sys.exit("files are not as they should be: " + " ".join(sorted(wrong)))


def copy_one(m, sums):
    """A file more, or another content; acknowledged by fsync."""
    old, new = rng.choice([n for n in sums]), f"copy{rng.randrange(8)}"
    if old != new:
        m.run(f"dd if=/c/{old} of=/c/{new} bs=100k conv=fsync 2>/dev/null")
        sums[new] = sums[old]


class Server:
    """What the system knows of it."""

    def __init__(self, m):
        self.m, self.pid = m, m.query()["pid"]
        self.faults = self.major_faults()

    def major_faults(self):
        return int(self.m.run(f"cut -d' ' -f12 /proc/{self.pid}/stat"))

    def expect_unswapped(self):
        if self.major_faults() != self.faults:
            sys.exit(f"the server has waited for its own memory {self.major_faults() - self.faults} times")
        swapped = self.m.run(f"sed -n 's/^VmSwap:[^0-9]*//p' /proc/{self.pid}/status").strip()
        if swapped != "0 kB":
            sys.exit(f"of the server {swapped} are swapped out")


def begin(port):
    m = Machine("cache.img", "log.img", "commit.img", memory=MEMORY, append="loglevel=7", **kernel("6.12" if KIND == "ublk" else "6.1"))
    m.run("mkdir -p /c && mount -t ext4 /dev/vdb /b && echo 60 >/proc/sys/kernel/hung_task_timeout_secs")
    m.run(f"xnbd-server --proxy --root-storage --daemonize --logpath /b/log --lport 8521 {'' if CLIENT else '--device ' + DEVICE}"
          f" --unix /run/nbd.sock --rate {RATE} --commit-file /dev/vdc {HOST} {port} /dev/vda /run/cache.bm /run/ctl.sock")
    if CLIENT:
        m.run(f"{CLIENT} {DEVICE} && blockdev --rereadpt {DEVICE}")
    m.run(f"until_true 300 test -b {DEVICE}p2 && mount -t ext4 {DEVICE}p1 /c && mkswap {DEVICE}p2 >/dev/null && swapon {DEVICE}p2")
    return m


def swapped(m):
    """Pages, in and out."""
    said = dict(line.split() for line in m.run("grep '^pswp' /proc/vmstat").splitlines())
    return int(said["pswpin"]), int(said["pswpout"])


def dropped(m):
    """Packets whose memory came from the kernel's reserve, and whose socket may not have any of it."""
    names, numbers = (line.split()[1:] for line in m.run("grep '^TcpExt:' /proc/net/netstat").splitlines())
    return int(dict(zip(names, numbers))["PFMemallocDrop"])


def press(m, sums):
    """Until the time is over and what is in memory has been out by half. The copy is
    done after three quarters, and the switch, too."""
    began, switched, turns = time.monotonic(), False, 0
    while time.monotonic() - began < SECONDS or swapped(m)[1] < sum(HOGS) * 128 or not switched or turns < 3:
        copy_one(m, sums)
        expect_files(m, sums)
        check_console()
        turns += 1
        q = m.query()
        print(f"{time.monotonic() - began:.0f} s: {turns} turns, {q['mode']}, {q['cached']} of {q['blocks']} blocks, swapped {swapped(m)}, {dropped(m)} packets dropped for their memory", file=log)
        if not switched and q["cached"] == q["blocks"]:
            m.run("xnbd-bgctl --switch /run/ctl.sock")
            switched = True


sums = make_origin()
port = serve_origin("origin.img")
with open("cache.img", "wb") as f:
    f.truncate(ORIGIN + MIB)
with open("log.img", "wb") as f:
    f.write(make_ext4("fs.img", 16 << 20))
with open("commit.img", "wb") as f:
    f.truncate(1 << 20)
with open("origin.img", "rb") as f:
    origin = hashlib.file_digest(f, "sha256").hexdigest()
m = begin(port)
server = Server(m)
m.run("xnbd-bgctl --cache-all2 /run/ctl.sock")
for i, mib in enumerate(HOGS):
    m.run(f"{{ hog {mib} {rng.randrange(1 << 32)} >/run/hog{i} 2>&1; echo status $? >>/run/hog{i}; }} & echo $! >/run/pid{i}")
m.run("(mkdir /b/x; while [ ! -e /run/enough ]; do i=0; while [ $i -lt 300 ]; do : >/b/x/$i; i=$((i + 1)); done; rm -rf /b/x/*; sleep 1; done) >/dev/null 2>&1 &")
press(m, sums)
server.expect_unswapped()
m.run("touch /run/enough; kill $(pidof hog); wait; true")
for i in range(len(HOGS)):
    said = m.run(f"cat /run/hog{i}")
    print(said, file=log)
    if not re.fullmatch(r"\d+ pages right\nstatus 0\n", said):
        sys.exit(f"the memory of a program: {said}")
m.run(f"swapoff {DEVICE}p2")
expect_files(m, sums)
server.expect_unswapped()
print(m.run(f"cat /b/log; grep ^Vm /proc/{server.pid}/status"), file=log)
m.run("umount /c" + (f" && {CLIENT.split()[0]} -d {DEVICE}" if CLIENT else ""))
m.run(f"kill {server.pid}; until_true 300 umount /b; sync; [ ! -e {DEVICE} ] || [ $(blockdev --getsize64 {DEVICE}) = 0 ]")
check_console()
m.kill()
with open("cache.img", "rb") as f:
    f.seek(FIRST * MIB)
    part = f.read(FILES * MIB)
expect_clean("the file system", part)
found = read_files(part, *("/" + name for name in sums))
if {n: digest(c or b"") for n, c in zip(sums, found)} != sums:
    sys.exit("files, seen from the host, are not as they should be")
with open("origin.img", "rb") as f:
    if hashlib.file_digest(f, "sha256").hexdigest() != origin:
        sys.exit("the origin was written to")
print("ok")
