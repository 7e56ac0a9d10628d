# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# ublk.py SEED KILLS: what device.py does, with /dev/ublkb0 and a kernel that has it; also while the origin
# is away for AWAY seconds, with as many requests waiting as the device may have, and the server killed once meanwhile.
import hashlib, random, re, subprocess, sys, time
from machine import HOST, Machine, XNBDBOX, connect, free_port, make_ext4, spawn
from model import expect_clean

rng = random.Random(int(sys.argv[1]))
kills = int(sys.argv[2])
AWAY = 30
TAIL = 36 << 20  # behind the file system, read at once: more requests of 256 KiB than the device may have, 128
SIZE = 2 * TAIL
port = free_port()
SERVER = f"xnbd-server --proxy --lport 0 --device /dev/ublkb0 {HOST} {port} /dev/vda /b/cache.bm /run/ctl.sock"
KILL = "kill -9 $(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p') && until_true 60 xnbd-bgctl --query /run/ctl.sock"


def start_origin():
    p = spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--laddr", "127.0.0.1", "--lport", str(port), "origin.img")
    connect(port).shutdown()
    return p


def target(name, device="/dev/ublkb1", image=None):
    return f"xnbd-server --target --daemonize --lport 0 --device {device} --pidfile /run/{name}.pid --logpath /run/{name}.log {image or f'/t/{name}.img'}"


def ended(name):
    return f"kill $(cat /run/{name}.pid) && until_true 60 sh -c '! [ -e /run/{name}.pid ]'"


def refused(why, command):
    said = m.run(f"{command} && echo started || true")
    if why not in said:
        sys.exit(f"not refused: {command}: {said}")


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got}, not {wanted}")


def trouble():
    with open("console.log", errors="replace") as f:
        return re.findall(r".*(?:I/O error|EXT4-fs error|[Rr]emounting|BUG|WARNING|blocked for).*", f.read())


tail = rng.randbytes(TAIL)
with open("origin.img", "wb") as f:
    f.write(make_ext4("fs.img", SIZE) + tail)
origin = start_origin()
with open("cache.img", "wb") as f:
    f.truncate(SIZE + TAIL)
with open("state.img", "wb") as f:
    f.write(make_ext4("fs.img", 16 << 20))
m = Machine("cache.img", "state.img", kernel="vmlinuz-6.12", initrd="initrd-6.12", append="loglevel=7")

# ---- killed under a file system
m.run("mkdir -p /c && mount -t ext4 /dev/vdb /b")
m.tell(f"touch /run/again; (while [ -e /run/again ]; do {SERVER}; done >/run/log 2>&1 &)")
m.until("exit")
m.run("until_true 60 [ -e /sys/block/ublkb0 ] && mount -t ext4 /dev/ublkb0 /c && blockdev --setra $((80 << 10)) /dev/ublkb0")
m.run("fsload /c 1 >/run/fsload 2>&1 & echo $! >/run/pid")
# A small write and its sync, over and over: how long each took, at most, in hundredths of a second.
m.run("(while [ ! -e /run/enough ]; do read -r a _ </proc/uptime; dd if=/dev/zero of=/c/x bs=1k count=1 conv=fsync 2>/dev/null; "
      "read -r b _ </proc/uptime; a=${a%.*}${a#*.} b=${b%.*}${b#*.}; [ $((b - a)) -le ${most:=0} ] || most=$((b - a)); echo $most >/run/most; done) &")
for i in range(kills):
    time.sleep(rng.uniform(0.3, 2))
    m.run(KILL)
time.sleep(1)
m.run("touch /run/enough; kill $(cat /run/pid) && until_true 60 sh -c '! [ -e /proc/$(cat /run/pid) ]'")
said = m.run("cat /run/fsload")
if " is wrong" in said or "right after" not in said:
    sys.exit(f"the file system's user: {said}")
with open("pause", "w") as f:
    f.write(f"longest pause: {int(m.run('cat /run/most')) / 100} s\n")

# ---- the origin is away
origin.kill()
origin.wait()
began = time.monotonic()
m.run(f"(dd if=/dev/ublkb0 bs={TAIL} skip=2 count=1 2>/run/why | md5sum >/run/sum; mv /run/sum /run/read) &")
m.run("until_true 60 sh -c 'read -r reads _ </sys/block/ublkb0/inflight; [ $reads = 128 ]'")
m.run(KILL)
time.sleep(max(0, AWAY - (time.monotonic() - began)))
m.run("[ ! -e /run/read ]")
origin = start_origin()
m.run("until_true 120 [ -e /run/read ]")
expect("what was read while the origin was away", m.run("cat /run/read").split()[0], hashlib.md5(tail).hexdigest())

