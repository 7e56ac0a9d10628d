# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# newborn.py ROUNDS SEED: a proxy is killed (-9) while it starts: with a new cache; with
# one that has blocks; with one whose machine was down. Every other time the power is cut
# too. Then a start must work, know what was flushed before, and come to the right image.
import atexit, os, random, subprocess, sys, time
import nbd
from disks import HERE, Disks, run

ROUNDS, SEED = int(sys.argv[1]), int(sys.argv[2])
SIZE, BLOCK = 4 << 20, 4096
rng = random.Random(SEED)
servers = []
disks = Disks("file", SIZE)
atexit.register(lambda: [(p.kill(), p.wait()) for p in servers])
disk = rng.randbytes(SIZE)
open("origin.img", "wb").write(disk)


def start(*command):
    p = subprocess.Popen(["xnbd-server", *command])
    servers.append(p)
    return p


def start_proxy():
    return start("--proxy", "--lport", "0", "--unix", "p.sock", "--pidfile", "pid", "unix:o.sock", "-", disks.image, disks.bitmap, "ctl.sock")


def wait_for(path, process):
    for _ in range(8000):
        if process.poll() is not None:
            sys.exit(f"round {round_}: the start is refused")
        try:
            h = nbd.NBD()
            h.connect_unix(path)
            return h
        except nbd.Error:
            time.sleep(0.0025)
    sys.exit("no server at " + path)


def end(process, signal):
    process.send_signal(signal)
    process.wait()
    servers.remove(process)


def fresh():
    for name in (disks.image, disks.bitmap, disks.bitmap + ".commit", disks.bitmap + ".commit.new"):
        if os.path.exists(name):
            os.unlink(name)
    run("sync", "--file-system", "fs")  # or a power cut would bring them back


round_, killed_early = 0, 0
wait_for("o.sock", start("--target", "--readonly", "--lport", "0", "--unix", "o.sock", "origin.img")).shutdown()
took = time.monotonic()
p = start_proxy()
wait_for("p.sock", p).shutdown()
took = time.monotonic() - took
end(p, 15)
for round_ in range(ROUNDS):
    age = round_ % 3
    written = bytes(0)
    fresh()
    if age:
        p = start_proxy()
        h = wait_for("p.sock", p)
        written = rng.randbytes(BLOCK)
        h.pwrite(written, 0)
        h.flush()
        h.pwrite(written, 8 * BLOCK)
        end(p, 9)
    if age == 2:  # what was not flushed is lost: only its bit is in the bitmap
        run(sys.executable, HERE + "/boot.py", disks.bitmap + ".commit")
        with open(disks.image, "r+b") as f:
            f.seek(8 * BLOCK)
            f.write(bytes(BLOCK))
    for again in range(2):  # the second start finds what the first one has left
        if os.path.exists("pid"):
            os.unlink("pid")
        p = start_proxy()
        time.sleep(rng.uniform(0, took))
        end(p, 9)
        if not os.path.exists("pid") or not os.path.getsize("pid"):
            killed_early += 1
        if round_ % 2:
            disks.cut_power()
    p = start_proxy()
    h = wait_for("p.sock", p)
    if written and bytes(h.pread(BLOCK, 0)) != written:
        sys.exit(f"round {round_}: what was flushed is lost")
    # What was not may be lost where the machine was down.
    unflushed = bytes(h.pread(BLOCK, 8 * BLOCK))
    original = disk[8 * BLOCK:9 * BLOCK]
    if unflushed != original and (unflushed != written or age == 2) or unflushed == original and age == 1 and not round_ % 2:
        sys.exit(f"round {round_}: what was not flushed is wrong")
    run("xnbd-bgctl", "--cache-all", "ctl.sock")
    run("xnbd-bgctl", "--switch", "ctl.sock")
    end(p, 15)  # removes its pid file
    if open(disks.image, "rb").read() != written + disk[len(written):8 * BLOCK] + unflushed + disk[9 * BLOCK:]:
        sys.exit(f"round {round_}: the image is wrong")
print(f"{killed_early} of {2 * ROUNDS} were killed before they were ready", file=sys.stderr)
if not killed_early:
    sys.exit("none was killed early enough")
print("ok")
