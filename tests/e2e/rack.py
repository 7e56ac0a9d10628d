# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""A rack that moves: one xnbd-wrapper with a database, twenty targets, and twenty proxies of five kinds of origins.

A client of each writes and reads all the time, and knows what must be there. Meanwhile all proxies are copied, two origins
are killed and come back, five exports are added, five removed, three switched; then the wrapper is killed, and started with
nothing but its database. Prints what it has seen, a line for each step."""
import atexit, json, os, random, signal
import nbd
from exports import Client, control, run, start, until, uri

EXPORTS, KINDS = 20, 5
NBDKIT, QEMU, DEBIAN, TLS, OLDSTYLE = range(KINDS)
BUFFERS, CLIENT, PROGRAM = 16 << 20, 64 << 10, 8 << 20 # bytes: --max-buf-size, for each client, the program itself
random.seed(int(os.environ.get("SEED", "1")))

images = [random.randbytes(1 + i % 4 << 20) for i in range(KINDS)]
for i, image in enumerate(images):
    open("o%d.img" % i, "wb").write(image)
open("nbd.conf", "w").write("[generic]\nunixsock=%s/o2.sock\nallowlist=true\n[disk]\nexportname=%s/o2.img\n" % (os.getcwd(), os.getcwd()))
open("keys", "w", opener=lambda path, flags: os.open(path, flags, 0o600)).write("rack:%064x\n" % random.getrandbits(256))
COMMANDS = [
    ["nbdkit", "-f", "-U", "o0.sock", "file", "o0.img"],
    ["qemu-nbd", "--shared=0", "--persistent", "-f", "raw", "-k", os.path.abspath("o1.sock"), "o1.img"],
    ["nbd-server", "-C", os.path.abspath("nbd.conf"), "-p", os.path.abspath("nbd.pid")], # in the background, of itself
    ["xnbd-server", "--target", "--readonly", "--lport", "0", "--unix", "o3.sock", "--tls-psk", "keys", "--tls", "require", "o3.img"],
    ["nbdkit", "-f", "-o", "-U", "o4.sock", "file", "o4.img"],
]
URIS = ["nbd+unix:///%s?socket=o%d.sock" % ("disk" if i == DEBIAN else "", i) for i in range(KINDS)]
URIS[TLS] = "nbds+unix://rack@/?socket=o3.sock&tls-psk-file=keys"


def origin(kind):
    if os.path.exists("o%d.sock" % kind):
        os.unlink("o%d.sock" % kind)
    server = start(*COMMANDS[kind])
    until(lambda: not run("xnbd-client", "--getsize64", URIS[kind]))
    return server


@atexit.register
def kill_debians():
    if os.path.exists("nbd.pid"):
        os.kill(int(open("nbd.pid").read()), signal.SIGTERM)


def proxy(name, kind, separator):
    return separator.join([URIS[kind], "cache=%s.img" % name, "bitmap=%s.bm" % name, "control=%s.ctl" % name])


def wrapper(*exports):
    server = start("xnbd-wrapper", "--dbpath", "db", "--lport", "0", "--unix", "w.sock", "--socket", "w.ctl",
                   "--max-buf-size", str(BUFFERS), *exports)
    until(lambda: control("status"))
    return server


def target(name, size):
    """Its client."""
    image = random.randbytes(size)
    open(name + ".img", "wb").write(image)
    return Client(name, image, .02)


def bgctl(name, *options):
    return run("xnbd-bgctl", *options, name + ".ctl")


def is_gone(name):
    try:
        nbd.NBD().connect_uri(uri(name))
    except nbd.Error:
        return True
    return False


def is_in_use(client):
    n = client.requests
    until(lambda: client.requests > n + 2 or client.wrong is not None)
    return client.wrong is None


def peak(server):
    """Memory that the process has ever had, in bytes."""
    return int(next(l for l in open("/proc/%d/status" % server.pid) if l.startswith("VmHWM")).split()[1]) << 10


origins = [origin(i) for i in range(KINDS)]
clients = {}
for i in range(EXPORTS):
    clients["t%d" % i] = target("t%d" % i, 1 + i % 4 << 20)
    clients["p%d" % i] = Client("p%d" % i, images[i % KINDS], .02)
arguments = []
for i in range(EXPORTS):
    arguments += ["--export", "t%d=t%d.img" % (i, i), "--proxy", "p%d=%s" % (i, proxy("p%d" % i, i % KINDS, ","))]
server = wrapper(*arguments)
proxies = ["p%d" % i for i in range(EXPORTS)]
for c in clients.values():
    c.start()
copies = [start("xnbd-bgctl", "--cache-all", "--rate", "200K", name + ".ctl") for name in proxies]
print("all are in use:", all(is_in_use(c) for c in clients.values()))

# Three are complete and switched; two origins die then, and their other proxies are not complete.
switched = ["p%d" % (5 + kind) for kind in (QEMU, DEBIAN, TLS)]
for name in switched:
    copies[int(name[1:])].kill()
    copies[int(name[1:])].wait() # its copy ends with it, and not the next one
print("switched:", {(bgctl(name, "--cache-all", "--rate", "0"), bgctl(name, "--switch")) for name in switched})
for kind in QEMU, TLS:
    origins[kind].kill()
    origins[kind].wait()
others = [c for name, c in clients.items() if name[0] == "t" or name in switched or int(name[1:]) % KINDS not in (QEMU, TLS)]
print("two origins are dead, the others go on:", all(is_in_use(c) for c in others))

clients["x0"], clients["x1"] = target("x0", 1 << 20), target("x1", 2 << 20)
for name, kind in ("x2", NBDKIT), ("x3", DEBIAN), ("x4", OLDSTYLE):
    clients[name] = Client(name, images[kind], .02)
    proxies.append(name)
print("added:", {control("add x0 x0.img"), control("add x1 x1.img")} |
      {control("add-proxy x%d %s" % (i, proxy("x%d" % i, kind, " "))) for i, kind in ((2, NBDKIT), (3, DEBIAN), (4, OLDSTYLE))})
for i in range(5):
    clients["x%d" % i].start()
removed = ["t3", "t7", "t11", "p15", "p19"] # of nbdkit and oldstyle
wrong = []
for name in removed:
    c = clients.pop(name)
    c.stop()
    c.check()
    wrong += [(name, c.wrong)] if c.wrong is not None else []
    proxies = [p for p in proxies if p != name]
print("removed:", {control("remove " + name) for name in removed}, all(is_gone(name) for name in removed))
for kind in QEMU, TLS:
    origins[kind] = origin(kind)
print("they are back, and all are in use:", all(is_in_use(c) for c in clients.values()))

memory = peak(server)
server.kill()
server.wait()
for c in copies:
    c.kill()
server = wrapper()
print("killed, started with the database alone, and all are in use:", all(is_in_use(c) for c in clients.values()))
print("what was removed stays removed:", all(is_gone(name) for name in removed))


def targets(names):
    return {run("sh", "-c", "xnbd-bgctl --query %s.ctl | grep -qx 'mode target'" % name) for name in names}


database = json.load(open("db"))["images"]
print("what was switched is a target, the others are not:", targets(switched), targets(p for p in proxies if p not in switched))
print("the database has each of them:", set(database) == set(clients))
print("all are copied:", {c.wait() for c in [start("xnbd-bgctl", "--cache-all", p + ".ctl") for p in proxies if p not in switched]})
for c in clients.values():
    c.stopped = True
for c in clients.values():
    c.stop()
    c.check()
memory = max(memory, peak(server))
server.terminate()
print("the end:", server.wait())
for name, c in clients.items():
    if open(name + ".img", "rb").read() != c.image:
        wrong.append((name, "its file"))
print("every byte is right:", wrong + [(name, c.wrong) for name, c in clients.items() if c.wrong is not None] or True)
budget = BUFFERS + PROGRAM + len(clients) * CLIENT
if b"__asan_init" in open(os.environ["XNBDBOX"], "rb").read():
    budget *= 4  # shadows, and what was freed
print("memory within the budget:", memory <= budget or (memory, budget))
print("the origins are as they were:", all(open("o%d.img" % i, "rb").read() == image for i, image in enumerate(images)))
if "MEASURE" in os.environ:
    print(memory, budget, sum(c.requests for c in clients.values()))
