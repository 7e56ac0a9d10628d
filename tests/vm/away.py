# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# away.py SEED AWAY HOLD: the origin is away for AWAY seconds, while programs read missing blocks of proxies' own
# devices: by NBD with one and with four connections, and by ublk; of each there is one without --hold, whose server
# is killed meanwhile, too, and one with --hold HOLD. All have a file system that is local, and in use all the time:
# it goes on, until as many requests wait as a device may have.
import hashlib, random, sys, time
from machine import HOST, XNBDBOX, Machine, connect, expect_quiet, format_ext4, free_port, kernel, make_ext4, spawn

rng = random.Random(int(sys.argv[1]))
AWAY, HOLD = int(sys.argv[2]), int(sys.argv[3])
BLOCK = 4096
LOCAL = 16 << 20
TAIL = 36 << 20  # behind the file system, read at once: more requests of 256 KiB than a ublk device may have, 128
FAR = 30 << 20  # in it: no read-ahead has been there
PART = 8 << 20
ONE = f"bs={BLOCK} skip={(LOCAL + FAR) // BLOCK} count=1 iflag=direct"
PID = "$(xnbd-bgctl --query /run/%s.ctl | sed -n 's/^pid //p')"
port = free_port()


class Device:
    def __init__(self, name, connections=1, hold=0):
        self.much = slice(TAIL) if "ublk" in name else slice(PART, 2 * PART)
        self.name, self.hold, self.path, self.pid = name, hold, f"/dev/{name}", PID % name
        self.server = (f"xnbd-server --proxy --lport 0 --device {self.path} --connections {connections} --hold {hold} "
                       f"{HOST} {port} /b/{name}.img /b/{name}.bm /run/{name}.ctl")

    def start(self):
        n = self.name
        m.run(f"touch /run/{n}.again; (while [ -e /run/{n}.again ]; do {self.server}; done >/run/{n}.log 2>&1 &)")
        m.run(f"until_true 300 sh -c '[ $(blockdev --getsize64 {self.path}) = {LOCAL + TAIL} ]' && dd if={self.path} bs={LOCAL} count=1 2>/dev/null | wc -c")
        m.run(f"mkdir /{n} && mount -t ext4 {self.path} /{n} && blockdev --setra $((80 << 10)) {self.path}")
        m.run(f"(while [ -e /run/{n}.again ]; do dd if=/dev/zero of=/{n}/x bs=1k count=1 conv=fsync 2>/dev/null || echo failed; echo written; "
              f"sleep 0.5; done >/run/{n}.written &)")

    def read(self, name, what):
        """In the background, with these words for dd: /run/DEVICE.NAME is the result."""
        n = f"/run/{self.name}.{name}"
        m.run(f"(dd if={self.path} {what} >{n}.data 2>{n}.why; s=$?; "
              f"echo $s $(md5sum <{n}.data) >{n}.new; rm {n}.data; mv {n}.new {n}) &")

    def expect_waiting(self, how="-gt 0"):
        m.run(f"waits() {{ read -r reads _ </sys/block/{self.name}/inflight; [ $reads {how} ]; }}; until_true 300 waits")

    def expect_read(self, status, name, wanted=None, seconds=120):
        m.run(f"until_true {seconds} [ -e /run/{self.name}.{name} ]")
        said = m.run(f"cat /run/{self.name}.{name}").split()
        if said[0] != str(status) or (wanted and said[1] != hashlib.md5(wanted).hexdigest()):
            sys.exit(f"{self.name}: what was read: {said}")

    def kill(self):
        m.run(f"kill -9 {self.pid} && until_true 300 xnbd-bgctl --query /run/{self.name}.ctl")

    def expect_writes(self):
        """The file system goes on."""
        n = f"/run/{self.name}.written"
        m.run(f"before=$(wc -l <{n}); more() {{ [ $(wc -l <{n}) -gt $((before + 2)) ]; }}; until_true 300 more && ! grep failed {n}")

    def end(self):
        n = self.name
        m.run(f"rm /run/{n}.again; until_true 300 umount /{n} && kill {self.pid}; until_true 300 sh -c '! xnbd-bgctl --query /run/{n}.ctl'")


def start_origin():
    p = spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--laddr", "127.0.0.1", "--lport", str(port), "origin.img")
    connect(port).shutdown()
    return p


tail = rng.randbytes(TAIL)
with open("origin.img", "wb") as f:
    f.write(make_ext4("fs.img", LOCAL) + tail)
origin = start_origin()
format_ext4("state.img", 512 << 20)
m = Machine("state.img", append="loglevel=7", memory=768, **kernel("6.12"))
m.run("mount -t ext4 /dev/vda /b && echo 0 >/proc/sys/kernel/hung_task_timeout_secs")  # they do wait, long
patient = [Device("nbd0"), Device("nbd1", 4), Device("ublkb0")]
hurried = [Device("nbd2", 1, HOLD), Device("nbd3", 4, HOLD), Device("ublkb1", 1, HOLD)]
for d in patient + hurried:
    d.start()
# One block each: all else goes on.
origin.kill()
origin.wait()
began = time.monotonic()
for d in patient + hurried:
    d.read("block", ONE)
for d in patient:
    d.expect_waiting()
for d in hurried:
    d.expect_read(1, "block", seconds=HOLD + 60)
if time.monotonic() - began < HOLD:
    sys.exit(f"--hold {HOLD}: errors after {time.monotonic() - began:.1f} s")
for d in hurried:
    m.run(f"dd if={d.path} {ONE} 2>&1 >/dev/null | grep 'I/O error\\|Input/output'")
for d in patient + hurried:
    d.expect_writes()
# As many as there can be, and the server killed.
for d in patient:
    at, end, _ = d.much.indices(TAIL)
    d.read("much", f"bs={end - at} skip={LOCAL + at} count=1 iflag=skip_bytes,fullblock")
patient[2].expect_waiting("= 128")
for d in patient:
    d.kill()
for d in patient[:2]:
    d.expect_writes()
time.sleep(max(0, AWAY - (time.monotonic() - began)))
for d in patient:
    d.expect_waiting()
    m.run(f"[ ! -e /run/{d.name}.block ] && [ ! -e /run/{d.name}.much ]")
origin = start_origin()
for d in patient:
    d.expect_read(0, "block", tail[FAR:][:BLOCK])
    d.expect_read(0, "much", tail[d.much])
for d in hurried:
    m.run(f"until_true 300 dd if={d.path} of=/dev/null {ONE}")
    d.read("later", ONE)
    d.expect_read(0, "later", tail[FAR:][:BLOCK])
for d in patient + hurried:
    d.expect_writes()
    d.end()
m.kill()
expect_quiet(rf"I/O error.* dev (?:{'|'.join(d.name for d in hurried)}),")
print("ok")
