# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# deaths.py SEED 6.1|6.12 nbd|ublk CONNECTIONS DEATHS [KIND]: a file system on a proxy's own device, used by fsload and by
# fio, which verifies all that it has written. The proxy dies DEATHS times, by each of the kinds below in turn, or by this one, and a
# loop starts it again, and it gets another program in between (--upgrade). Then the disk moves, the server ends
# in an orderly way, and the image is looked at from the host. The longest pause is told.
import random, sys, time
from machine import BUILD, HOST, Machine, expect_quiet, kernel, make_ext4, serve_origin
from model import expect_clean

SIZE = 64 << 20
KINDS = {
    # what to do with the process $old, and what the loop sees of it
    "kill -9": ("kill -9 $old", "137"),
    "a failed assertion": ("kill -ABRT $old", "134"),
    "out of memory": ("echo 1000 >/proc/$old/oom_score_adj && echo f >/proc/sysrq-trigger", "137"),
}
rng = random.Random(int(sys.argv[1]))
kinds = sys.argv[6:] or list(KINDS)
release, kind, connections, deaths = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
device = "/dev/ublkb0" if kind == "ublk" else "/dev/nbd0"
server = f"xnbd-server --proxy --lport 8521 --device {device} --connections {connections} {HOST} %d /dev/vda /b/cache.bm /run/ctl.sock"


def make_disks():
    with open("origin.img", "wb") as f:
        f.write(make_ext4("fs.img", SIZE, "-b", "4096"))
    with open("cache.img", "wb") as f:
        f.truncate(SIZE)
    make_ext4("state.img", 16 << 20)
    return serve_origin("origin.img")


def begin(port):
    m.run("mkdir -p /c /mnt && mount -t ext4 /dev/vdb /b && mount -o ro -t ext4 /dev/vdc /mnt")
    m.run("pid() { xnbd-bgctl --query /run/ctl.sock 2>/dev/null | sed -n 's/^pid //p'; }; other() { new=$(pid); [ \"$new\" ] && [ \"$new\" != \"$old\" ]; }")
    m.tell(f"touch /run/again; (while [ -e /run/again ]; do {server % port}; echo ended $?; done >/run/log 2>&1 &)")
    m.until("exit")
    m.run(f"old=; there() {{ other && [ -b {device} ] && [ $(blockdev --getsize64 {device}) = {SIZE} ]; }}; until_true 300 there && mount -t ext4 {device} /c")
    m.run("mkdir /c/load && (fsload /c/load 1 >/run/fsload 2>&1 & echo $! >/run/pid)")
    # Each round other bytes at the same places: what was there before is wrong, too.
    m.run("(while [ ! -e /run/enough ]; do n=$((${n:-0} + 1)); /mnt/fio --name=v --thread --directory=/c --size=2m --bs=4k --rw=randwrite "
          "--direct=1 --ioengine=libaio --iodepth=8 --fsync=16 --verify=crc32c --verify_fatal=1 --randseed=$n --verify_state_save=0 "
          "--output=/run/fio; echo round $n: $? >>/run/rounds; done; echo >/run/verified) &")
    # A small write and its sync, over and over: how long each took, at most, in hundredths of a second.
    m.run("(while [ ! -e /run/enough ]; do read -r a _ </proc/uptime; dd if=/dev/zero of=/c/x bs=1k count=1 conv=fsync 2>/dev/null; "
          "read -r b _ </proc/uptime; a=${a%.*}${a#*.} b=${b%.*}${b#*.}; [ $((b - a)) -le ${most:=0} ] || most=$((b - a)); echo $most >/run/most; done) &")
    m.run("cp /bin/xnbdbox /run/other; until_true 300 [ -s /c/v.0.0 ]")


def pause():
    """Half of the times until the device is written to again: the kernel sends again what was lost with a connection
    after 5 s, with several connections after 30 s."""
    if rng.random() < 0.5:
        m.run(f"goes_on() {{ [ $(awk '{{print $7}}' /sys/block/{device[5:]}/stat) != $at ]; }}; at=$(awk '{{print $7}}' /sys/block/{device[5:]}/stat); until_true 300 goes_on")
    time.sleep(rng.uniform(0.3, 2))


def die(name):
    pause()
    m.run(f"old=$(pid); {KINDS[name][0]}; until_true 300 other")
    if name == "out of memory":
        m.run("dmesg | grep \"Out of memory: Killed process $old \"")


def upgrade():
    """It is refused for a moment where the device has just been taken over."""
    pause()
    m.run("old=$(pid); until_true 300 xnbd-bgctl --upgrade /run/other /run/ctl.sock && [ $(pid) = $old ] && readlink /proc/$old/exe | grep memfd")


def expect_right():
    """What the programs that used the device say, and what the loop says of the server."""
    m.run("touch /run/enough; kill $(cat /run/pid) 2>/dev/null; until_true 300 sh -c '! [ -e /proc/$(cat /run/pid) ]'")
    m.run("until_true 300 [ -e /run/verified ]; until_true 300 sh -c '! pidof dd'")
    said = m.run("cat /run/fsload")
    if " is wrong" in said or "right after" not in said:
        sys.exit(f"the file system's user: {said}")
    said = m.run("cat /run/rounds").splitlines()
    if not said or {line.split()[2] for line in said} != {"0"}:
        sys.exit(f"fio: {said}\n" + m.run("tail -30 /run/fio"))
    ended = [line.split()[1] for line in m.run("cat /run/log").splitlines() if line.startswith("ended ")]
    if ended != [KINDS[name][1] for name in died]:
        sys.exit(f"the server ended by {ended}; it should have by {died}:\n" + m.run("tail -50 /run/log"))
    with open("pause", "w") as f:
        f.write(f"{release} {kind} {connections}: {died_by}, fio's rounds: {len(said)}, longest pause: {int(m.run('cat /run/most')) / 100} s\n")


def move():
    m.run(f"umount /c && mount -t ext4 {device} /c && umount /c")
    m.run("xnbd-bgctl --cache-all /run/ctl.sock && xnbd-bgctl --switch /run/ctl.sock && rm /run/again")
    m.run(f"kill $(pid); until_true 300 umount /b; sync; gone() {{ ! [ -e {device} ] || [ $(blockdev --getsize64 {device}) = 0 ]; }}; until_true 300 gone")


port = make_disks()
m = Machine("cache.img", "state.img", f"{BUILD}/fio.img,readonly=on", append="loglevel=7", memory=320, **kernel(release))
begin(port)
died = [kinds[i % len(kinds)] for i in range(deaths)]
died_by = ", ".join(f"{died.count(name)} by {name}" for name in kinds)
for name in died:
    upgrade()
    die(name)
time.sleep(1)
expect_right()
move()
m.kill()
with open("cache.img", "rb") as f:
    expect_clean("the disk", f.read())
expect_quiet()
print("ok")
