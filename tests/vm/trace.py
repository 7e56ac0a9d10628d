# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# trace.py SEED: two machines of the same image boot from the network, one after the other,
# over a link whose round trip takes 10 ms. The first records a boot trace, the second has it
# in its initramfs.
#
# The system of BusyBox is small: it reads less than 1 MiB when it boots. So there are many
# small files too, some tens of MiB, which its init reads one after the other, in an order that
# is not that of the disk, as the services of a real one do. What those compute is left out: an
# emulated processor would take many times as long for it as a real one.
import hashlib, os, random, re, shutil, subprocess, sys
from machine import BUILD, HOST, XNBDBOX, Machine, connect, free_port, make_ext4, spawn

rng = random.Random(int(sys.argv[1]))
MIB = 1 << 20
FILES, FILE_MAX = 2000, 30 << 10
ROOT, STATE = 64 * MIB, 24 * MIB
ROUND_TRIP_MS = 10
INITTAB = "::sysinit:/etc/start\n"
START = """#!/bin/sh
cat $(cat /etc/services) >/dev/null
"""
TRACE = "xnbd.trace"


def executable(path, text):
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o755)


def make_image():
    """The root file system of both machines. Returns its files, in the order of the start."""
    shutil.copytree(BUILD + "/boot/root", "root", symlinks=True)
    names = []
    for i in range(FILES):
        name = f"/srv/{i % 40}/{i}"
        os.makedirs("root" + os.path.dirname(name), exist_ok=True)
        with open("root" + name, "wb") as f:
            f.write(rng.randbytes(rng.randrange(100, FILE_MAX)))
        names.append(name)
    rng.shuffle(names)
    with open("root/etc/services", "w") as f:
        f.write("".join(name + "\n" for name in names))
    executable("root/etc/start", START)
    with open("root/etc/inittab", "r+") as f:
        rest = f.read()
        f.seek(0)
        f.write(INITTAB + rest)
    with open("origin.img", "wb") as f:
        f.write(make_ext4("fs.img", ROOT, "-d", "root"))
    return names


def serve():
    """The origin, behind the link. Returns its port."""
    port = free_port()
    spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--lport", "0", "--unix", "origin.sock", "origin.img")
    subprocess.run(["gcc", "-O2", "-o", "relay", os.path.dirname(os.path.abspath(__file__)) + "/../bench/relay.c"], check=True)
    spawn("./relay", "link.sock", "origin.sock", str(ROUND_TRIP_MS * 500))
    spawn("socat", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay", "UNIX-CONNECT:link.sock")
    connect(port).shutdown()
    return port


def initrd_with_trace(text):
    """An initramfs may be followed by another archive."""
    with open(TRACE, "w") as f:
        f.write(text)
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=TRACE.encode(), stdout=subprocess.PIPE, check=True)
    with open(BUILD + "/boot/initrd", "rb") as f:
        base = f.read()
    with open("initrd", "wb") as f:
        f.write(base + archive.stdout)
    return os.path.abspath("initrd")


class Boot:
    """An empty machine, until it is ready, and what that took: since the kernel began, and
    since there was a root file system."""

    def __init__(self, port, initrd):
        with open("state.img", "wb") as f:
            f.write(make_ext4("fs.img", STATE))
        with open("disk.img", "wb") as f:
            f.truncate(ROOT)
        self.machine = Machine(
            "state.img", "disk.img", initrd=initrd,
            line=("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=line"),
            append=f"loglevel=7 xnbd.origin={HOST}:{port} xnbd.cache=/dev/vdb xnbd.bitmap=/dev/vda"
            f" xnbd.trace=/{TRACE} xnbd.ip=10.0.2.15/24,eth0")
        self.seconds = float(self.machine.run("cat /proc/uptime").split()[0])
        with open("console.log", errors="replace") as f:
            self.root_seconds = self.seconds - float(re.search(r"\[ *([0-9.]*)\] xnbd: root is /dev/nbd0", f.read())[1])
        self.waited = int(self.machine.run("query waited"))
        self.fetched = int(self.machine.run("query cached"))

    def read_trace(self):
        """It is written every 5 seconds."""
        return self.machine.run("sleep 12; cat /run/xnbd/trace")

    def check(self, names):
        """What the machine reads is what the image has."""
        said = self.machine.run("echo 3 >/proc/sys/vm/drop_caches; sha256sum $(cat /etc/services)")
        found = dict(reversed(line.split()) for line in said.splitlines())
        for name in names:
            with open("root" + name, "rb") as f:
                if found.get(name) != hashlib.sha256(f.read()).hexdigest():
                    sys.exit(f"{name}: the machine does not read what the image has: {found.get(name)}")


names = make_image()
port = serve()
first = Boot(port, BUILD + "/boot/initrd")
text = first.read_trace()
first.machine.kill()
second = Boot(port, initrd_with_trace(text))
second.check(names)
second.machine.kill()
for name, boot in ("without a trace", first), (f"with {len(text)} bytes of trace", second):
    print(f"{name}: {boot.waited} requests waited for the origin, {boot.fetched} blocks came from it,"
          f" {boot.seconds:.1f} s to the prompt, {boot.root_seconds:.1f} s of it with a root file system")
print(f"{100 * second.seconds / first.seconds:.0f} % of the time")
if first.waited < FILES // 5:
    sys.exit("too few for a comparison")
print("at least 80 % fewer" if second.waited * 5 <= first.waited else "not 80 % fewer")
