# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# shutdown.py INITRD [network]: a machine whose root file system has Debian's systemd (build_glue.sh
# systemd) boots from the network and copies nothing. The origin is lost for good, and then
# "systemctl poweroff" is given, which is not here by the boot itself, as most programs. It may
# take three times what the first request waits for the origin, and half of what this boot took:
# a busy host is no error.
#   network: the origin stays, and what has the network in the system takes it down when it is stopped: systemd-networkd
#            with an address by DHCP, and a service as that of ifupdown. The shutdown needs blocks after that.
import os, shutil, subprocess, sys, time
from machine import BUILD, HOST, PATIENCE, XNBDBOX, Machine, connect, expect_quiet, free_port, make_ext4, spawn
from model import BLOCK, bits, expect_clean, read_files, uncover

NETWORK = sys.argv[2:] == ["network"]
INITRD, IMAGE = sys.argv[1], BUILD + "/systemd.img"
HOLD = 20  # seconds, of config/initramfs/init at a shutdown
SIZE = os.path.getsize(IMAGE)


def start_origin():
    port = free_port()
    process = spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--laddr", "127.0.0.1", "--lport", str(port), IMAGE)
    connect(port).shutdown()
    return port, process


def boot(port):
    """Returns the machine, and how many seconds it took."""
    with open("state.img", "wb") as f:
        f.write(make_ext4("fs.img", 16 << 20))
    with open("disk.img", "wb") as f:
        f.truncate(SIZE)
    began = time.monotonic()
    m = Machine("state.img", "disk.img", initrd=INITRD, memory=512,
                line=("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=line"), append=(
                    "loglevel=7 nosoftlockup rcupdate.rcu_cpu_stall_suppress=1 rw ip=10.0.2.15::10.0.2.2:255.255.255.0:::off"
                    f" systemd.default_timeout_start_sec={PATIENCE} udev.event_timeout={PATIENCE}"
                    + " systemd.wants=systemd-networkd.service systemd.wants=networking.service" * NETWORK +
                    f" xnbd.origin={HOST}:{port} xnbd.cache=/dev/vdb xnbd.bitmap=/dev/vda"))
    return m, time.monotonic() - began


def expect_hidden(m):
    """Udev and blkid know the device, and not the half-copied disk with the same names."""
    known = m.run("udevadm trigger --subsystem-match=block; udevadm settle; blkid -p /dev/vdb; blkid -p /dev/nbd0; "
                  "for l in /dev/disk/by-uuid/* /dev/disk/by-label/* /dev/disk/by-part*/*; do [ ! -e $l ] || readlink -f $l; done; blkid")
    if "vdb" in known or 'nbd0: ' not in known or 'TYPE="ext4"' not in known:
        sys.exit(f"the system knows:\n{known}")


def power_off(m, limit):
    """Returns how many seconds it took."""
    began = time.monotonic()
    m.tell("systemctl poweroff")
    try:
        m.process.wait(limit)
    except subprocess.TimeoutExpired:
        pass
    took = time.monotonic() - began
    m.line.close()
    with open("console.log", errors="replace") as f:
        said = f.read()
    if "reboot: Power down" not in said:
        sys.exit(f"{took:.0f} s after it was told to power off, the machine is still on:\n{said[-2000:]}")
    return took


def check_disk(content):
    """What the machine has written is there, as is the rest of its root file system."""
    with open("state.img", "rb") as f:
        commit = read_files(f.read(), "/bitmap.commit")[0]
    here = bits(commit, SIZE)
    with open("disk.img", "rb") as f:
        disk, shown = uncover(f.read(), commit)
    if any(shown) or subprocess.run(["blkid", "-p", "disk.img"], stdout=subprocess.PIPE).stdout:
        sys.exit("the half-copied disk is not covered")
    shutil.copyfile(IMAGE, "root.img")
    with open("root.img", "r+b") as root:
        for block in (b for b, local in enumerate(here) if local):
            root.seek(block * BLOCK)
            root.write(disk[block * BLOCK:(block + 1) * BLOCK])
    with open("root.img", "rb") as f:
        root = f.read()
    expect_clean("the root file system", root)
    found = read_files(root, "/root/file")[0]
    if found != content:
        sys.exit(f"the file has {found}")


port, origin = start_origin()
m, booted = boot(port)
m.run("echo written >/root/file; sync")
expect_hidden(m)
cached, blocks = (int(m.run(f"query {key}")) for key in ("cached", "blocks"))
if cached > blocks // 2:
    sys.exit(f"{cached} of {blocks} blocks are here: this is no test")
if NETWORK:
    m.run(f"by_dhcp() {{ ip -o -4 addr | grep -q dynamic; }}; until_true {PATIENCE} by_dhcp; systemctl is-active networking")
else:
    origin.kill()
    origin.wait()
m.run("echo 3 >/proc/sys/vm/drop_caches")
took = power_off(m, 3 * HOLD + booted / 2)
if NETWORK:
    expect_quiet()
check_disk(b"written\n")
print(f"{cached} of {blocks} blocks were here, {booted:.1f} s to boot, {took:.1f} s to power off")
print("ok")
