# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# ublk.py: who may have /dev/ublkbN as the device of a server, what becomes of it, and what it can do. What it is
# under a file system: deaths.py.
import subprocess, sys
from machine import Machine, expect_quiet, format_ext4, kernel, make_ext4


def target(name, device="/dev/ublkb1", image=None):
    return f"xnbd-server --target --daemonize --lport 0 --device {device} --pidfile /run/{name}.pid --logpath /run/{name}.log {image or f'/t/{name}.img'}"


def ended(name):
    return f"kill $(cat /run/{name}.pid) && until_true 300 sh -c '! [ -e /run/{name}.pid ]'"


def refused(why, command):
    said = m.run(f"{command} && echo started || true")
    if why not in said:
        sys.exit(f"not refused: {command}: {said}")


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got}, not {wanted}")


with open("cache.img", "wb") as f:
    f.write(make_ext4("fs.img", 64 << 20))
format_ext4("long.img", 4 << 30)
m = Machine("cache.img", "long.img", append="loglevel=7", **kernel("6.12"))

# ---- who may have a device, and what becomes of it
m.run("mkdir /c /t && mount -t tmpfs t /t; truncate -s 20M /t/a.img; truncate -s 20M /t/b.img; truncate -s 20000001 /t/c.img")
m.run(target("a"))
m.run("mkfs.ext4 -q -F /dev/ublkb1 && mount -t ext4 /dev/ublkb1 /c && echo kept >/c/file && sync")
refused("in use by process", target("b"))
m.run("kill -9 $(cat /run/a.pid)")
refused("in use by process", target("b"))
m.run(f"{target('a')} && echo 3 >/proc/sys/vm/drop_caches && grep kept /c/file")
m.run(ended("a"))
if "is in use and is kept" not in m.run("cat /run/a.log"):
    sys.exit("the device is mounted, and the server that ends does not say so")
m.run(f"{target('a')} && echo 3 >/proc/sys/vm/drop_caches && grep kept /c/file && umount /c")
m.run(f"{ended('a')} && [ ! -e /dev/ublkb1 ] && [ ! -e /dev/ublkc1 ]")
m.run(f"{target('c')} --keep-device && [ $(blockdev --getsize64 /dev/ublkb1) = 19999744 ]")
m.run(f"{ended('c')} && [ $(blockdev --getsize64 /dev/ublkb1) = 19999744 ] && {target('c')} && {ended('c')} && [ ! -e /dev/ublkb1 ]")
m.run("xnbd-wrapper --daemonize --lport 0 --pidfile /run/w.pid --imgfile /t/a.img --imgfile /t/b.img --device /t/a.img=/dev/ublkb1 "
      "--device /t/b.img=/dev/ublkb7 && cmp /dev/ublkb1 /t/a.img && cmp /dev/ublkb7 /t/b.img")
m.run(f"{ended('w')} && [ ! -e /dev/ublkb1 ] && [ ! -e /dev/ublkb7 ]")
refused("is not a device such as /dev/nbd0 or /dev/ublkb0", target("a", "/dev/ublkb"))

# ---- what it can do
m.run("dd if=/dev/urandom of=/t/a.img bs=1M count=20 2>/dev/null")
m.run(target("a"))
limits = "read_only:../ro logical_block_size physical_block_size discard_granularity discard_max_bytes write_zeroes_max_bytes write_cache fua"
said = m.run(f"cd /sys/block/ublkb1/queue && for f in {limits.replace('read_only:', '')}; do cat $f; done; cd /").splitlines()
expect("its limits", said, ["0", "512", "4096", "4096", str(2**32 - 4096), str(2**32 - 4096), "write back", "1"])
m.run("/usr/sbin/blkdiscard -o 4M -l 8M /dev/ublkb1 && [ $(du -k /t/a.img | cut -f1) = 12288 ]")
m.run("/usr/sbin/blkdiscard -z -o 512 -l 1M /dev/ublkb1 && dd if=/dev/zero bs=1k count=1k 2>/dev/null >/run/zeroes && "
      "dd if=/t/a.img bs=512 skip=1 count=2048 2>/dev/null | cmp - /run/zeroes && [ $(dd if=/t/a.img bs=512 count=1 2>/dev/null | tr -d '\\0' | wc -c) -gt 400 ]")
# Of more bytes than a result of the kernel can tell, 2 GiB. Zeroes are on a file system that can reserve blocks.
m.run("mkdir /l && mount -t ext4 /dev/vdb /l && truncate -s 3500M /l/long.img")
m.run(f"{target('l', '/dev/ublkb2', '/l/long.img')} && /usr/sbin/blkdiscard -l 3G /dev/ublkb2 && /usr/sbin/blkdiscard -z -l 3G /dev/ublkb2")
m.run(f"[ $(du -m /l/long.img | cut -f1) -ge 3072 ] && {ended('l')} && until_true 300 umount /l")
m.run("cp /t/a.img /t/b.img; dd if=/t/b.img of=/dev/ublkb1 bs=1M conv=fsync 2>/dev/null; cmp /t/a.img /t/b.img")
m.run(f"{ended('a')}; {target('a')} --readonly && [ $(cat /sys/block/ublkb1/ro) = 1 ] && cmp /dev/ublkb1 /t/b.img")
m.run(f"! dd if=/dev/zero of=/dev/ublkb1 bs=4k count=1 conv=fsync 2>/dev/null && {ended('a')} && cmp /t/a.img /t/b.img")
# The timer is set, by a child.
m.run(f"{target('a', '/dev/ublkb6')} && until_true 300 grep '^1000$' /sys/block/ublkb6/queue/io_timeout && {ended('a')}")
# A child of the server cannot be killed, as it looks for partitions of another device whose origin is away: it keeps nothing.
m.run("xnbd-server --target --readonly --daemonize --lport 9000 --pidfile /run/o.pid /t/b.img && truncate -s 20M /t/cache.img")
proxy = "xnbd-wrapper --daemonize --lport 0 --unix /run/u --pidfile /run/w.pid --imgfile /t/a.img --proxy p=nbd://127.0.0.1:9000,cache=/t/cache.img,bitmap=/t/cache.bm,control=/run/p.sock"
m.run(f"{proxy} && {ended('w')} && {ended('o')}")
m.run(f"{proxy} --device p=/dev/nbd3 --device /t/a.img=/dev/ublkb5 && pid=$(cat /run/w.pid) && kill -9 $pid && until_true 300 sh -c \"! [ -e /proc/$pid/fd/0 ]\"")
m.run("grep -l xnbd-wrapper /proc/[0-9]*/cmdline")
m.run(f"{target('a', '/dev/ublkb5')} && cmp /dev/ublkb5 /t/a.img && {ended('a')} && xnbd-client -d /dev/nbd3")
# FLUSH and FUA: a file system's journal needs both, and the power fails. What the server writes goes to the page cache.
m.run(f"{target('v', '/dev/ublkb0', '/dev/vda')} && mount -t ext4 /dev/ublkb0 /c && echo fsynced >/run/x && dd if=/run/x of=/c/synced conv=fsync 2>/dev/null")
m.kill()
subprocess.run(["e2fsck", "-f", "-y", "cache.img"], capture_output=True, check=False)
said = subprocess.run(["debugfs", "-R", "cat /synced", "cache.img"], capture_output=True, text=True, check=True).stdout
expect("a file that was synced before the power failed", said, "fsynced\n")
expect_quiet(r"dev nbd3")  # which was disconnected while it was read
print("ok")
