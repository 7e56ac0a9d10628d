# SPDX-License-Identifier: GPL-2.0-or-later
# identity.py: the three files of a proxy exchanged, one by one and together, for older copies
# and for those of another move, and the header torn; after each end that a server can have.
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
servers = []
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


class Move:
    """A proxy, its files in a directory, and what clients have written."""

    def __init__(self, name, origin):
        self.dir, self.origin = name, origin
        self.disk = bytearray(open(origin + ".img", "rb").read())
        os.mkdir(name)

    def path(self, name):
        return self.dir + "/" + name

    def command(self, *options):
        return ["--proxy", *options, "--lport", "0", "--unix", "p.sock", "unix:" + self.origin + ".sock", "-",
                self.path(IMAGE), self.path(BITMAP), "ctl.sock"]

    def start(self):
        p = start(*self.command())
        return p, connect("p.sock", p)

    def write(self, h, seed, at, flush=True):
        data = bytes([seed]) * BLOCK
        h.pwrite(data, at)
        self.disk[at:at + BLOCK] = data
        if flush:
            h.flush()

    def run(self, how, seed):
        """A server that fetches and writes, and its end."""
        p, h = self.start()
        h.pread(1 << 20, (seed * 5 % 7) << 20)
        for i in range(4):
            self.write(h, seed + i, (seed * 2 + i) * 17 * BLOCK)
        h.pread(64 << 10, (seed * 3 % 8 << 20) - (1 << 19) & SIZE - 1)
        self.write(h, seed, BLOCK * 5)
        time.sleep(0.01)
        end(p, 15 if how == "clean" else 9)
        if how == "power cut":
            subprocess.run([sys.executable, HERE + "/boot.py", self.path(COMMIT)], check=True)

    def save(self, to):
        os.mkdir(to)
        for name in FILES:
            shutil.copy2(self.path(name), to)

    def sums(self):
        return {n: hashlib.sha256(open(self.path(n), "rb").read()).digest() for n in sorted(os.listdir(self.dir))}


def in_place(source, to):
    with open(source, "rb") as f, open(to, "r+b") as t:
        t.truncate(0)
        t.write(f.read())


def new_file(source, to):
    shutil.copyfile(source, to + ".tmp")
    os.rename(to + ".tmp", to)


def one_line(text):
    lines = [line for line in text.split("\n") if line]
    return lines[0] if len(lines) == 1 else sys.exit("not one line: %r" % text)


def look(move, what):
    before = move.sums()
    check = subprocess.run(["xnbd-server", "--check", move.path(IMAGE), move.path(BITMAP)], capture_output=True, text=True)
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
        if bytes(h.pread(1 << 20, at)) != move.disk[at:at + (1 << 20)]:
            data = bytes(h.pread(1 << 20, at))
            wrong = next(i for i in range(1 << 20) if data[i] != move.disk[at + i]) + at
            sys.exit(f"{what}: started, and the byte at {wrong} (block {wrong // BLOCK}) is wrong")
    h.shutdown()
    end(p, 9)
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


CASES = {"nothing": lambda move, old: None}
for names in (IMAGE,), (BITMAP,), (COMMIT,), (BITMAP, COMMIT), FILES:
    for how in in_place, new_file:
        for old in "older", "foreign":
            CASES[f"{old} {' '.join(names)}, {how.__name__}"] = exchange(how, *names)
CASES["no commit file"] = remove(COMMIT)
CASES["no bitmap"] = remove(BITMAP)


def torn(copy, sector):
    """What a power cut leaves of a write of this copy: its sectors up to here are new."""
    def do(move, old):
        header = bytearray(open(move.path(COMMIT), "rb").read()[:8192])
        other = header[4096 * (1 - copy):][:1024]
        with open(move.path(COMMIT), "r+b") as f:
            f.seek(4096 * copy + 512 * sector)
            f.write(other[512 * sector:512 * sector + 512])
    return do


for copy in range(2):
    for sector in range(2):
        CASES[f"copy {copy} of the header torn, sector {sector}"] = torn(copy, sector)


serial = 0


def origin(name):
    with open(name + ".img", "wb") as f:
        f.write(os.urandom(SIZE))
    connect(name + ".sock", start("--target", "--readonly", "--lport", "0", "--unix", name + ".sock", name + ".img"))


origin("o")
origin("x")
foreign = Move("foreign-move", "x")
foreign.run("clean", 3)
foreign.save("foreign")
for how in "clean", "killed", "power cut":
    refused = started = 0
    for case, do in CASES.items():
        # After a crash nothing tells that somebody has written over a file in its own place.
        if how != "clean" and case.endswith("in_place") and "older cache.bm.commit, " not in case:
            continue
        serial += 1
        move = Move(f"m{serial}", "o")
        move.run("clean", 1)
        move.save("older")
        move.run(how, 2)
        do(move, "foreign" if case.startswith("foreign") else "older")
        if look(move, f"{how}, {case}") == "refused":
            refused += 1
        else:
            started += 1
        shutil.rmtree("older")
        shutil.rmtree(move.dir)
    print(f"{how}: {refused} refused, {started} started")
