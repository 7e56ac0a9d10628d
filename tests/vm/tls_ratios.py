# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# tls_ratios.py ROUNDS MIB: a disk in memory is copied in one machine over TLS: by nbdcopy, which has GnuTLS, and by a
# proxy, from our server with the kernel's TLS, from it with its own (module tls is not loaded then), and from nbdkit. In
# turns; prints medians. By hand only: tls_ratios.sh.
import os, re, shutil, statistics, subprocess, sys, time
from machine import Machine, kernel

ROUNDS, MIB = int(sys.argv[1]), int(sys.argv[2])
RELEASE = "6.12"
PLUGIN = "/usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-file-plugin.so"
SERVERS = {
    "in the clear": ("nbd://127.0.0.1:8501/", False),
    "kernel's TLS": ("nbds://alice@127.0.0.1:8502/?tls-psk-file=/keys", True),
    "own TLS": ("nbds://alice@127.0.0.1:8502/?tls-psk-file=/keys", False),
    "nbdkit's TLS": ("nbds://alice@127.0.0.1:8503/?tls-psk-file=/keys", True),
}


def peers_disk():
    """nbdkit and nbdcopy with their libraries."""
    libraries = set()
    for file in shutil.which("nbdkit"), shutil.which("nbdcopy"), PLUGIN:
        libraries |= set(re.findall(r"(/\S+) \(", subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout)) | {file}
    os.mkdir("peers")
    for file in libraries:
        shutil.copy(file, "peers")
    subprocess.run(["truncate", "-s", "64M", "peers.img"], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", "peers", "peers.img"], check=True)


def peer(name):
    return f"/mnt/ld-linux-x86-64.so.2 --library-path /mnt /mnt/{name}"


def seconds(command):
    begun = time.monotonic()
    m.run(command)
    return time.monotonic() - begun


def by_nbdcopy(uri):
    return seconds(f"{peer('nbdcopy')} '{uri}' null:")


def by_proxy(uri):
    m.run(f"xnbd-server --proxy --daemonize --lport 0 --unix /run/p.sock '{uri}' /t/cache.img /t/cache.bm /run/ctl.sock")
    took = seconds("xnbd-bgctl --cache-all /run/ctl.sock")
    m.run("p=$(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p') && kill $p && until_true 60 [ ! -e /proc/$p ]; rm /t/cache.*")
    return took


peers_disk()
m = Machine("peers.img,readonly=on", memory=256 + 3 * MIB, **kernel(RELEASE))
m.run(f"mkdir /t /mnt && mount -t tmpfs -o size=100% t /t && mount -o ro -t ext4 /dev/vda /mnt && (umask 077; echo alice:{'42' * 32} >/keys)")
m.run(f"dd if=/dev/urandom of=/t/disk.img bs=1M count={MIB} 2>/dev/null")
m.run("xnbd-server --target --readonly --daemonize --lport 8501 /t/disk.img && xnbd-server --target --readonly --daemonize --lport 8502 --tls-psk /keys /t/disk.img")
m.run(f"{peer('nbdkit')} -r -p 8503 --tls=require --tls-psk=/keys /mnt/nbdkit-file-plugin.so /t/disk.img")
rates = {}
for _ in range(ROUNDS):
    for server, (uri, loaded) in SERVERS.items():
        for client, copy in ("nbdcopy", by_nbdcopy), ("proxy", by_proxy):
            m.run("[ -e /proc/net/tls_stat ] || insmod /modules/tls.ko" if loaded else "[ ! -e /proc/net/tls_stat ] || until_true 60 rmmod tls")
            rates.setdefault((client, server), []).append(MIB / copy(uri))
            print(client, server, rates[client, server][-1], file=sys.stderr)
m.kill()
print("| copied by |", " | ".join(SERVERS), "|")
print("| --- |" + " --- |" * len(SERVERS))
for client in "nbdcopy", "proxy":
    medians = [statistics.median(rates[client, server]) for server in SERVERS]
    print(f"| {client} |", " | ".join(f"{r / medians[-1]:.2f} ({r:.1f} MiB/s)" for r in medians), "|")
