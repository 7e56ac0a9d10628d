# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# identity.py [devices]: the three files of a proxy exchanged, one by one and together, for older
# copies and for those of another move, and the header torn; after each end that a server can have.
# devices: the same of a cache image that is a block device, on loop devices.
#
# Then --check and a start have to agree. Either both refuse, with one line that is the same,
# exit status 1 and nothing changed on the disk; or the server starts, every byte is what the
# model has, and no acknowledged write is lost. What --accept-image takes is not looked at.
import atexit, hashlib, os, shutil, subprocess, sys, time
import nbd

HERE = os.path.dirname(os.path.abspath(__file__))
SIZE, BLOCK = 8 << 20, 4096
IMAGE, BITMAP, COMMIT = "cache.img", "cache.bm", "cache.bm.commit"
FILES = IMAGE, BITMAP, COMMIT
servers, loops = [], []
atexit.register(lambda: [loop("-d", d) for d in loops])
atexit.register(lambda: [(p.kill(), p.wait()) for p in servers])


def start(*arguments):
    p = subprocess.Popen(["xnbd-server", *arguments], stderr=open("log", "ab"))
    servers.append(p)
    return p


def end(p, signal):
    p.send_signal(signal)
    p.wait()
    servers.remove(p)


def connect(path, p):
    for _ in range(1000):
        if p.poll() is not None:
            return None
        try:
            h = nbd.NBD()
            h.connect_unix(path)
            return h
        except nbd.Error:
            time.sleep(0.005)
    sys.exit("no server at " + path)


# The header of the commit file, see core/state.c.
COPY, USED, COUNTER, RECENT = 4096, 1024, 56, slice(56 + 8 * 44, 56 + 8 * 76)


def loop(*arguments):
    return subprocess.run(["losetup", *arguments], check=True, capture_output=True, text=True).stdout.strip()


class Move:
    """A proxy, its files in a directory, and what clients have written."""

    def __init__(self, name, origin, device=False):
        self.dir, self.origin = name, origin
        self.disk = bytearray(open(origin + ".img", "rb").read())
        os.mkdir(name)
        self.image = self.path(IMAGE)
        if device:
            open(self.image, "wb").truncate(SIZE)
            self.attach()

    def attach(self):
        """To a loop device that is free: not to the one it had."""
        before = self.image
        self.image = loop("-f", "--show", self.path(IMAGE))
        loops.append(self.image)
        if before in loops:
            self.detach(before)

    def detach(self, device):
        loops.remove(device)
        loop("-d", device)

    def path(self, name):
        return self.dir + "/" + name

    def command(self, *options):
        return ["--proxy", *options, "--lport", "0", "--unix", "p.sock", "unix:" + self.origin + ".sock", "-",
                self.image, self.path(BITMAP), "ctl.sock"]

    def start(self):
        p = start(*self.command())
        return p, connect("p.sock", p)

    def write(self, h, seed, at, flush=True):
        data = bytes([seed]) * BLOCK
        h.pwrite(data, at)
        self.disk[at:at + BLOCK] = data
        if flush:
            h.flush()

    def headers(self):
        """Both copies, the newest last."""
        with open(self.path(COMMIT), "rb") as f:
            copies = [f.read(COPY), f.read(COPY)]
        return sorted(copies, key=lambda c: c[COUNTER:COUNTER + 8])

    def run(self, how, seed):
        """A server that fetches and writes, and its end."""
        p, h = self.start()
        h.pread(1 << 20, (seed * 5 % 7) << 20)
        for i in range(4):
            self.write(h, seed + i, (seed * 2 + i) * 17 * BLOCK)
        h.pread(64 << 10, (seed * 3 % 8 << 20) - (1 << 19) & SIZE - 1)
        self.write(h, seed, BLOCK * 5)
        until = time.time() + 120
        while not any(self.headers()[-1][RECENT]) and time.time() < until:
            time.sleep(0.01)
        self.end(p, how)

    def end(self, p, how):
        end(p, 15 if how == "clean" else 9)
        if how == "power cut":
            subprocess.run([sys.executable, HERE + "/boot.py", self.path(COMMIT)], check=True)

    def save(self, to):
        os.mkdir(to)
        for name in FILES:
            shutil.copy2(self.path(name), to)

    def sums(self):
        return {n: hashlib.sha256(open(self.path(n), "rb").read()).digest() for n in sorted(os.listdir(self.dir))}

    def keep(self):
        """The files themselves, and what is in them, for restore()."""
        os.mkdir(self.dir + ".kept")
        self.kept = {}
        for name in FILES:
            os.link(self.path(name), self.dir + ".kept/" + name)
            self.kept[name] = open(self.path(name), "rb").read(), os.stat(self.path(name)).st_mtime_ns

    def restore(self):
        for name, (data, ns) in self.kept.items():
            kept = self.dir + ".kept/" + name
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
            os.link(kept, self.path(name))
            if open(kept, "rb").read() != data:
                open(kept, "r+b").write(data)
            os.utime(kept, ns=(ns, ns))

    def remove(self):
        shutil.rmtree(self.dir)
        shutil.rmtree(self.dir + ".kept", ignore_errors=True)
        if self.image in loops:
            self.detach(self.image)


def in_place(source, to):
    with open(source, "rb") as f, open(to, "r+b") as t:
        if not to.startswith("/dev"):
            t.truncate(0)
        t.write(f.read())


