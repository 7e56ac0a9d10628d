# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# What is on the disk of whole_disk.py: GPT, with a partition for a boot loader, the root file system and swap space, and what
# is between the table and these two. A layout has
#   root        what the kernel's command line has, too
#   swap        as fstab names it
#   files       of the system, but for fstab
#   kinds       of the partitions behind the first one
#   make(r, s)  their contents, from those of the file systems
#   find(disk)  the root file system in a disk's bytes
#   source(d)   what / and the swap space are on, if the partitions are on device d
#   below(d)    the partitions that are under others devices there
import os, subprocess
import gpt, lvm

MIB = 1 << 20
FIRST = 3 * MIB  # where partition 2 begins
LUKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "userland/luks")
LUKS_UUID = "c0b7d3f4-51a6-4c63-8d0e-1e0f6a2b9c55"  # as in crypttab
SWAP_UUID = "9a1d6f0e-3c55-4b0f-8a59-0d5f2f3c7e11"


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, content):
    with open(path, "wb") as f:
        f.write(content)


def uuid_of(path):
    return subprocess.run(["blkid", "-p", "-o", "value", "-s", "UUID", path], check=True, capture_output=True, text=True).stdout.strip()


class Partitions:
    """The root file system is a partition, and the swap space is another."""
    kinds = gpt.LINUX, gpt.SWAP
    swap, files = f"UUID={SWAP_UUID}", {}

    def __init__(self, image):
        self.size = len(read(image))
        self.root = f"UUID={uuid_of(image)}"

    def make(self, root, swap):
        return root, swap

    def find(self, disk):
        return disk[FIRST:FIRST + self.size]

    def source(self, device):
        return device.part(2), device.part(3)

    def below(self, _):
        return []


class Volumes(Partitions):
    """Both are logical volumes of LVM, in partition 2."""
    kinds = (gpt.LVM,)
    root, swap = "/dev/mapper/vg-root", "/dev/mapper/vg-swap"

    def __init__(self, image):
        self.size = len(read(image))

    def make(self, root, swap):
        return (lvm.make_volume("vg", root=root, swap=swap),)

    def find(self, disk):
        return disk[FIRST + lvm.EXTENT:][:self.size]

    def source(self, _):
        return self.root, self.swap

    def below(self, device):
        return [device.part(2)] * 2


def qemu_img(*words):
    subprocess.run(["qemu-img", words[0], "-q", "--object", f"secret,id=key,file={LUKS}/root.key", *words[1:]], check=True)


class Encrypted(Partitions):
    """The root file system is in LUKS, in partition 2; the key is a file of it and of the initramfs (build_glue.sh)."""
    root = "/dev/mapper/root"
    files = {"/etc/crypttab": read(LUKS + "/crypttab"), "/etc/keys/root.key": read(LUKS + "/root.key")}

    def __init__(self, image):
        pass

    def make(self, root, swap):
        write("plain.img", root)
        qemu_img("convert", "-f", "raw", "-O", "luks", "-o", "key-secret=key,iter-time=10", "plain.img", "luks.img")
        luks = bytearray(read("luks.img").ljust(-(-os.path.getsize("luks.img") // MIB) * MIB, b"\0"))
        luks[168:208] = LUKS_UUID.encode().ljust(40, b"\0")
        self.size = len(luks)
        return bytes(luks), swap

    def find(self, disk):
        write("luks.img", disk[FIRST:FIRST + self.size])
        qemu_img("convert", "--image-opts", "driver=luks,key-secret=key,file.filename=luks.img", "-O", "raw", "plain.img")
        return read("plain.img")

    def source(self, device):
        return self.root, device.part(3)

    def below(self, device):
        return [device.part(2)]


LAYOUTS = {"gpt": Partitions, "lvm": Volumes, "luks": Encrypted}
