# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A whole disk (layouts.py) of a Debian with systemd (debian.py), which moves, and what has to be true of it in the machine
# and outside. The origin's is origin.img, the machine's /dev/vdb.
import hashlib, os, random, shutil, subprocess, sys
import gpt
from debian import names
from layouts import FIRST, LAYOUTS, MIB, SWAP_UUID, read, uuid_of, write
from machine import BUILD
from model import BLOCK, expect_clean, read_files

SWAP_BYTES = 32 * MIB
PARTS = ("7b6f0b6e-0001-4000-8000-5a3d1c2b0a91", "7b6f0b6e-0002-4000-8000-5a3d1c2b0a92", "7b6f0b6e-0003-4000-8000-5a3d1c2b0a93")


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found}\nexpected: {expected}")


def make_package():
    """Of Debian, with some files."""
    os.makedirs("package/DEBIAN")
    os.makedirs("package/usr/share/moved")
    write("package/DEBIAN/control", b"Package: moved\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: of a test\n")
    for n in range(20):
        write(f"package/usr/share/moved/{n}", random.Random(n).randbytes(50000))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", "package", "moved.deb"], check=True, stdout=subprocess.DEVNULL)
    return read("moved.deb")


def swap_space():
    write("swap.img", bytes(SWAP_BYTES))
    subprocess.run(["mkswap", "-q", "-U", SWAP_UUID, "swap.img"], check=True)
    return read("swap.img")


def tree(file_system):
    """All files: what of it changes when one is written, and its content."""
    write("part.img", file_system)
    shutil.rmtree("tree", ignore_errors=True)
    os.mkdir("tree")
    subprocess.run(["debugfs", "-R", "rdump / tree", "part.img"], check=True, capture_output=True)
    paths = [os.path.join(d, f) for d, _, found in os.walk("tree") for f in found]
    return {p[4:]: (os.stat(p).st_mtime, hashlib.sha256(read(p)).digest()) for p in paths if os.path.isfile(p) and not os.path.islink(p)}


class Device:
    def __init__(self, name, infix=""):
        self.name, self.infix = name, infix

    def part(self, n):
        return f"/dev/{self.name}{self.infix}{n}"


SERVED, LOCAL = Device("nbd0", "p"), Device("vdb")


