# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# device_owner.py [NAME...]: whose a device is: that somebody has it open without a claim, that another server or
# client has it by now, that the origin is away when its partitions are looked for. Each part has a device of its own.
import signal
import sys
from machine import HOST, XNBDBOX, Machine, connect, free_port, make_ext4, serve_origin, spawn

PARTS = {}


def part(run):
    PARTS[run.__name__] = run


class Device:
    """A device of the kernel, an image on a file system, and a target that connects them, if it is asked to."""

    def __init__(self, number, name):
        self.path, self.name = f"/dev/nbd{number}", name
        self.gone = f"[ $(cat /sys/block/nbd{number}/size) = 0 ]"
        m.run(f"truncate -s 20M /b/{name}.img")

    def server(self, *more, mode="--target", arguments=None):
        arguments = arguments or f"/b/{self.name}.img"
        return (f"xnbd-server {mode} --daemonize --lport 0 --device {self.path} --pidfile /run/{self.name}.pid "
                f"--logpath /run/{self.name}.log {' '.join(more)} {arguments}")

    def ends(self, seconds=300):
        return f"kill $(cat /run/{self.name}.pid) && until_true {seconds} sh -c '! [ -e /run/{self.name}.pid ]'"

    def killed(self):
        return f"pid=$(cat /run/{self.name}.pid); kill -9 $pid && until_true 300 sh -c \"! [ -e /proc/$pid ]\""

    def refused(self, *more):
        refused("in use", self.server(*more))


def refused(why, command):
    said = m.run(f"{command} && echo started || true")
    if why not in said:
        sys.exit(f"not refused: {command}: {said}")


def origin(port):
    p = spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--laddr", "127.0.0.1", "--lport", str(port), "origin.img")
    connect(port).shutdown()
    return p


@part
def somebody_looks(d):
    """As udev does, when the module is loaded, and when a device has come."""
    m.run(f"(sleep 1 <{d.path} &) && sleep 0.3 && {d.server()}")
    m.run(f"(sleep 1 <{d.path} &) && sleep 0.3 && {d.ends()} && {d.gone}")


@part
def open_without_a_claim(d):
    """As QEMU has it."""
    m.run(f"{d.server()} && exec 4<>{d.path} && {d.ends()} && ! {d.gone} && grep 'in use and is kept' /run/{d.name}.log")
    m.run("{ dd bs=4k count=1 conv=fsync if=/dev/zero >&4 2>/run/dd; echo $? >/run/dd; } & sleep 0.3; "
          f"{d.server()} && until_true 300 grep '^0$' /run/dd")
    m.run(f"exec 4>&-; {d.ends()} && {d.gone}")


@part
def open_without_an_image(d):
    """What was written is gone with the server: nobody can take the device over."""
    m.run(f"TMPDIR=/b {d.server(mode='--cow-target')} && exec 4<{d.path} && {d.ends()} && ! {d.gone} && grep 'is kept: disconnect it' /run/{d.name}.log")
    d.refused()
    m.run(f"exec 4<&-; {d.gone}")  # the kernel has removed it


@part
def other_options(d):
    """They would be another disk for who uses the device."""
    m.run(f"{d.server()} && mkfs.ext4 -q -F {d.path} && mkdir /{d.name} && mount -t ext4 {d.path} /{d.name} && {d.killed()}")
    d.refused("--readonly")
    d.refused("--connections 4")
    d.refused("--readonly --connections 4")
    m.run(f"cp /b/{d.name}.img /b/copy.img && i=$(stat -c %i /b/{d.name}.img) && rm /b/{d.name}.img && "
          f"cp /b/copy.img /b/{d.name}.img && [ $(stat -c %i /b/{d.name}.img) = $i ]")
    d.refused()  # the same name, number and size, but another file
    m.run(f"nbd-client -d {d.path}")


@part
def somebody_else_has_it(d):
    m.run(f"{d.server()} && kill -STOP $(cat /run/{d.name}.pid) && nbd-client -d {d.path}")
    m.run(f"nbd-client -N '' {HOST} {serve_origin('origin.img')} {d.path} && kill -CONT $(cat /run/{d.name}.pid) && sleep 1 && "
          f"{d.ends()} && ! {d.gone} && cmp -n 4096 {d.path} {d.path}")


