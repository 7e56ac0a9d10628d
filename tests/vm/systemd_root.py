# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# systemd_root.py INITRD [KILLS]: a machine whose process 1 is systemd (debian.py) and whose root file system moves here: the server
# is killed and started again by its keeper, and its program is exchanged for the one that lies on that root; before the switch, of
# which the machine has copied nothing, and after it. systemd and its units go on, and so does the next boot.
import os, sys
from debian import boot, moves_from, power_off, start_origin
from layouts import read, write
from machine import BUILD, PATIENCE, expect_quiet, make_ext4
from model import expect_clean, read_files
from root_server import expect, kill_server, query, upgrade

INITRD, KILLS = sys.argv[1], int((sys.argv[2:] or ["5"])[0])
IMAGE = BUILD + "/systemd.img"
PROGRAM = "/usr/bin/xnbdbox"  # of the root file system


def systemd_is_well(m, word):
    """It starts a new unit, whose program is on the root; nothing has failed; the root can be written to."""
    expect("process 1", m.run("cat /proc/1/comm"), "systemd\n")
    m.run(f"echo 3 >/proc/sys/vm/drop_caches; systemd-run --quiet --wait sh -c 'echo {word} >/root/{word}; sync'")
    expect("what the unit has written", m.run(f"cat /root/{word}"), f"{word}\n")
    expect("units that have failed", m.run("systemctl --failed --no-legend --plain"), "")
    expect("the root", m.run("findmnt -n -o OPTIONS / | grep -o '^rw'"), "rw\n")


write("state.img", make_ext4("fs.img", 16 << 20))
write("disk.img", bytes(os.path.getsize(IMAGE)))
port, origin = start_origin(IMAGE)
m, booted = boot(INITRD, "rw", moves_from(port))
expect("the root", m.run("findmnt -n -o SOURCE /"), "/dev/nbd0\n")
systemd_is_well(m, "first")
upgrade(m, PROGRAM, "/root")
systemd_is_well(m, "exchanged")
kill_server(m, KILLS, "/root")
systemd_is_well(m, "killed")
upgrade(m, PROGRAM, "/root")
m.run("xnbd-bgctl --cache-all /run/xnbd/ctl")
m.run(f"is_so() {{ [ \"$(query state)\" = complete ]; }}; until_true {PATIENCE} is_so; xnbd-bgctl --switch /run/xnbd/ctl")
origin.kill()
origin.wait()
expect("mode", query(m, "mode"), "target")
upgrade(m, PROGRAM, "/root")
systemd_is_well(m, "switched")
power_off(m, PATIENCE)
expect_quiet()
m, _ = boot(INITRD, "rw", moves_from(port))
expect("the root after a boot without the origin", m.run("findmnt -n -o SOURCE /"), "/dev/vdb\n")
systemd_is_well(m, "next")
power_off(m, PATIENCE)
expect_quiet()
disk = read("disk.img")
expect_clean("the disk that has moved", disk)
written = [f"/root/{word}" for word in ("first", "exchanged", "killed", "switched", "next")]
expect("files", read_files(disk, *written), [f"{os.path.basename(path)}\n".encode() for path in written])
print(f"{booted:.0f} s to boot, {KILLS} kills, 9 exchanges")
print("ok")
