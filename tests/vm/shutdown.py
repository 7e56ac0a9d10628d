# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# shutdown.py INITRD [network]: a machine whose root file system has Debian's systemd (build_glue.sh
# systemd) boots from the network and copies nothing. The origin is lost for good, and then
# "systemctl poweroff" is given, which is not here by the boot itself, as most programs. It may
# take three times what the first request waits for the origin, and half of what this boot took:
# a busy host is no error.
#   network: the origin stays, and what has the network in the system takes it down when it is stopped: systemd-networkd
#            with an address by DHCP, and a service as that of ifupdown. The shutdown needs blocks after that.
import os, shutil, subprocess, sys
from debian import HOLD, boot, moves_from, names, power_off, start_origin
from machine import BUILD, PATIENCE, expect_quiet, make_ext4
from model import BLOCK, bits, expect_clean, read_files, uncover

NETWORK = sys.argv[2:] == ["network"]
INITRD, IMAGE = sys.argv[1], BUILD + "/systemd.img"
SIZE = os.path.getsize(IMAGE)


def expect_hidden(m):
    """Udev and blkid know the device, and not the half-copied disk with the same names."""
    known = names(m)
    if "vdb" in known or 'nbd0: ' not in known or 'TYPE="ext4"' not in known:
        sys.exit(f"the system knows:\n{known}")


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


with open("state.img", "wb") as f:
    f.write(make_ext4("fs.img", 16 << 20))
with open("disk.img", "wb") as f:
    f.truncate(SIZE)
port, origin = start_origin(IMAGE)
m, booted = boot(INITRD, "rw", "systemd.wants=systemd-networkd.service systemd.wants=networking.service" * NETWORK, moves_from(port))
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