# ---- the end of the move
m.run("umount /c && mount -t ext4 /dev/ublkb0 /c && umount /c")
m.run("xnbd-bgctl --cache-all /run/ctl.sock && xnbd-bgctl --switch /run/ctl.sock && rm /run/again")
m.run("kill $(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p'); until_true 60 umount /b; until_true 60 [ ! -e /dev/ublkb0 ]; sync")
with open("cache.img", "rb") as f:
    expect_clean("the disk", f.read(SIZE))
    if f.read() != tail:
        sys.exit("the end of the disk is wrong")

# ---- who may have a device, and what becomes of it
m.run("mkdir /t && mount -t tmpfs t /t; truncate -s 20M /t/a.img; truncate -s 20M /t/b.img; truncate -s 20000001 /t/c.img")
m.run(target("a"))
m.run("mkfs.ext4 -q -F /dev/ublkb1 && mount -t ext4 /dev/ublkb1 /c && echo kept >/c/file && sync")
refused("in use, by process", target("b"))
m.run("kill -9 $(cat /run/a.pid)")
refused("in use, by process", target("b"))
m.run(f"{target('a')} && echo 3 >/proc/sys/vm/drop_caches && grep kept /c/file")
m.run(ended("a"))
if "is in use and stays" not in m.run("cat /run/a.log"):
    sys.exit("the device is mounted, and the server that ends does not say so")
m.run(f"{target('a')} && echo 3 >/proc/sys/vm/drop_caches && grep kept /c/file && umount /c")
m.run(f"{ended('a')} && [ ! -e /dev/ublkb1 ] && [ ! -e /dev/ublkc1 ]")
m.run(f"{target('c')} --keep-device && [ $(blockdev --getsize64 /dev/ublkb1) = 19999744 ]")
m.run(f"{ended('c')} && [ $(blockdev --getsize64 /dev/ublkb1) = 19999744 ] && {target('c')} && {ended('c')} && [ ! -e /dev/ublkb1 ]")
m.run("xnbd-wrapper --daemonize --lport 0 --pidfile /run/w.pid --imgfile /t/a.img --imgfile /t/b.img --device /t/a.img=/dev/ublkb1 "
      "--device /t/b.img=/dev/ublkb7 && cmp /dev/ublkb1 /t/a.img && cmp /dev/ublkb7 /t/b.img")
m.run(f"{ended('w')} && [ ! -e /dev/ublkb1 ] && [ ! -e /dev/ublkb7 ]")
refused("it has to be one as /dev/nbd0 or /dev/ublkb0", target("a", "/dev/ublkb"))

# ---- what it can do
m.run("dd if=/dev/urandom of=/t/a.img bs=1M count=20 2>/dev/null")
m.run(target("a"))
limits = "read_only:../ro logical_block_size physical_block_size discard_granularity discard_max_bytes write_zeroes_max_bytes write_cache fua"
said = m.run(f"cd /sys/block/ublkb1/queue && for f in {limits.replace('read_only:', '')}; do cat $f; done; cd /").splitlines()
expect("its limits", said, ["0", "512", "4096", "4096", str(2**32 - 4096), str(2**32 - 4096), "write back", "1"])
m.run("/usr/sbin/blkdiscard -o 4M -l 8M /dev/ublkb1 && [ $(du -k /t/a.img | cut -f1) = 12288 ]")
m.run("/usr/sbin/blkdiscard -z -o 512 -l 1M /dev/ublkb1 && dd if=/dev/zero bs=1k count=1k 2>/dev/null >/run/zeroes && "
      "dd if=/t/a.img bs=512 skip=1 count=2048 2>/dev/null | cmp - /run/zeroes && [ $(dd if=/t/a.img bs=512 count=1 2>/dev/null | tr -d '\\0' | wc -c) -gt 400 ]")
m.run("cp /t/a.img /t/b.img; dd if=/t/b.img of=/dev/ublkb1 bs=1M conv=fsync 2>/dev/null; cmp /t/a.img /t/b.img")
m.run(f"{ended('a')}; {target('a')} --readonly && [ $(cat /sys/block/ublkb1/ro) = 1 ] && cmp /dev/ublkb1 /t/b.img")
m.run(f"! dd if=/dev/zero of=/dev/ublkb1 bs=4k count=1 conv=fsync 2>/dev/null && {ended('a')} && cmp /t/a.img /t/b.img")
# FLUSH and FUA: a file system's journal needs both, and the power fails. What the server writes goes to the page cache.
m.run(f"{target('v', '/dev/ublkb0', '/dev/vda')} && mount -t ext4 /dev/ublkb0 /c && echo fsynced >/run/x && dd if=/run/x of=/c/synced conv=fsync 2>/dev/null")
m.kill()
subprocess.run(["e2fsck", "-f", "-y", "cache.img"], capture_output=True, check=False)
said = subprocess.run(["debugfs", "-R", "cat /synced", "cache.img"], capture_output=True, text=True, check=True).stdout
expect("a file that was synced before the power failed", said, "fsynced\n")
if trouble():
    sys.exit("\n".join(trouble()))
print("ok")
