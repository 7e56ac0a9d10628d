# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# chain.py SEED: an oldstyle origin, our proxy, our proxy again in a machine, the kernel's
# client over four connections, and a file system in use. At each hop the origin is left for
# another address and comes back, the rest is copied, the switch is made, and what was
# before it is stopped for good. At the end the file system is looked at from the host.
import hashlib, os, random, re, subprocess, sys, time
from machine import HOST, PATIENCE, XNBDBOX, Machine, connect, free_port, make_ext4, spawn
from model import expect_clean, read_files

rng = random.Random(int(sys.argv[1]))
MIB = 1 << 20
SIZE = 48 * MIB
RATE = 8 * MIB  # of the copies, a second: they are to last while the work goes on


def digest(content):
    return hashlib.sha256(content).hexdigest()


def make_origin():
    os.mkdir("tree")
    files = {f"file{i}": rng.randbytes(rng.randrange(1, 4 * MIB)) for i in range(8)}
    for name, content in files.items():
        with open("tree/" + name, "wb") as f:
            f.write(content)
    with open("origin.img", "wb") as f:
        f.write(make_ext4("fs.img", SIZE, "-b", "1024", "-d", "tree"))
    return {name: digest(content) for name, content in files.items()}


def old_origin():
    port = free_port()
    p = spawn("nbdkit", "-f", "-o", "-r", "-i", "127.0.0.1", "-p", str(port), "file", "origin.img")
    connect(port).shutdown()
    return p, port


def bgctl(*words):
    """To the proxy of the host."""
    p = subprocess.run((XNBDBOX, "xnbd-bgctl", *words), capture_output=True, text=True, timeout=PATIENCE)
    if p.returncode:
        sys.exit(f"{' '.join(words)}: {p.stderr}")
    return dict(line.split(" ", 1) for line in p.stdout.splitlines())


def end(process):
    process.kill()
    process.wait()


def sums(m):
    said = m.run("sync; echo 3 >/proc/sys/vm/drop_caches; cd /c; sha256sum $(find . -type f); cd /")
    return {line.split()[1][2:]: line.split()[0] for line in said.splitlines()}


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found}, not {expected}")


files = make_origin()
with open("origin.img", "rb") as f:
    before = digest(f.read())
first, port = old_origin()
middle_port = free_port()
middle = spawn(XNBDBOX, "xnbd-server", "--proxy", "--rate", str(RATE), "--laddr", "127.0.0.1", "--lport", str(middle_port),
               "127.0.0.1", str(port), "middle.img", "middle.bm", "middle.ctl", stderr=open("middle.log", "w"))
connect(middle_port).shutdown()
with open("cache.img", "wb") as f:
    f.truncate(SIZE + MIB)
with open("state.img", "wb") as f:
    f.write(make_ext4("fs.img", 16 * MIB))
m = Machine("cache.img", "state.img")
m.run("mkdir -p /c && mount -t ext4 /dev/vdb /b")
m.run(f"xnbd-server --proxy --daemonize --lport 8521 --rate {RATE} {HOST} {middle_port} /dev/vda /b/cache.bm /run/ctl.sock")
m.run("nbd-client -C 4 -N '' 127.0.0.1 8521 /dev/nbd0 && mount -t ext4 /dev/nbd0 /c")
m.run(f"{{ fsload /c {rng.randrange(1 << 30)} >/run/work 2>&1; echo status $? >>/run/work; }} & true")
m.run("xnbd-bgctl --cache-all2 /run/ctl.sock")


def work(expected=""):
    """It has found nothing wrong, and goes on."""
    expect("the work says", m.run("cat /run/work"), expected)
    m.run(f"at=$(stat -c %y /c/work*); moved() {{ [ \"$at\" != \"$(stat -c %y /c/work*)\" ]; }}; until_true {PATIENCE} moved")


work()
end(first)
time.sleep(1)
second, port = old_origin()
bgctl("--reconnect", "middle.ctl", "127.0.0.1", str(port))
work()
bgctl("--cache-all", "middle.ctl")
work()
bgctl("--switch", "middle.ctl")
end(second)
m.run(f"xnbd-bgctl --reconnect /run/ctl.sock {HOST} {middle_port}")
work()
m.run("xnbd-bgctl --cache-all /run/ctl.sock && xnbd-bgctl --switch /run/ctl.sock")
end(middle)
work()
expect("modes", (m.query()["mode"], m.query()["cached"]), ("target", m.query()["blocks"]))
m.run("kill $(pidof fsload); wait; true")
said = m.run("cat /run/work")
if not re.fullmatch(r"right after \d{3,} steps\nstatus 0\n", said):
    sys.exit("the work says: " + said)
found = sums(m)
expect("files of the origin", {n: s for n, s in found.items() if not n.startswith("work")}, files)
m.run("umount /c && nbd-client -d /dev/nbd0")
m.run("kill $(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p'); until_true 300 umount /b; sync")
m.kill()
with open("cache.img", "rb") as f:
    disk = f.read(SIZE)
expect_clean("the file system", disk)
expect("files, seen from the host", {n: digest(c or b"") for n, c in zip(found, read_files(disk, *("/" + n for n in found)))}, found)
for image in "origin.img", "middle.img":
    with open(image, "rb") as f:
        expect(image, digest(f.read(SIZE)), before)
with open("console.log", errors="replace") as f:
    trouble = re.findall(r".*(?:I/O error|EXT4-fs error|nbd.*(?:timed out|error)).*", f.read())
if trouble:
    sys.exit("\n".join(trouble))
print("ok")