@part
def disconnected_while_open(d):
    """It is not connected again, and whoever has it open is told."""
    m.run(f"{d.server()} && exec 4<{d.path}; dmesg -c >/dev/null")
    said = m.run(f"! xnbd-client -d {d.path}")
    if "is disconnected, but still open" not in said:
        sys.exit(f"--disconnect of an open device: {said}")
    m.run(f"until_true 300 grep 'has been disconnected' /run/{d.name}.log")
    if "cannot reconfigure" in m.run("dmesg"):
        sys.exit("the server has tried to connect it again")
    m.run(f"exec 4<&-; {d.gone} && {d.ends()}")


@part
def disconnected_while_not_read(d):
    """The same; the server has as many requests as it may, which wait for an origin that is silent, and the DISC is behind others."""
    port = free_port()
    far = origin(port)
    files = f"{HOST} {port} /b/{d.name}.img /b/{d.name}.bm /run/{d.name}.sock"
    m.run(f"rm /b/{d.name}.img; {d.server('--max-queue-size 4', mode='--proxy', arguments=files)} && exec 4<{d.path}; dmesg -c >/dev/null")
    far.send_signal(signal.SIGSTOP)
    m.run(f"for i in $(seq 32); do dd if={d.path} of=/dev/null bs=4k count=1 skip=$((i * 64)) iflag=direct 2>/dev/null & done; "
          f"until_true 300 sh -c '[ $(xnbd-bgctl --query /run/{d.name}.sock | sed -n \"s/^waiting //p\") = 4 ]'; sleep 1; xnbd-client -d {d.path}; true")
    m.run(f"until_true 300 grep 'has been disconnected' /run/{d.name}.log")
    if "cannot reconfigure" in m.run("dmesg"):
        sys.exit("the server has tried to connect it again")
    m.run(f"exec 4<&-; wait; {d.gone} && {d.ends()}")
    far.kill()
    far.wait()


@part
def one_of_two(d):
    """A wrapper that cannot have one of its devices leaves none behind."""
    m.run(f"{d.server()} && truncate -s 20M /b/other.img")
    said = m.run(f"xnbd-wrapper --lport 0 --imgfile /b/other.img --device /b/other.img=/dev/nbd14 --imgfile /b/{d.name}.img "
                 f"--device /b/{d.name}.img={d.path} || true")
    if said.count("\n") != 1 or "in use by process" not in said:
        sys.exit(said)
    m.run(f"[ $(cat /sys/block/nbd14/size) = 0 ] && ! {d.gone} && {d.ends()}")


@part
def no_client(d):
    m.run(d.server("--max-clients 1").replace("--lport 0", "--lport 8521"))
    connect(m.port).pread(512, 0)
    m.run(f"{d.ends()} && {d.gone}")


@part
def origin_away(d):
    """And the table of partitions is there: neither the server nor its end may wait for it."""
    port = free_port()
    far = origin(port)
    files = f"{HOST} {port} /dev/vda /b/cache.bm /run/ctl.sock"
    m.run(f"xnbd-server --proxy --daemonize --lport 0 --unix /run/u --pidfile /run/{d.name}.pid {files} && {d.ends()}")
    far.kill()
    far.wait()
    server = d.server(mode="--proxy", arguments=files)
    m.run(f"({server} &) ; until_true 300 sh -c '! {d.gone}' && {d.ends()} && {d.gone}")
    m.run(f"{server} && {d.ends()} && {d.gone}")
    m.run(f"{server} && ! {d.gone} && {d.killed()}")
    refused("would lose its disk", f"{server} --clear-bitmap")
    m.run(server)
    far = origin(port)
    m.run(f"until_true 300 cmp -n 4096 {d.path} {d.path} && {d.ends()} && {d.gone}")
    far.kill()
    far.wait()


with open("state.img", "wb") as f:
    f.write(make_ext4("fs.img", 256 << 20))
with open("origin.img", "wb") as f:
    f.write(make_ext4("fs.img", 16 << 20))
with open("cache.img", "wb") as f:
    f.truncate(16 << 20)
m = Machine("cache.img", "state.img", append="loglevel=7")
m.run("mount -t ext4 /dev/vdb /b")
failed = 0
for number, (name, run) in enumerate(PARTS.items()):
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    try:
        run(Device(number, name))
    except SystemExit as e:
        print(f"{name}: {e}")
        failed += 1
m.kill()
if not failed:
    print("ok")
