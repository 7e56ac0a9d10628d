# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# device.py SEED CONNECTIONS KILLS: a file system on /dev/nbd0, which is a proxy's own device,
# in use while the proxy is killed again and again, and started by a loop, and gets another program in between; then the disk moves,
# the server ends in an orderly way, and the image is looked at from the host. The longest pause is told.
import random, re, sys, time
from machine import HOST, Machine, make_ext4, serve_origin
from model import expect_clean

rng = random.Random(int(sys.argv[1]))
connections, kills = sys.argv[2], int(sys.argv[3])
SIZE = 64 << 20
SERVER = f"xnbd-server --proxy --lport 8521 --device /dev/nbd0 --connections {connections} {HOST} %d /dev/vda /b/cache.bm /run/ctl.sock"



def target(name):
    return f"xnbd-server --target --daemonize --lport 0 --device /dev/nbd1 --pidfile /run/{name}.pid --logpath /run/{name}.log /run/{name}.img"


def refused(why, command):
    said = m.run(f"{command} && echo started || true")
    if why not in said:
        sys.exit(f"not refused: {command}: {said}")


def trouble():
    with open("console.log", errors="replace") as f:
        return re.findall(r".*(?:I/O error|EXT4-fs error|[Rr]emounting).*", f.read())


with open("origin.img", "wb") as f:
    f.write(make_ext4("fs.img", SIZE, "-b", "4096"))
port = serve_origin("origin.img")
with open("cache.img", "wb") as f:
    f.truncate(SIZE)
with open("state.img", "wb") as f:
    f.write(make_ext4("fs.img", 16 << 20))
m = Machine("cache.img", "state.img", append="loglevel=7")
m.run("mkdir -p /c && mount -t ext4 /dev/vdb /b")
m.tell(f"touch /run/again; (while [ -e /run/again ]; do {SERVER % port}; done >/run/log 2>&1 &)")
m.until("exit")
m.run("until_true 60 sh -c 'xnbd-bgctl --query /run/ctl.sock && [ $(cat /sys/block/nbd0/size) != 0 ]' && mount -t ext4 /dev/nbd0 /c")
m.run("fsload /c 1 >/run/fsload 2>&1 & echo $! >/run/pid")
# A small write and its sync, over and over: how long each took, at most, in hundredths of a second.
m.run("(while [ ! -e /run/enough ]; do read -r a _ </proc/uptime; dd if=/dev/zero of=/c/x bs=1k count=1 conv=fsync 2>/dev/null; "
      "read -r b _ </proc/uptime; a=${a%.*}${a#*.} b=${b%.*}${b#*.}; [ $((b - a)) -le ${most:=0} ] || most=$((b - a)); echo $most >/run/most; done) &")
m.run("cp /bin/xnbdbox /run/other")
for i in range(kills):
    time.sleep(rng.uniform(0.5, 2))
    m.run("xnbd-bgctl --upgrade /run/other /run/ctl.sock && readlink /proc/$(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p')/exe | grep memfd")
    time.sleep(rng.uniform(0.5, 2))
    m.run("kill -9 $(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p') && until_true 60 xnbd-bgctl --query /run/ctl.sock")
time.sleep(1)
m.run("touch /run/enough; kill $(cat /run/pid) && until_true 60 sh -c '! [ -e /proc/$(cat /run/pid) ]'")
said = m.run("cat /run/fsload")
if " is wrong" in said or "right after" not in said:
    sys.exit(f"the file system's user: {said}")
with open("pause", "w") as f:
    f.write(f"longest pause: {int(m.run('cat /run/most')) / 100} s\n")
m.run("umount /c && mount -t ext4 /dev/nbd0 /c && umount /c")
m.run("xnbd-bgctl --cache-all /run/ctl.sock && xnbd-bgctl --switch /run/ctl.sock && rm /run/again")
m.run("kill $(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p'); until_true 60 umount /b; sync; [ $(cat /sys/block/nbd0/size) = 0 ]")

# Who may have a device, and what becomes of it.
m.run("truncate -s 20M /run/a.img; truncate -s 20M /run/b.img; truncate -s 20000001 /run/c.img")
m.run(target("a"))
m.run("mkfs.ext4 -q -F /dev/nbd1 && mount -t ext4 /dev/nbd1 /c && echo kept >/c/file && sync")
refused("in use, by process", target("b"))
m.run("kill -9 $(cat /run/a.pid)")
refused("in use, by process", target("b"))
m.run(f"{target('a')} && echo 3 >/proc/sys/vm/drop_caches && grep kept /c/file")
m.run("kill $(cat /run/a.pid) && until_true 60 sh -c '! [ -e /run/a.pid ]'")
said = m.run("cat /run/a.log")
if "is in use and stays" not in said:
    sys.exit(f"the device is mounted, and the server that ends says: {said}")
m.run(f"{target('a')} && echo 3 >/proc/sys/vm/drop_caches && grep kept /c/file && umount /c")
m.run("kill $(cat /run/a.pid) && until_true 60 sh -c '! [ -e /run/a.pid ]' && [ $(cat /sys/block/nbd1/size) = 0 ]")
m.run(f"{target('a')} && flock -s /dev/nbd1 sh -c 'echo looks >/run/look; sleep 2; head -c 1000000 /dev/nbd1 >/dev/null && echo seen >/run/look' &")
m.run("until_true 60 grep looks /run/look; kill $(cat /run/a.pid) && until_true 60 sh -c '! [ -e /run/a.pid ]' && grep seen /run/look")
m.run(f"{target('c')} --keep-device && [ $(blockdev --getsize64 /dev/nbd1) = 19999744 ]")
m.run("kill $(cat /run/c.pid) && until_true 60 sh -c '! [ -e /run/c.pid ]' && [ $(blockdev --getsize64 /dev/nbd1) = 19999744 ]")
m.run("nbd-client -d /dev/nbd1")
m.run("xnbd-wrapper --daemonize --lport 0 --pidfile /run/w.pid --imgfile /run/a.img --imgfile /run/b.img --device /run/a.img=/dev/nbd1 "
      "--device /run/b.img=/dev/nbd2 && cmp /dev/nbd1 /run/a.img && cmp /dev/nbd2 /run/b.img")
m.run("kill $(cat /run/w.pid) && until_true 60 sh -c '! [ -e /run/w.pid ]' && ! grep -q '[1-9]' /sys/block/nbd1/size /sys/block/nbd2/size")
refused("it has to be one as /dev/nbd0", target("a").replace("nbd1", "vdb"))
m.kill()
with open("cache.img", "rb") as f:
    expect_clean("the disk", f.read())
if trouble():
    sys.exit("\n".join(trouble()))
print("ok")
