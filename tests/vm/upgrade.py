# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# upgrade.py 6.1|6.12 EXCHANGES: a wrapper whose images have several devices each, with one connection and with four, of either kind
# (6.1 has no ublk). Programs read back all that they write on each of them, while the wrapper's program is exchanged. Then: one of the
# images is removed while its devices are in use; the wrapper dies; a proxy's device waits for an origin that is away. The longest
# pause is told.
import sys, time
from machine import Machine, expect_quiet, kernel

RELEASE, EXCHANGES = sys.argv[1], int(sys.argv[2])
UBLK = RELEASE != "6.1"
EXCHANGE = "xnbd-bgctl --upgrade /run/other /run/w.ctl"
# Of one image each of its devices has another part.
DEVICES = {"/t/a.img": ["nbd1", "nbd2"] + ["ublkb1"] * UBLK, "/t/b.img": ["nbd3"] + ["ublkb2", "ublkb3"] * UBLK}
began, log = time.monotonic(), open("upgrade.log", "w", buffering=1)
ALL = [device for devices in DEVICES.values() for device in devices]
WRITERS = [(device, 2 * i + j) for devices in DEVICES.values() for i, device in enumerate(devices) for j in (0, 1)]


def refused(why, command):
    said = m.run(f"{command} && echo exchanged || true")
    if why not in said:
        sys.exit(f"not refused: {command}: {said}")


def wrapper(connections):
    words = " ".join(f"--device {image}=/dev/{device}" for image, devices in DEVICES.items() for device in devices)
    return ("xnbd-wrapper --daemonize --lport 0 --pidfile /run/w.pid --logpath /run/w.log --socket /run/w.ctl "
            f"--connections {connections} --imgfile /t/a.img --imgfile /t/b.img {words}")


def load():
    """Two programs on each device write other bytes at the same place, sync, and read them back, past the page cache. One more writes
    a block, over and over: how long it took at most, in hundredths of a second."""
    m.run("rm -f /run/enough /run/*.rounds /run/most")
    for device, part in WRITERS:
        m.run(f"(n=0; f=/run/{device}.{part}; d=/dev/{device}; at={part * 8}; while [ ! -e /run/enough ]; do dd if=/dev/urandom of=$f.w bs=128k count=1 && "
              "dd if=$f.w of=$d bs=16k seek=$at oflag=direct conv=fsync && dd if=$d of=$f.r bs=16k count=8 skip=$at iflag=direct && cmp $f.w $f.r || { n=bad; break; }; "
              "n=$((n + 1)); echo $n >$f.rounds; done >$f.said 2>&1; echo $n >$f.end) &")
    quick = ALL[-1]
    m.run("(while [ ! -e /run/enough ]; do read -r a _ </proc/uptime; dd if=/dev/zero of=/dev/" + quick + " bs=4k count=1 seek=1000 oflag=direct 2>/dev/null; "
          "read -r b _ </proc/uptime; a=${a%.*}${a#*.} b=${b%.*}${b#*.}; [ $((b - a)) -le ${most:=0} ] || most=$((b - a)); echo $most >/run/most; done; echo >/run/quick.end) &")


def exchange():
    """Each device is written to before and behind it. What is just being done passes."""
    print(f"{time.monotonic() - began:.0f} s: exchange", file=log)
    m.run(f"all_go_on && until_true 300 {EXCHANGE} && all_go_on")
    m.run("[ $(cat /run/w.pid) = $pid ] && readlink /proc/$pid/exe | grep memfd")


def expect_verified():
    files = " ".join([f"/run/{device}.{part}" for device, part in WRITERS] + ["/run/quick"])
    m.run(f"ends() {{ for f in {files}; do [ -s $f.end ] || return 1; done; }}; touch /run/enough; until_true 300 ends")
    for device, part in WRITERS:
        said = m.run(f"f=/run/{device}.{part}; cat $f.end; rm $f.end").strip()
        if said in ("bad", "0"):
            sys.exit(f"{device}: {said}" + m.run(f"tail -20 /run/{device}.{part}.said"))


def same_bytes():
    """What the devices of an image show is the image."""
    m.run("echo 3 >/proc/sys/vm/drop_caches; " + " && ".join(f"cmp /dev/{device} {image}" for image, devices in DEVICES.items() for device in devices))


def gone():
    m.run("kill $(cat /run/w.pid) && until_true 300 sh -c '! [ -e /run/w.pid ]'; " +
          " && ".join(f"[ $(cat /sys/block/{device}/size) = 0 ]" if device.startswith("nbd") else f"[ ! -e /dev/{device} ]" for device in ALL))


