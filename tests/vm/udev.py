# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# udev.py: with Debian's udev and LVM (build_glue.sh udev), a whole disk and a partition as cache.
# Each is started on right after a write to it, ROUNDS times; while the server runs udev's queue
# becomes empty, and the kernel refuses all other use of the device.
import os, struct, sys, time
from machine import HOST, Machine, serve_origin

ROUNDS = int(os.environ.get("ROUNDS") or 50)
MIB = 1 << 20
SERVER = "xnbd-server --proxy --daemonize --lport 0 --unix /run/disk {more} {host} {port} {cache} /run/bm /run/ctl.sock"


def write(name, content):
    with open(name, "wb") as f:
        f.write(content)


write("origin.img", os.urandom(MIB))
write("whole.img", bytes(4 * MIB))
write("parts.img", (bytes(446) + struct.pack("<BxxxBxxxII", 0, 0x83, 2048, 6144) + bytes(48) + b"\x55\xaa").ljust(4 * MIB, b"\0"))
port = serve_origin("origin.img")
m = Machine("whole.img", "parts.img", initrd="udev.initrd", memory=512)
m.run("export SYSTEMD_IGNORE_CHROOT=1; for d in dev proc sys run; do mount --bind /$d /d/$d; done; mkdir -p /run/lock")
m.run("chroot /d /usr/lib/systemd/systemd-udevd --daemon && chroot /d udevadm trigger && chroot /d udevadm settle --timeout=300")
m.run("ls /run/udev/data/b*")  # it does know the disks
m.run("test -b /dev/vdb1")


def server(cache, more=""):
    return SERVER.format(more=more, host=HOST, port=port, cache=cache)


END = "kill $(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p'); while [ -e /run/ctl.sock ]; do sleep 0.02; done"


def starts(cache):
    """How many of them were refused."""
    said = m.run(f"n=0; while [ $n -lt {ROUNDS} ]; do n=$((n + 1)); dd if=/dev/zero of={cache} bs=4k count=1 conv=notrunc 2>/dev/null;"
                 f" if {server(cache, '--clear-bitmap')}; then {END}; else echo refused; fi; done")
    return said.count("refused\n"), said


def status(command):
    return int(m.run(f"{command} >/run/said 2>&1 3>&-; echo $?"))


def others(cache):
    """While the server has the device. Old programs' writes to it would start events, too."""
    m.run(server(cache, "--clear-bitmap"))
    m.run(f"exec 9>{cache}; exec 9>&-; chroot /d udevadm trigger --settle --name-match={cache} & sleep 0.5")
    print(f"{cache}: udevadm settle: {status('chroot /d /bin/udevadm settle --timeout=20')}")
    for command in (f"mount {cache} /a", f"swapon {cache}", f"chroot /d /sbin/mkfs.ext4 -q -F {cache}",
                    f"chroot /d /sbin/pvcreate -qq -ff -y {cache}"):
        done = status(command)
        reason = m.run("cat /run/said").lower()
        known = any(word in reason for word in ("busy", "in use", "exclusively"))
        print(f"{cache}: {command.split(cache)[0]}: {'refused' if done and known else f'{done} {reason}'}")
    m.run(END)


for cache in ("/dev/vda", "/dev/vdb1"):
    began = time.monotonic()
    refused, said = starts(cache)
    print(f"{cache}: {refused} of {ROUNDS} starts refused")
    if refused:
        print(said.splitlines()[0])
    others(cache)
    print(f"{cache}: {time.monotonic() - began:.0f} s", file=sys.stderr)
m.kill()
