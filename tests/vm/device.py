# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# device.py: who may have /dev/nbdN as the device of a server, and what becomes of it. What it is under a file
# system: deaths.py.
import sys
from machine import Machine, expect_quiet


def target(name):
    return f"xnbd-server --target --daemonize --lport 0 --device /dev/nbd1 --pidfile /run/{name}.pid --logpath /run/{name}.log /run/{name}.img"


def refused(why, command):
    said = m.run(f"{command} && echo started || true")
    if why not in said:
        sys.exit(f"not refused: {command}: {said}")


m = Machine(append="loglevel=7")
m.run("mkdir -p /c")
# Who may have a device, and what becomes of it.
m.run("truncate -s 20M /run/a.img; truncate -s 20M /run/b.img; truncate -s 20000001 /run/c.img")
m.run(target("a"))
m.run("mkfs.ext4 -q -F /dev/nbd1 && mount -t ext4 /dev/nbd1 /c && echo kept >/c/file && sync")
refused("in use by process", target("b"))
m.run("kill -9 $(cat /run/a.pid)")
refused("in use by process", target("b"))
m.run(f"{target('a')} && echo 3 >/proc/sys/vm/drop_caches && grep kept /c/file")
m.run("kill $(cat /run/a.pid) && until_true 300 sh -c '! [ -e /run/a.pid ]'")
said = m.run("cat /run/a.log")
if "is in use and is kept" not in said:
    sys.exit(f"the device is mounted, and the server that ends says: {said}")
m.run(f"{target('a')} && echo 3 >/proc/sys/vm/drop_caches && grep kept /c/file && umount /c")
m.run("kill $(cat /run/a.pid) && until_true 300 sh -c '! [ -e /run/a.pid ]' && [ $(cat /sys/block/nbd1/size) = 0 ]")
m.run(f"{target('a')} && flock -s /dev/nbd1 sh -c 'echo looks >/run/look; sleep 2; head -c 1000000 /dev/nbd1 >/dev/null && echo seen >/run/look' &")
m.run("until_true 300 grep looks /run/look; kill $(cat /run/a.pid) && until_true 300 sh -c '! [ -e /run/a.pid ]' && grep seen /run/look")
m.run(f"{target('c')} --keep-device && [ $(blockdev --getsize64 /dev/nbd1) = 19999744 ]")
m.run("kill $(cat /run/c.pid) && until_true 300 sh -c '! [ -e /run/c.pid ]' && [ $(blockdev --getsize64 /dev/nbd1) = 19999744 ]")
m.run("xnbd-client -d /dev/nbd1")
m.run("xnbd-wrapper --daemonize --lport 0 --pidfile /run/w.pid --imgfile /run/a.img --imgfile /run/b.img --device /run/a.img=/dev/nbd1 "
      "--device /run/b.img=/dev/nbd2 && cmp /dev/nbd1 /run/a.img && cmp /dev/nbd2 /run/b.img")
m.run("kill $(cat /run/w.pid) && until_true 300 sh -c '! [ -e /run/w.pid ]' && ! grep -q '[1-9]' /sys/block/nbd1/size /sys/block/nbd2/size")
refused("is not a device such as /dev/nbd0", target("a").replace("nbd1", "vdb"))
m.kill()
expect_quiet()
print("ok")
