# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A Debian with systemd on its own disk, and a disk for data that moves to it: xnbd-proxy@data.service, and a line in fstab as
# xnbd-migrate(7) has it. The server is killed in the middle, and the origin is lost at the first shutdown; the disk is switched;
# the next boot has no origin.
import glob, os, subprocess, sys
import debian
from layouts import MIB, read, write
from machine import BUILD, HOST, PATIENCE, expect_quiet, make_ext4
from model import expect_clean, read_files

UNITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../config/systemd/")
(MODULES,) = glob.glob(BUILD + "/bookworm/usr/lib/modules/*")
SIZE = 64 * MIB
FILES = {"/before": os.urandom(3 * MIB), "/large": os.urandom(20 * MIB)}


def modules():
    """One, and what modprobe wants to find it; build_glue.sh has made that for all."""
    paths = *glob.glob(MODULES + "/modules.*.bin"), MODULES + "/kernel/drivers/block/nbd.ko"
    return {path[len(BUILD + "/bookworm"):]: read(path) for path in paths}


def make_root(port):
    write("state.img", read(BUILD + "/systemd.img"))
    debian.put("state.img", {
        "/etc/fstab": b"/dev/vda / ext4 errors=remount-ro 0 1\n"
                      b"/dev/nbd0 /srv ext4 _netdev 0 2\n",
        "/etc/xnbd/data.conf": f"ORIGIN=nbd://{HOST}:{port}\nCACHE=/dev/vdb\nBITMAP=/var/lib/xnbd/data.bitmap\n"
                               "OPTIONS=--device /dev/nbd0 --cover\n".encode(),
        **{f"/usr/lib/systemd/system/{unit}": read(UNITS + unit) for unit in ("xnbd-proxy@.service", "xnbd-hold@.service")},
        "/var/lib/xnbd/empty": b"", "/srv/empty": b"",
        **modules()})
    subprocess.run(["debugfs", "-w", "-R", "symlink /etc/systemd/system/multi-user.target.wants/xnbd-proxy@data.service "
                    "/usr/lib/systemd/system/xnbd-proxy@.service", "state.img"], check=True, capture_output=True)


def boot():
    m, booted = debian.boot("initramfs-tools.initrd", "root=/dev/vda rw", *(f"systemd.wants=systemd-networkd{more}.service" for more in ("", "-wait-online")))
    m.run("query() { xnbd-bgctl --query /run/xnbd-data/control | sed -n \"s/^$1 //p\"; }")
    if (failed := m.run("systemctl --failed --no-legend --plain")) or m.run("findmnt -n -o SOURCE /srv || true") != "/dev/nbd0\n":
        sys.exit(f"failed: {failed}" + m.run("journalctl -b --no-pager -u xnbd-proxy@data -u srv.mount -u modprobe@nbd | tail -30"))
    return m, booted


def power_off(m):
    debian.power_off(m, PATIENCE)
    expect_quiet()


def power_off_without_origin(m, booted):
    """Something waits for a block that is missing, and cannot be killed."""
    origin.kill()
    origin.wait()
    m.run("dd if=/srv/large of=/dev/null bs=1M iflag=direct >/dev/null 2>&1 & waits() { grep -q '^State:.*D' /proc/$!/status; }; "
          f"until_true {PATIENCE} waits; sleep 1; waits")
    took = debian.power_off(m, 3 * debian.HOLD + booted / 2)
    print(f"{booted:.0f} s to boot, {took:.0f} s to power off without the origin")
    return debian.start_origin("origin.img", port)[1]


write("origin.img", make_ext4("origin.img", SIZE))
debian.put("origin.img", FILES)
before = read("origin.img")
port, origin = debian.start_origin("origin.img")
make_root(port)
write("disk.img", bytes(SIZE))

m, booted = boot()
m.run("cp /srv/before /srv/copied; sync; blkid -p /dev/vdb && exit 1; true")
pid = m.run("query pid")
m.run(f"kill -9 {pid.strip()}; echo meanwhile >/srv/meanwhile; sync; test -s /srv/meanwhile")
m.run(f"is_new() {{ [ \"$(query pid)\" ] && [ \"$(query pid)\" != {pid.strip()} ]; }}; until_true {PATIENCE} is_new")
origin = power_off_without_origin(m, booted)

m, _ = boot()
if m.run("query mode") != "proxy\n":
    sys.exit("the second boot is no proxy")
m.run("xnbd-bgctl --cache-all /run/xnbd-data/control")
m.run(f"is_so() {{ [ \"$(query state)\" = complete ]; }}; until_true {PATIENCE} is_so; xnbd-bgctl --switch /run/xnbd-data/control")
origin.kill()
origin.wait()
m.run("echo behind >/srv/behind; sync")
power_off(m)

m, _ = boot()
if m.run("query mode") != "target\n":
    sys.exit("the third boot is no target")
m.run("echo last >/srv/last")
power_off(m)
expected = {**FILES, "/copied": FILES["/before"], "/meanwhile": b"meanwhile\n", "/behind": b"behind\n", "/last": b"last\n"}
disk = read("disk.img")
expect_clean("the disk that has moved", disk)
if read_files(disk, *expected) != list(expected.values()):
    sys.exit("other files")
if read("origin.img") != before:
    sys.exit("the origin has changed")
print("ok")