class DebianDisk:
    """tune: how tune2fs changes the root file system. more: other files of it, by their paths."""

    def __init__(self, initrd, layout, tune=(), more=None):
        self.initrd, self.layout = initrd, LAYOUTS[layout](BUILD + "/systemd.img")
        contents, at = self.layout.make(self.root_file_system(tune, more or {}), swap_space()), FIRST
        parts = [(gpt.BIOS_BOOT, PARTS[0], MIB, random.Random(1).randbytes(MIB))]
        for kind, own, content in zip(self.layout.kinds, PARTS[1:], contents):
            parts.append((kind, own, at, content))
            at += len(content)
        self.size, self.parts, self.root_uuid = at + MIB, len(parts), uuid_of("root.img")
        write("origin.img", gpt.make_disk(self.size, *parts))

    def is_of_dracut(self):
        return self.initrd.startswith("dracut")

    def root_file_system(self, tune, more):
        """That of build_glue.sh, with an fstab; and with what dracut unpacks at a shutdown."""
        write("root.img", read(BUILD + "/systemd.img"))
        if tune:
            subprocess.run(["tune2fs", *tune, "root.img"], check=True, stdout=subprocess.DEVNULL)
        fstab = f"{self.layout.root} / ext4 errors=remount-ro 0 1\n{self.layout.swap} none swap sw 0 0\n"
        files = {**self.layout.files, "/root/moved.deb": make_package(), "/etc/fstab": fstab.encode(), **more}
        if self.is_of_dracut():
            kernel, = os.listdir(BUILD + "/debian/lib/modules")
            files[f"/boot/initrd.img-{kernel}"] = read(BUILD + "/" + self.initrd.replace(".", "-shutdown."))
        for n, (path, content) in enumerate(files.items()):
            write(f"file{n}", content)
            os.chmod(f"file{n}", 0o755 if "/bin/" in path else 0o644)
        subprocess.run(["debugfs", "-w", "-f", "-", "root.img"], check=True, capture_output=True, text=True,
                       input="mkdir /boot\nmkdir /etc/keys\n" + "".join(f"rm {path}\nwrite file{n} {path}\n" for n, path in enumerate(files)))
        return read("root.img")

    def check_system(self, m, device):
        """It is up, on these partitions of this device, and nothing has failed."""
        root, swap = self.layout.source(device)
        expect("root", m.run("findmnt -n -o SOURCE /").strip(), root)
        expect("swap", m.run("sed '1d; s/[^a-z0-9/-].*//' /proc/swaps"), m.run(f"readlink -f {swap}"))
        expect("units that have failed", m.run("systemctl --failed --no-legend --plain"), "")
        expect("multi-user.target", m.run("systemctl is-active multi-user.target"), "active\n")
        links = m.run(f"readlink -f /dev/disk/by-uuid/{self.root_uuid} /dev/disk/by-uuid/{SWAP_UUID} "
                      + " ".join(f"/dev/disk/by-partuuid/{p}" for p in PARTS[:self.parts])).split()
        expect("links", links, m.run(f"readlink -f {root} {swap}").split() + [device.part(n + 1) for n in range(self.parts)])
        below = m.run("cd /sys/class/block; for d in dm-*/slaves/*; do [ ! -e $d ] || echo /dev/${d##*/}; done; cd /").split()
        expect("partitions below others", below, self.layout.below(device))

    def check(self, files):
        """disk.img as a whole, after the switch: a valid table, the loader's partition, the ends, a clean file system; what the
        machine has written, and what it has not. Returns how much that is: files, and blocks that differ from the origin's."""
        disk, origin = read("disk.img")[:self.size], read("origin.img")
        gpt.expect_valid(disk)
        if disk[:FIRST] != origin[:FIRST] or disk[-MIB:] != origin[-MIB:]:
            sys.exit("what is around the file systems has changed")
        root = self.layout.find(disk)
        expect_clean("the root file system", root)
        expect("files", dict(zip(files, read_files(root, *files))), files)
        before, after = tree(self.layout.find(origin)), tree(root)
        wrong = [p for p in before if p in after and before[p][0] == after[p][0] and before[p][1] != after[p][1]]
        expect("files that nobody wrote and that have changed", wrong, [])
        same = sum(after.get(p) == before[p] for p in before)
        if same < len(before) - 20:
            sys.exit(f"only {same} of {len(before)} files are as they were")
        return same, len(before), sum(disk[i:i + BLOCK] != origin[i:i + BLOCK] for i in range(0, self.size, BLOCK))


def expect_hidden(m):
    """Nobody knows the half-copied disk, or has it open, but the server."""
    known = names(m)
    if "vdb" in known or "nbd0p2: " not in known:
        sys.exit(f"the system knows:\n{known}")
    expect("physical volumes", [d for d in m.run("pvs --noheadings -o pv_name").split() if d.startswith("/dev/vd")], [])
    expect("partitions of the cache", m.run("ls -d /sys/class/block/vdb?* 2>/dev/null || true"), "")
    pid = m.run("query pid").strip()
    users = m.run("find /proc/[0-9]*/fd -lname '/dev/vd*' 2>/dev/null || true").split()
    expect("who holds the cache", m.run("ls /sys/class/block/vdb/holders"), "")
    expect("others that have /dev/vd* open", [u for u in users if u.split("/")[2] != pid], [])
    if not users:
        sys.exit("not even the server has /dev/vd* open")
    expect("mounts", m.run("grep /dev/vd /proc/mounts || true"), "")
    expect("the limit of a shutdown", m.run("systemctl is-active xnbd-shutdown; query hold"), "active\n0\n")


def expect_no_server(m):
    expect("servers", m.run("pidof @nbd-server xnbd-server || true; ls /sys/class/block | grep nbd0p || true"), "")
