# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# disks.py INITRD: a Debian with systemd moves, with two disks: one with its root file system, and one with a partition for /data,
# which stands in fstab as such a system has it. The origin is a wrapper with both.
#   1. a boot over the network, with words for two more disks: one has no cache, the other one no origin. The origin is lost, and
#      then comes a shutdown
#   2. the next boot finds no origin for the data; then it does. The copy, the switch of both, a shutdown
#   3. a boot without the words xnbd...=, from the local disks
#   4. one with them, from the local disks, too
import os, random, subprocess, sys
import gpt
from debian import HOLD, boot, moves_from, names, power_off
from layouts import read, uuid_of, write
from machine import BUILD, HOST, XNBDBOX, connect, expect_quiet, free_port, make_ext4, spawn
from model import expect_clean, read_files

INITRD = sys.argv[1]
CONFIG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../config")
MIB = 1 << 20
FIRST, DATA = MIB, 24 * MIB  # where the partition begins, and its file system's size
DRIVES = "state.img", "disk.img", "data.img", "spare.img"
PART = "7b6f0b6e-0004-4000-8000-5a3d1c2b0a94"


def make_origins():
    """Both disks of the old machine."""
    os.mkdir("files")
    for n in range(8):
        write(f"files/file{n}", random.Random(n).randbytes(n * 300000))
    content = make_ext4("fs.img", DATA, "-d", "files")
    write("origin1.img", gpt.make_disk(FIRST + DATA + MIB, (gpt.LINUX, PART, FIRST, content)))
    write("fstab", f"UUID={uuid_of(BUILD + '/systemd.img')} / ext4 errors=remount-ro 0 1\nUUID={uuid_of('fs.img')} /data ext4 defaults 0 2\n".encode())
    write("origin0.img", read(BUILD + "/systemd.img"))
    subprocess.run(["debugfs", "-w", "-f", "-", "origin0.img"], check=True, capture_output=True, text=True,
                   input="mkdir /data\nmkdir /root/initramfs\nrm /etc/fstab\nwrite fstab /etc/fstab\n"
                   f"write {CONFIG}/xnbd-migrate /root/xnbd-migrate\nwrite {CONFIG}/initramfs/devices /root/initramfs/devices\n")


def start_origin(port=None):
    port = port or free_port()
    process = spawn(XNBDBOX, "xnbd-wrapper", "--readonly", "--laddr", "127.0.0.1", "--lport", str(port),
                    "--export", "system=origin0.img", "--export", "data=origin1.img")
    connect(port, "data").shutdown()
    return port, process


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found}\nexpected: {expected}")


def check_system(m, *sources):
    """It is up, from these devices, nothing has failed, and /data has what it had. Then it writes a file to each disk."""
    expect("root and /data", m.run("findmnt -n -o SOURCE /; findmnt -n -o SOURCE /data").split(), list(sources))
    expect("units that have failed", m.run("systemctl --failed --no-legend --plain"), "")
    expect("multi-user.target", m.run("systemctl is-active multi-user.target"), "active\n")


def create(m, name):
    m.run(f"echo {name} >/root/{name} && echo {name} >/data/{name} && sync")
    files[name] = f"{name}\n".encode()


def query(m, disk, key):
    return m.run(f"xnbd-bgctl --query /run/xnbd/{disk}ctl | sed -n 's/^{key} //p'").strip()


def expect_on_console(*lines):
    with open("console.log", errors="replace") as f:
        said = f.read()
    for line in lines:
        if line not in said:
            sys.exit(f"the console does not say: {line}")


def shut_down(m, booted):
    times.append((booted, power_off(m, 3 * HOLD + booted / 2)))


def check_disks():
    """From outside, after the switch."""
    data = read("data.img")
    gpt.expect_valid(data)
    for what, content, below in (("root", read("disk.img"), "/root/"), ("data", data[FIRST:FIRST + DATA], "/")):
        expect_clean(f"the file system of {what}", content)
        expect(f"files of {what}", dict(zip(files, read_files(content, *(below + name for name in files)))), files)
    kept = [f"file{n}" for n in range(8)]
    expect("what the data was", read_files(data[FIRST:FIRST + DATA], *("/" + name for name in kept)), [read("files/" + name) for name in kept])


make_origins()
write("state.img", make_ext4("fs.img", 40 * MIB))
for drive, size in ("disk.img", os.path.getsize("origin0.img")), ("data.img", os.path.getsize("origin1.img")), ("spare.img", MIB):
    write(drive, bytes(size))
root = f"root=UUID={uuid_of('origin0.img')} ro"
nobody = free_port()
port, origin = start_origin()
moves = moves_from(port, "/system") + " xnbd.disk=data,cache=/dev/vdc"
files, times = {}, []

m, booted = boot(INITRD, root, moves, "xnbd.disk=gone,cache=SERIAL=gone", f"xnbd.disk=lost,cache=/dev/vdd,origin={HOST}:{nobody}", drives=DRIVES)
check_system(m, "/dev/nbd0", "/dev/nbd1p1")
expect_on_console("xnbd: gone: cache=SERIAL=gone is not there. The system boots without this disk",
                  "xnbd: lost: its server does not start, or has no origin. The system boots without this disk")
known = names(m)
if "vdb" in known or "vdc" in known or "nbd1p1: " not in known:
    sys.exit(f"the system knows:\n{known}")
expect("files", m.run("cd /data; sha256sum file*; cd /"), subprocess.run("cd files && sha256sum file*", shell=True, capture_output=True, text=True).stdout)
create(m, "first")
cached = int(query(m, "data/", "cached"))
origin.kill()
origin.wait()
m.run("echo 3 >/proc/sys/vm/drop_caches")
shut_down(m, booted)
for image in "disk.img", "data.img":
    if subprocess.run(["blkid", "-p", image], stdout=subprocess.PIPE).stdout:
        sys.exit(f"{image}: the half-copied disk is not covered")

port, origin = start_origin(port)
m, booted = boot(INITRD, root, moves + f",origin={HOST}:{nobody}/data", drives=DRIVES)
check_system(m, "/dev/nbd0", "/dev/nbd1p1")
expect("origin of the data", query(m, "data/", "origin_state") == "up", False)
if int(query(m, "data/", "cached")) < cached:
    sys.exit("the second boot begins anew")
m.run("cmp /data/first /root/first")
create(m, "second")
m.run(f"xnbd-bgctl --reconnect /run/xnbd/data/ctl {HOST} {port}")
m.run("for c in /run/xnbd/ctl /run/xnbd/data/ctl; do xnbd-bgctl --cache-all2 $c; done; sh /root/xnbd-migrate watch -i 2 && sh /root/xnbd-migrate finish -s")
expect("modes", query(m, "", "mode") + query(m, "data/", "mode"), "targettarget")
origin.kill()
origin.wait()
create(m, "third")
shut_down(m, booted)
expect_quiet()
check_disks()

for words in "", moves:
    m, booted = boot(INITRD, root, words, drives=DRIVES)
    check_system(m, "/dev/vdb", "/dev/vdc1")
    expect("servers", m.run("pidof @nbd-server xnbd-server || true"), "")
    create(m, f"local{len(times)}")
    shut_down(m, booted)
    expect_quiet()
    check_disks()
expect_on_console("xnbd: data is /dev/vdc")
print("boots and shutdowns took " + ", ".join(f"{a:.0f} and {b:.0f} s" for a, b in times))
print("ok")
