# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""Forty exports of one xnbd-wrapper, in the working directory: twenty targets, and twenty proxies of five origins.

A client of each writes and reads all the time, and knows what must be there. Meanwhile all proxies are copied, one origin
falls silent and one dies, exports come and go, three proxies are switched, and the wrapper is killed and started again.
Prints what it has seen, a line for each step."""
import os, random, signal, subprocess, time
from exports import Client, control, run, uri

SIZE, BLOCK, EXPORTS, ORIGINS = 4 << 20, 4096, 20, 5
BUFFERS = 32 << 20
random.seed(int(os.environ.get("SEED", "1")))


def origin(i):
    server = subprocess.Popen(["xnbd-server", "--target", "--lport", "0", "--unix", "o%d.sock" % i, "o%d.img" % i])
    while run("nbdinfo", "--size", "nbd+unix:///?socket=o%d.sock" % i):
        time.sleep(.05)
    return server


def proxy(name, i, separator):
    return separator.join(["nbd+unix:///?socket=o%d.sock" % i, "cache=%s.img" % name, "bitmap=%s.bm" % name, "control=%s.ctl" % name])


def wrapper():
    args = ["xnbd-wrapper", "--lport", "0", "--unix", "w.sock", "--socket", "w.ctl", "--max-buf-size", str(BUFFERS)]
    for i in range(EXPORTS):
        args += ["--export", "t%d=t%d.img" % (i, i), "--proxy", "p%d=%s" % (i, proxy("p%d" % i, i % ORIGINS, ","))]
    server = subprocess.Popen(args, stderr=subprocess.DEVNULL)
    while run("nbdinfo", "--size", uri("t0")):
        time.sleep(.05)
    return server


peak = 0


def pass_time(seconds, enough=lambda: False):
    """So long, or until it is enough."""
    global peak
    end = time.time() + seconds
    while time.time() < end and not enough():
        for line in control("status").splitlines():
            if line.startswith("buffer_used "):
                peak = max(peak, int(line.split()[1]))
        time.sleep(.1)


def copies(*options):
    return [subprocess.Popen(["xnbd-bgctl", "--cache-all", *options, "p%d.ctl" % i], stderr=subprocess.DEVNULL) for i in range(EXPORTS)]


images = [random.randbytes(SIZE) for i in range(ORIGINS)]
for i in range(ORIGINS):
    open("o%d.img" % i, "wb").write(images[i])
for i in range(EXPORTS):
    open("t%d.img" % i, "wb").write(bytes(SIZE))
origins = [origin(i) for i in range(ORIGINS)]
server = wrapper()
clients = [Client("t%d" % i, bytes(SIZE)) for i in range(EXPORTS)] + [Client("p%d" % i, images[i % ORIGINS]) for i in range(EXPORTS)]
for c in clients:
    c.start()
copying = copies("--rate", "400K")
pass_time(2)

origins[0].send_signal(signal.SIGSTOP)
origins[1].kill()
origins[1].wait()
others = [c for c in clients if c.name[0] == "t" or int(c.name[1:]) % ORIGINS > 1]
before = [c.requests for c in others]
for c in others:
    c.worst = 0
pass_time(4)
print("two origins are cut, the others go on:", all(c.requests > n + 5 for c, n in zip(others, before)), max(c.worst for c in others) < 2)

print("come and go:", {control("add-proxy x%d %s" % (i, proxy("x%d" % i, 2 + i % 3, " "))) + control("remove x%d" % i) for i in range(5)})
origins[0].send_signal(signal.SIGCONT)
origins[1] = origin(1)
print("switched:", {run("xnbd-bgctl", "--cache-all", "p%d.ctl" % i) + run("xnbd-bgctl", "--switch", "p%d.ctl" % i) for i in (2, 3, 4)})

server.kill()
server.wait()
for c in copying:
    c.kill()
    c.wait()
server = wrapper()
pass_time(2)
before = [c.requests for c in clients]
def all_go_on():
    return all(c.requests > n for c, n in zip(clients, before))
pass_time(30, all_go_on)
print("killed, and all go on:", all_go_on())
print("all are copied:", {c.wait() for c in copies()})
for c in clients:
    c.stopped = True
for c in clients:
    c.stop()
    c.check()
print("every byte is right:", [(c.name, c.wrong) for c in clients if c.wrong is not None] or True)
print("memory within the budget:", peak <= BUFFERS)
server.terminate()
print("the end:", server.wait())
for o in origins:
    o.kill()
