# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# ratios.py ROUNDS SECONDS: random reads and writes of 4 KiB by fio, past the page cache, on kernel devices of the same
# target, whose image is in memory: connected by nbd-client over TCP and by a Unix socket, and the server's own
# (--device), by NBD and by ublk. In turns, one machine; prints medians. By hand only: ratios.sh.
import statistics, sys
from machine import BUILD, Machine, kernel

ROUNDS, SECONDS = int(sys.argv[1]), int(sys.argv[2])
DEVICES = {
    "nbd-client, TCP": ("/dev/nbd0", "--lport 8521", "nbd-client -N '' 127.0.0.1 8521 /dev/nbd0"),
    "nbd-client, Unix socket": ("/dev/nbd1", "--lport 0 --unix /run/nbd.sock", "nbd-client -N '' -unix /run/nbd.sock /dev/nbd1"),
    "--device /dev/nbd2": ("/dev/nbd2", "--lport 0 --device /dev/nbd2", "true"),
    "--device /dev/ublkb0": ("/dev/ublkb0", "--lport 0 --device /dev/ublkb0", "true"),
}
LOADS = {f"{rw}, depth {depth}": (rw, depth) for rw in ("randread", "randwrite") for depth in (1, 16)}


def rate(device, rw, depth):
    """Requests a second."""
    said = m.run(f"/mnt/fio --minimal --name=x --thread --filename={device} --rw={rw} --bs=4k --direct=1 --ioengine=libaio --iodepth={depth} "
                 f"--time_based --runtime={SECONDS} --randrepeat=0 2>/dev/null")
    fields = said.strip().splitlines()[-1].split(";")
    return float(fields[7 if rw == "randread" else 48])


m = Machine(f"{BUILD}/fio.img,readonly=on", memory=768, **kernel("6.12"))
m.run("mkdir /t /mnt && mount -t tmpfs t /t && mount -o ro -t ext4 /dev/vda /mnt")
for i, (device, words, client) in enumerate(DEVICES.values()):
    m.run(f"dd if=/dev/urandom of=/t/{i} bs=1M count=64 2>/dev/null; xnbd-server --target --daemonize {words} /t/{i} && {client} && until_true 300 [ -b {device} ]")
    m.run(f"echo none >/sys/block/{device[5:]}/queue/scheduler")
rates = {}
for _ in range(ROUNDS):
    for load, how in LOADS.items():
        for name, (device, _, _) in DEVICES.items():
            rates.setdefault((load, name), []).append(rate(device, *how))
m.kill()
print("| load |", " | ".join(DEVICES), "|")
print("| --- |" + " --- |" * len(DEVICES))
for load in LOADS:
    medians = [statistics.median(rates[load, name]) for name in DEVICES]
    print(f"| {load} |", " | ".join(f"{r / medians[0]:.2f} ({r:.0f}/s)" for r in medians), "|")
