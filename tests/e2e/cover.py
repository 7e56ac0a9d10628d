# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# cover.py ROUNDS: a proxy with --cover, whose disk.img is served on origin.sock, is switched while a client writes at both ends,
# and killed at some moment of it, then started again until the switch is done. No answered write is lost, and before a switch that
# is done the image shows nothing. Prints how often it was killed before and after the switch.
import os, random, signal, subprocess, sys, time
import nbd
from peer import until_listens

ROUNDS = int(sys.argv[1])
SIZE = os.path.getsize("disk.img")
MARK = b"Half-copied by xnbd-server"
AREAS = [0, 4096, 65536, (8 << 20) - 4096, (8 << 20), SIZE // 2 // 4096 * 4096, SIZE - (2 << 20) - 4096, SIZE - (2 << 20), SIZE - 4096]
random.seed(int(os.environ.get("SEED", "1")))


def start():
    for name in ("proxy.sock", "ctl.sock"):
        if os.path.exists(name):
            os.unlink(name)
    log = open("log", "a")
    p = subprocess.Popen(["xnbd-server", "--proxy", "--cover", "--lport", "0", "--unix", "proxy.sock", "unix:origin.sock", "-",
                          "cache.img", "cache.bm", "ctl.sock"], stderr=log)
    until_listens("ctl.sock", p)
    until_listens("proxy.sock", p)
    return p


def client():
    h = nbd.NBD()
    h.connect_uri("nbd+unix:///?socket=proxy.sock")
    return h


def bgctl(*args):
    return subprocess.run(["xnbd-bgctl", *args, "ctl.sock"], capture_output=True, text=True, timeout=60)


def shows():
    with open("cache.img", "rb") as f:
        head = f.read(8 << 20)
        f.seek(SIZE - (2 << 20))
        return not head.startswith(MARK) or any(head[512:]) or any(f.read())


def write_until_it_dies(h, want, pending, switch, until):
    n = 0
    while time.monotonic() < until and not (switch and switch.poll() is not None and random.random() < 0.1):
        at = random.choice(AREAS)
        data = bytes([random.randrange(1, 256)]) * 4096
        pending[:] = [at, data]
        h.pwrite(data, at, nbd.CMD_FLAG_FUA if random.random() < 0.2 else 0)
        want[at] = data
        pending.clear()
        n += 1
    return n


killed = {"before": 0, "after": 0}
for _ in range(ROUNDS):
    for name in ("cache.img", "cache.bm", "cache.bm.commit"):
        if os.path.exists(name):
            os.unlink(name)
    origin = open("disk.img", "rb").read()
    want = {}
    p = start()
    if shows():
        sys.exit("the image shows something at the beginning")
    h = client()
    bgctl("--cache-all")
    if shows():
        sys.exit("the image shows something after the copy")
    switch = subprocess.Popen(["xnbd-bgctl", "--switch", "ctl.sock"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pending = []
    try:
        write_until_it_dies(h, want, pending, switch, time.monotonic() + random.random() * random.choice((0.05, 0.2, 0.6)))
    finally:
        p.send_signal(signal.SIGKILL)
    p.wait()
    switch.wait()
    p = start()
    h = client()
    for at in AREAS:
        got = bytes(h.pread(4096, at))
        good = [want.get(at, origin[at:at + 4096])] + ([pending[1]] if pending and pending[0] == at else [])
        if got not in good:
            sys.exit(f"lost at {at}: {got[:1]!r}, not {good[0][:1]!r}")
        want[at] = got
    status = bgctl("--query").stdout
    covered = "covered yes" in status
    killed["before" if covered else "after"] += 1
    if covered and shows():
        sys.exit("covered, and the image shows something")
    for at in AREAS[:3]:
        h.pwrite(b"last" * 1024, at)
        want[at] = b"last" * 1024
    done = bgctl("--switch")
    if done.returncode:
        sys.exit(f"no switch: {done.stderr}")
    h.pwrite(b"then" * 1024, AREAS[-1])
    want[AREAS[-1]] = b"then" * 1024
    p.terminate()
    if p.wait():
        sys.exit("the end failed")
    image = bytearray(origin)
    for at, data in want.items():
        image[at:at + 4096] = data
    if open("cache.img", "rb").read() != bytes(image):
        sys.exit("the image is wrong in the end")
print(f"{killed['before']} before, {killed['after']} after", file=sys.stderr)
print("right" if all(killed.values()) or ROUNDS < 20 else "the moments were not mixed")