def under_load(connections, times):
    m.run(f"{wrapper(connections)} && pid=$(cat /run/w.pid)")
    load()
    for _ in range(times):
        exchange()
    refused("the program cannot", EXCHANGE.replace("/run/other", "/bin/busybox"))
    exchange()
    if connections == 1:
        print(f"{RELEASE}: {times + 1} exchanges, longest pause {int(m.run('cat /run/most')) / 100} s", file=open("pause", "w"))
    expect_verified()
    same_bytes()


def removed_and_killed():
    """An image that has been removed stays with its devices; a wrapper that has died gives them to the next one."""
    m.run("xnbdbox xnbd-wrapper-ctl --socket /run/w.ctl --remove-by-exportname /t/a.img")
    load()
    exchange()
    exchange()
    expect_verified()
    same_bytes()
    m.run("kill -9 $pid && until_true 300 sh -c \"! [ -e /proc/$pid/fd/0 ]\"")
    m.run(f"{wrapper(4)} && pid=$(cat /run/w.pid)")
    same_bytes()
    load()
    exchange()
    expect_verified()
    same_bytes()


def waits_for_origin(device):
    """The requests of the old program, which the new one has to do again."""
    print(f"{time.monotonic() - began:.0f} s: {device} waits", file=log)
    m.run("rm -f /run/x; dd if=/dev/urandom of=/t/o.img bs=64k count=64 2>/dev/null && xnbd-server --target --readonly --daemonize --lport 9000 --pidfile /run/o.pid /t/o.img")
    m.run(f"xnbd-server --proxy --daemonize --lport 0 --pidfile /run/p.pid --device {device} 127.0.0.1 9000 /t/cache.img /t/cache.bm /run/p.ctl && "
          f"cmp -n 4096 {device} /t/o.img")
    m.run("kill $(cat /run/o.pid) && until_true 300 sh -c '! [ -e /run/o.pid ]'")
    m.run(f"(for i in 1 2 3 4 5 6; do (dd if={device} of=/run/part$i iflag=direct bs=64k count=1 skip=$((i * 10)) 2>/run/dd$i; echo $? >>/run/x) & done); "
          "until_true 300 sh -c '[ $(xnbd-bgctl --query /run/p.ctl | sed -n \"s/^waiting //p\") -ge 6 ]'")
    m.run(f"exchanges() {{ for i in 1 2 3; do until_true 300 {EXCHANGE.replace('w.ctl', 'p.ctl')} && "
          "until_true 300 sh -c '[ $(xnbd-bgctl --query /run/p.ctl | sed -n \"s/^waiting //p\") -ge 6 ]' && ! [ -e /run/x ] || return 1; done; }; exchanges")
    m.run("xnbd-server --target --readonly --daemonize --lport 9000 --pidfile /run/o.pid /t/o.img; until_true 300 sh -c '[ $(grep -c ^0 /run/x) = 6 ]'")
    m.run("same() { for i in 1 2 3 4 5 6; do dd if=/t/o.img bs=64k count=1 skip=$((i * 10)) 2>/dev/null | cmp - /run/part$i || return 1; done; }; "
          f"same && cmp {device} /t/o.img")
    m.run("kill $(cat /run/p.pid) && until_true 300 sh -c '! [ -e /run/p.pid ]'; kill $(cat /run/o.pid); until_true 300 sh -c '! [ -e /run/o.pid ]'; rm /t/cache.*")


m = Machine(append="loglevel=7", memory=320, **kernel(RELEASE))
m.run("mkdir /t && mount -t tmpfs t /t && cp /bin/xnbdbox /run/other")
m.run("truncate -s 4M /t/a.img; truncate -s 4M /t/b.img")
m.run(f"written() {{ for d in {' '.join(device for device in ALL)}; do awk '{{print $7}}' /sys/block/$d/stat; done; }}")
m.run("all_moved() { set -- $(written); for n in $before; do [ $1 != $n ] || return 1; shift; done; }; all_go_on() { before=$(written); until_true 300 all_moved; }")
under_load(1, EXCHANGES)
gone()
under_load(4, 1)
removed_and_killed()
gone()
for path in ["/dev/nbd4"] + ["/dev/ublkb4"] * UBLK:
    waits_for_origin(path)
m.kill()
expect_quiet()
print("ok")
