# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Where the files of a proxy are that is killed, and whose power is cut.
import atexit, fcntl, os, struct, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Disks:
    """An ext4 on a loop device holds the proxy's files. When the power is cut, it takes
    nothing more (EXT4_IOC_SHUTDOWN, without a last flush of its journal), and what it
    has not written is lost. A cache image that is a device stands on it too."""

    image, bitmap = "fs/cache.img", "fs/cache.bm"

    def __init__(self, kind, size):
        self.kind = kind
        self.mounted, self.outer, self.inner = False, None, None
        atexit.register(self.remove)
        run("truncate", "-s", "128M", "disk.ext4")
        run("mkfs.ext4", "-q", "disk.ext4")
        self.outer = run("losetup", "--find", "--show", "disk.ext4")
        os.mkdir("fs")
        self.attach()
        if self.kind == "device":
            run("truncate", "-s", str(size), "fs/device.img")
            self.attach_device()

    def attach(self):
        run("mount", self.outer, "fs")
        self.mounted = True

    def attach_device(self):
        self.inner = self.image = run("losetup", "--find", "--show", "fs/device.img")

    def detach(self):
        if self.inner:
            run("losetup", "--detach", self.inner)
        self.inner = None
        if self.mounted:
            run("umount", "fs")
        self.mounted = False

    def cut_power(self):
        fs = os.open("fs", os.O_RDONLY)
        fcntl.ioctl(fs, 0x8004587D, struct.pack("I", 2))
        os.close(fs)
        self.detach()
        self.attach()
        if self.kind == "device":
            self.attach_device()
        if os.path.exists(self.bitmap + ".commit"):
            run(sys.executable, HERE + "/boot.py", self.bitmap + ".commit")

    def remove(self):
        self.detach()
        if self.outer:
            run("losetup", "--detach", self.outer)