def new_file(source, to):
    shutil.copyfile(source, to + ".tmp")
    os.rename(to + ".tmp", to)


def one_line(text):
    lines = [line for line in text.split("\n") if line]
    return lines[0] if len(lines) == 1 else sys.exit("not one line: %r" % text)


def look(move, how, case):
    what = f"{how}, {case}"
    before = move.sums()
    check = subprocess.run(["xnbd-server", "--check", move.image, move.path(BITMAP)], capture_output=True, text=True)
    p = subprocess.Popen(["xnbd-server", *move.command()], stderr=subprocess.PIPE, text=True)
    servers.append(p)
    h = connect("p.sock", p)
    if h is None:
        servers.remove(p)
        line = one_line(p.stderr.read())
        if p.returncode != 1 or check.returncode != 1 or one_line(check.stderr) != line:
            sys.exit(f"{what}: the start says {line}, --check {check.stderr} {check.returncode}")
        if move.sums() != before:
            sys.exit(f"{what}: refused, and something was changed")
        return "refused"
    if check.returncode:
        sys.exit(f"{what}: starts, but --check says {check.stderr}")
    for at in range(0, SIZE, 1 << 20):
        data = bytes(h.pread(1 << 20, at))
        if data != move.disk[at:at + (1 << 20)]:
            wrong = next(i for i in range(1 << 20) if data[i] != move.disk[at + i]) + at
            sys.exit(f"{what}: started, and the byte at {wrong} (block {wrong // BLOCK}) is wrong")
    h.shutdown()
    move.end(p, how)
    return "started"


def exchange(how, *names):
    def do(move, old):
        for name in names:
            how(f"{old}/{name}", move.path(name))
    return do


def remove(*names):
    def do(move, old):
        for name in names:
            os.unlink(move.path(name))
    return do


def torn(copies, boundary):
    """Of a write of the next header to these places (copy 0: that of the older one) the power
    cut leaves what comes before the boundary. Behind the first two sectors nothing is used."""
    def do(move, old):
        older, newest = move.headers()
        header = bytearray(newest)
        counter = int.from_bytes(header[COUNTER:COUNTER + 8], "big")
        header[COUNTER:COUNTER + 8] = (counter + 1).to_bytes(8, "big")
        sum_ = 0xCBF29CE484222325
        for byte in header[:USED - 8]:
            sum_ = (sum_ ^ byte) * 0x100000001B3 % (1 << 64)
        header[USED - 8:USED] = sum_.to_bytes(8, "big")
        with open(move.path(COMMIT), "r+b") as f:
            for copy in copies:
                f.seek((counter - 1 + (copy == 0)) % 2 * COPY)
                f.write(header[:boundary * 512])
    return do


def another_name(move, old):
    move.attach()


def exchanged(move, old):
    """The name of the device is that of another one."""
    move.detach(move.image)
    move.image = loop("-f", "--show", old + "/" + IMAGE)
    loops.append(move.image)


def over_device(move, old):
    in_place(f"{old}/{IMAGE}", move.image)


# What is done, and with whose files.
CASES = {"nothing": (None, lambda move, old: None)}
if sys.argv[1:] == ["devices"]:
    CASES["another name"] = None, another_name
    for old in "older", "foreign":
        CASES[f"exchanged for the {old} one"] = old, exchanged
        CASES[f"{old} bytes on it"] = old, over_device
        CASES[f"{old} bitmap and commit file"] = old, exchange(in_place, BITMAP, COMMIT)
else:
    for names in (IMAGE,), (BITMAP,), (COMMIT,), (BITMAP, COMMIT), FILES:
        for how in in_place, new_file:
            for old in "older", "foreign":
                CASES[f"{old} {' '.join(names)}, {how.__name__}"] = old, exchange(how, *names)
    CASES["no commit file"] = None, remove(COMMIT)
    CASES["no bitmap"] = None, remove(BITMAP)
    for copies in (0,), (1,), (0, 1):
        for boundary in range(1, 8):
            CASES[f"header torn, {copies}, {boundary}"] = None, torn(copies, boundary)


serial = 0


def origin(name):
    with open(name + ".img", "wb") as f:
        f.write(os.urandom(SIZE))
    connect(name + ".sock", start("--target", "--readonly", "--lport", "0", "--unix", name + ".sock", name + ".img"))


def new_move(how):
    global serial
    serial += 1
    move = Move(f"m{serial}", "o", sys.argv[1:] == ["devices"])
    move.run("clean", 1)
    shutil.rmtree("older", ignore_errors=True)
    move.save("older")
    move.run(how, 2)
    return move


origin("o")
origin("x")
foreign = Move("foreign-move", "x")
foreign.run("clean", 3)
foreign.save("foreign")
for how in "clean", "killed", "power cut":
    count = {"refused": 0, "started": 0}
    move = result = None
    for case, (old, do) in CASES.items():
        # What was refused is as it was. What was served is local in all blocks by now: that is good
        # enough for its header to be torn.
        if result == "refused" and move.image not in loops:
            move.restore()
        elif not move or not case.startswith("header"):
            if move:
                move.remove()
            move = new_move(how)
        if not os.path.exists(move.dir + ".kept") and not case.startswith("header"):
            move.keep()
        do(move, old)
        result = look(move, how, case)
        count[result] += 1
        if os.environ.get("VERBOSE"):
            print(f"{how}, {case}: {result}", file=sys.stderr)
    move.remove()
    print(f"{how}: {count['refused']} refused, {count['started']} started")
