# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# clients.py SEED: the kernel's NBD client against a target, a proxy with blocks missing, and an
# export of a wrapper, set up by each of the programs that can do it. Prints a table: "yes"
# where all bytes were right, as the machine reads them and in the image afterwards.
import os, random, sys
from machine import HOST, XNBDBOX, Machine, connect, free_port, spawn

rng = random.Random(int(sys.argv[1]))
SECTOR = 512
SIZE = (6 << 20) + SECTOR
# The program, and the connections it makes.
CLIENTS = {
    "Linux, nbd-client": ("nbd-client -nonetlink", 1),
    "Linux, nbd-client by netlink": ("nbd-client", 1),
    "Linux, nbd-client by netlink, 4 connections": ("nbd-client -C 4", 4),
    "Linux, BusyBox's nbd-client": ("/bin/bb/nbd-client -b 512", 1),
    "Linux, xnbd-client": ("xnbd-client", 1),
    "Linux, xnbd-client, 4 connections": ("xnbd-client --connections 4", 4),
    "Linux, xnbd-client by ioctl": ("xnbd-client --nonetlink", 1),
}
SERVERS = "target", "proxy", "wrapper"


class Server:
    """One of the three, with a disk of its own."""

    def __init__(self, kind, content):
        self.kind, self.port, self.image, self.processes = kind, free_port(), "disk.img", []
        with open("disk.img", "wb") as f:
            f.write(content)
        where = "--laddr", "127.0.0.1", "--lport", str(self.port)
        if kind == "target":
            self.start("xnbd-server", "--target", *where, "disk.img")
        elif kind == "wrapper":
            self.start("xnbd-wrapper", *where, "--imgfile", "disk.img")
        else:
            self.image, origin = "cache.img", free_port()
            self.start("xnbd-server", "--target", "--laddr", "127.0.0.1", "--lport", str(origin), "disk.img")
            connect(origin).shutdown()
            self.start("xnbd-server", "--proxy", *where, "127.0.0.1", str(origin), "cache.img", "cache.bm", "ctl.sock")
        self.name = "disk.img" if kind == "wrapper" else "''"
        connect(self.port, self.name.strip("'")).shutdown()

    def start(self, *command):
        with open("servers.log", "a") as log:
            self.processes.append(spawn(XNBDBOX, *command, stderr=log))

    def stop(self):
        """Returns what is on its disk."""
        for p in reversed(self.processes):
            p.terminate()
            p.wait()
        with open(self.image, "rb") as f:
            content = f.read(SIZE)
        for name in {self.image, "cache.bm", "cache.bm.commit"}:
            if os.path.exists(name):
                os.unlink(name)
        return content


def cell(m, client, kind, device):
    """What is wrong, or "yes"."""
    program, connections = CLIENTS[client]
    model = bytearray(rng.randbytes(SIZE))
    server = Server(kind, model)
    m.run(f"{program} -N {server.name} {HOST} {server.port} {device}")
    m.run(f"is_there() {{ [ $(blockdev --getsize64 {device}) = {SIZE} ]; }}; until_true 300 is_there")
    found = int(m.run(f"grep -c ' [0-9A-F]*:{server.port:04X} 01 ' /proc/net/tcp"))
    for _ in range(8):
        n, at = rng.randrange(1, 200), rng.randrange(SIZE // SECTOR - 200)
        m.run(f"dd if=/dev/vda of={device} bs={SECTOR} skip={at} seek={at} count={n} conv=notrunc,fsync 2>/dev/null")
        model[at * SECTOR:(at + n) * SECTOR] = data[at * SECTOR:(at + n) * SECTOR]
    with open("model.img", "r+b") as f:
        f.write(model)
    m.run("echo 3 >/proc/sys/vm/drop_caches")
    same = m.run(f"cmp /dev/vdb {device} && echo same") == "same\n"
    m.run(f"{program.split()[0]} -d {device}")
    if server.stop() != model:
        return "image wrong"
    return "yes" if same and found == connections else f"same: {same}, {found} connections"


data = rng.randbytes(SIZE)
for name in "data.img", "model.img":
    with open(name, "wb") as f:
        f.write(data)
m = Machine("data.img", "model.img")
rows = [(client, [cell(m, client, kind, f"/dev/nbd{i}") for i, kind in enumerate(SERVERS)]) for client in CLIENTS]
m.kill()
width = max(len(r[0]) for r in rows)
for first, cells in [("clients in a machine", SERVERS), *rows]:
    print(first.ljust(width), *(c.rjust(len(s)) for c, s in zip(cells, SERVERS)), sep=" | ")
