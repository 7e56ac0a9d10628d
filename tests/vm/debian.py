# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A machine with Debian's systemd (build_glue.sh systemd), which an initramfs of a distribution boots. /dev/vda
# is xnbd.bitmap, /dev/vdb the disk.
import subprocess, sys, time
from machine import HOST, PATIENCE, XNBDBOX, Machine, connect, free_port, spawn

HOLD = 20  # seconds, of config/initramfs/init at a shutdown


def start_origin(image, port=None):
    port = port or free_port()
    process = spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--laddr", "127.0.0.1", "--lport", str(port), image)
    connect(port).shutdown()
    return port, process


def moves_from(port, export="", network="ip=10.0.2.15::10.0.2.2:255.255.255.0:::off", bitmap="/dev/vda"):
    """What the kernel's command line has of a move."""
    return f"{network} xnbd.origin={HOST}:{port}{export} xnbd.cache=/dev/vdb xnbd.bitmap={bitmap}"


def boot(initrd, *words, drives=("state.img", "disk.img"), ready=True):
    """Returns the machine, and how many seconds it took. A busy host is no error. ready: waits until it is."""
    began = time.monotonic()
    m = Machine(*drives, initrd=initrd, memory=512, ready=ready,
                line=("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=line"), append=(
                    "loglevel=7 nosoftlockup rcupdate.rcu_cpu_stall_suppress=1"
                    f" systemd.default_timeout_start_sec={PATIENCE} udev.event_timeout={PATIENCE} {' '.join(words)}"))
    return m, time.monotonic() - began


def names(m):
    """What udev and blkid know, after they have looked again: devices with a name in /dev/disk, then blkid's lines."""
    return m.run("udevadm trigger --subsystem-match=block; udevadm settle; blkid -p /dev/vdb; blkid -p /dev/nbd0; "
                 "for l in /dev/disk/by-uuid/* /dev/disk/by-label/* /dev/disk/by-part*/*; do [ ! -e $l ] || readlink -f $l; done; blkid")


def put(image, files):
    """Files of an ext4 file system, each with its folders, in place of what is there."""
    commands = []
    for n, (path, content) in enumerate(files.items()):
        with open(f"file{n}", "wb") as f:
            f.write(content)
        parts = path.split("/")
        commands += ["mkdir " + "/".join(parts[:k]) for k in range(2, len(parts))] + [f"rm {path}", f"write file{n} {path}"]
    subprocess.run(["debugfs", "-w", "-f", "-", image], check=True, capture_output=True, text=True, input="\n".join(commands) + "\n")


def shut_down(m, command, limit, end):
    """Returns how many seconds it took, until the kernel has said `end`."""
    began = time.monotonic()
    m.tell(command)
    try:
        m.process.wait(limit)
    except subprocess.TimeoutExpired:
        pass
    took = time.monotonic() - began
    m.line.close()
    with open("console.log", errors="replace") as f:
        said = f.read()
    if end not in said:
        sys.exit(f"{took:.0f} s after \"{command}\", the machine is still on:\n{said[-2000:]}")
    return took


def power_off(m, limit):
    return shut_down(m, "systemctl poweroff", limit, "reboot: Power down")
