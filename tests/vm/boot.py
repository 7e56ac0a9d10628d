# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# boot.py shutdown|power|away|demo SEED [INITRD]: a machine with an empty disk boots from the network,
# by config/initramfs/init, and moves onto its own disk while it runs. INITRD: a distribution's
# initramfs that calls it (build_glue.sh); such a one sets up the network itself.
#   shutdown: the origin is lost in the middle and comes back; after the switch it is gone
#             for good; clean shutdown; next boot from the machine's own disk alone. Before, while and after
#             that, the server's program is exchanged for one that is on the root file system. With dracut, the last boot has no
#             network, and one with another root= than what moves is refused. With our own initramfs, the origin is found by TLS,
#             and a boot trace is recorded
#   power:    the power is cut ROUNDS times between the first boot and the switch, and once
#             after it; each time the next boot goes on
#   away:     the power is cut, and the next boot has no origin; then there is a wrong one,
#             then the right one; here the commit file is a partition without a file system, and there is a word for
#             another disk, which is wrong
#   demo:     shutdown, with a transcript
import hashlib, os, random, re, shutil, struct, sys, threading, time
from disk import SECTOR, Disk, outcome
from machine import BUILD, HOST, PATIENCE, XNBDBOX, Machine, connect, free_port, make_ext4, spawn
from model import expect_clean, read_files
from root_server import check_server, expect, kill_server, query, upgrade

KIND, rng = sys.argv[1], random.Random(int(sys.argv[2]))
INITRD = sys.argv[3] if len(sys.argv) > 3 else "boot/initrd"
DEMO = KIND == "demo"
DRACUT = INITRD.startswith("dracut")
SECRET = KIND == "shutdown" and INITRD == "boot/initrd"  # key and trace are in the initramfs, which is gone later
BLANK = KIND == "away"  # the partition of the bitmap has no file system
OUTAGE = float(os.environ.get("OUTAGE", 30)) if DEMO else 3  # seconds without origin
MIB = 1 << 20
BITMAP, CACHE, END = 1 * MIB, 17 * MIB, 90 * MIB  # where the partitions are on the disk
ROOT = 64 * MIB
RATE = {"demo": 3 * MIB, "shutdown": MIB // 64}.get(KIND, MIB // 16)  # of the copy, a second: it is to last, on a busy host, too
KILLS = int(os.environ.get("KILLS") or 5)
CUTS = int(os.environ.get("ROUNDS") or 10)
LOCAL = "/dev/vda2"
BITMAP_UUID = "5a3f1c70-0d2b-4e6f-8a91-c3d4e5f60718"
# How the command line names cache and bitmap
NAMES = {"power": ("/dev/disk/by-id/virtio-XNBD-1-part2", "SERIAL=XNBD-1-part1"),
         "away": (LOCAL, "PARTUUID=78563412-01")}.get(KIND, ("PARTUUID=78563412-02", f"UUID={BITMAP_UUID}"))
NET = "xnbd.ip=10.0.2.15/24,eth0"
if INITRD != "boot/initrd":  # others know ip=, and give up sooner than we on a busy host
    NET = ("ip=10.0.2.15::10.0.2.2:255.255.255.0:::off rw"
           f" systemd.default_timeout_start_sec={PATIENCE} udev.event_timeout={PATIENCE} rd.retry={PATIENCE}")
began = time.monotonic()
log = open("boot.log", "w", buffering=1)


def say(text):
    if DEMO:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)


def digest(content):
    return hashlib.sha256(content).hexdigest()


class Origin:
    """The machine that has the root file system: ours, which can be lost."""

    def __init__(self):
        self.port = free_port()
        self.log = open("origin.log", "a+")
        root = shutil.copytree(BUILD + "/boot/root", "root", symlinks=True)
        os.mkdir("root/data")
        self.files = {}
        for i in range(12):
            content = rng.randbytes(rng.randrange(1, 6 * MIB))
            with open(f"{root}/data/file{i}", "wb") as f:
                f.write(content)
            self.files[f"file{i}"] = digest(content)
        self.sample = content[:4096]  # of the last of them
        with open("origin.img", "wb") as f:
            f.write(make_ext4("fs.img", ROOT, "-d", "root"))
        self.sum = self.digest()

    def digest(self):
        with open("origin.img", "rb") as f:
            return digest(f.read())

    def start(self, image="origin.img"):
        self.process = spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--laddr", "127.0.0.1",
                             "--lport", str(self.port), *(("--tls-psk", "keys") if SECRET else ()), image, stderr=self.log)
        connect(self.port).shutdown()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def said(self):
        """But that clients have a key."""
        self.log.seek(0)
        return [line for line in self.log if "TLS: connected" not in line]


def empty_disk():
    """Two partitions: an empty file system for the bitmap, or nothing, and what a used disk has."""
    table = b"".join(struct.pack("<BxxxBxxxII", 0, 0x83, start // SECTOR, (end - start) // SECTOR)
                     for start, end in ((BITMAP, CACHE), (CACHE, END)))
    head = (bytes(440) + bytes.fromhex("12345678") + bytes(2) + table + bytes(32) + b"\x55\xaa").ljust(BITMAP, b"\0")
    return head + (bytes(CACHE - BITMAP) if BLANK else make_ext4("fs.img", CACHE - BITMAP, "-U", BITMAP_UUID)) + rng.randbytes(END - CACHE)


def with_secrets(initrd):
    """The initramfs, and behind it an archive with a key and a boot trace."""
    with open("keys", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
        f.write(f"move:{rng.randbytes(32).hex()}\n")
    with open(f"{BUILD}/{initrd}", "rb") as f:
        archive = f.read()
    for name, content in (("etc/xnbd.keys", open("keys", "rb").read()), ("etc/xnbd.trace", b"xnbd-trace 1 %d\n16000 16\n" % ROOT), ("TRAILER!!!", b"")):
        archive += b"\0" * (-len(archive) % 4)
        fields = (0, 0o100600, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08x" % n for n in fields) + name.encode() + b"\0"
        archive += b"\0" * (-len(archive) % 4) + content
    with open("initrd", "wb") as f:
        f.write(archive)
    return os.path.abspath("initrd")


def switch_on(drive, ready=True, overwrite=True, words="", **more):
    return Machine(drive, initrd=INITRD, memory=512, ready=ready, **more, disk=",serial=XNBD-1", line=("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=line"), append=(
        "loglevel=7 nosoftlockup rcupdate.rcu_cpu_stall_suppress=1"  # a busy host is no error
        f" xnbd.origin={f'nbds://move@{HOST}:{origin.port}/?tls-psk-file=/etc/xnbd.keys xnbd.trace=/etc/xnbd.trace' if SECRET else f'{HOST}:{origin.port}'} xnbd.cache={NAMES[0]} xnbd.bitmap={NAMES[1]}"
        f"{' xnbd.overwrite=yes' if overwrite else ''}"
        f" xnbd.auto=copy,switch xnbd.rate={RATE} {NET}{' xnbd.disk=more' * BLANK} {words}"))


def boot(drive, **more):
    m = switch_on(drive, **more)
    root = m.run("sed -n 's|^\\([^ ]*\\) / ext4 .*|\\1|p' /proc/mounts").strip()
    say(f"The machine is up, a login prompt is there. Its root file system is on {root}")
    return m, root


def wait_for(m, key, value):
    m.run(f"is_so() {{ [ \"$(query {key})\" = '{value}' ]; }}; until_true {PATIENCE} is_so")


def set_rate(m, rate):
    m.run(f"xnbd-bgctl --cache-all2 --rate {rate} /run/xnbd/ctl")


def hurry(m):
    if not DEMO:
        set_rate(m, 0)


def copy_until(m, goal):
    """So many blocks are here; then the copy is slow again."""
    set_rate(m, 8 * MIB)
    m.run(f"is_so() {{ [ $(query cached) -ge {goal} ]; }}; until_true {PATIENCE} is_so")
    set_rate(m, RATE)


def read_all(m):
    """A program that wants all files. It has ended when there is /run/read."""
    m.run("(cat /data/file* | sha256sum >/run/sum; echo done >/run/read) & true")


def expect_waiting(m):
    expect("the read of what is not here", m.run("ls /run/read 2>/dev/null || true"), "")


def check_files(m, expected, which="*"):
    """What the machine reads, and not from its memory."""
    said = m.run(f"sync; echo 3 >/proc/sys/vm/drop_caches; cd /data; sha256sum {which}; cd /")
    found = {line.split()[1]: line.split()[0] for line in said.splitlines()}
    wrong = {n for n in {*found, *expected} if found.get(n) != expected.get(n)}
    if wrong:
        sys.exit("files are not as they should be: " + " ".join(sorted(wrong)))


def write(m, name, files):
    """A file of bytes by chance, acknowledged by fsync."""
    kib = rng.randrange(1, 300)
    m.run(f"dd if=/dev/urandom of=/run/x bs=1k count={kib} 2>/dev/null")
    m.run(f"dd if=/run/x of=/data/{name} bs=64k conv=fsync 2>/dev/null")
    files[name] = m.run("sha256sum /run/x").split()[0]


def check_console(*messages):
    """No trouble in the kernel's log, and these messages of the server."""
    with open("console.log", errors="replace") as f:
        said = f.read()
    trouble = re.findall(r".*(?:I/O error|EXT4-fs error|IO_FLUSHER|oom_score_adj|timed out|Call Trace|down: .* in use).*", said)
    if trouble:
        sys.exit("on the console: " + "\n".join(trouble))
    for message in messages:
        if message not in said:
            sys.exit(f"the console does not say: {message}")
    say("Its console, without an I/O error in the kernel's log:")
    for line in said.splitlines():
        if re.search(r"xnbd|EXT4-fs|down:|login:", line) and "Command line" not in line and "command line" not in line:
            say("    | " + line.strip())


def power_off(m, *messages):
    m.tell("poweroff")
    m.process.wait(PATIENCE)
    m.line.close()
    if "down: good night" not in open("console.log", errors="replace").read():
        sys.exit("this was no clean shutdown")
    check_console(*messages)


def check_disk(content, files):
    """From the host: two clean file systems, and every file."""
    part = content[CACHE:CACHE + ROOT]
    expect_clean("the file system root", part)
    if not BLANK:
        expect_clean("the file system bitmap", content[BITMAP:CACHE])
    found = read_files(part, *("/data/" + name for name in files))
    expect("files seen from the host", {n: digest(c or b"") for n, c in zip(files, found)}, files)


def expect_refusal(drive, message, **more):
    """Of a boot: with this on the console."""
    m = switch_on(drive, ready=False, overwrite=False, **more)
    end = time.monotonic() + PATIENCE
    said = ""
    while not re.search(message, said):
        if time.monotonic() > end:
            sys.exit(f"the console does not say: {message}\n{said[-2000:]}")
        time.sleep(0.2)
        with open("console.log", errors="replace") as f:
            said = f.read()
    m.kill()


def second_boot(drive, files):
    """From the machine's own disk: nobody serves it."""
    say("Boot again, with the same command line. The origin is gone")
    m, root = boot(drive, overwrite=False, **({"nic": (), "words": "rd.retry=60"} if DRACUT else {}))
    expect("root file system", root, LOCAL)
    expect("servers", m.run("ls /dev/nbd0 >/dev/null; pidof @nbd-server xnbd-server || true"), "")
    check_files(m, files)
    write(m, "own", files)
    say(f"All {len(files)} files are as they were written")
    power_off(m)


def move_and_shut_down():
    with open("disk.img", "wb") as f:
        f.write(empty_disk())
    files = dict(origin.files)
    if not DEMO:
        with open("disk.img", "rb") as f:
            before = digest(f.read()[CACHE:])
        expect_refusal("disk.img", "data of an unknown kind.*Nothing was overwritten")
        with open("disk.img", "rb") as f:
            expect("the disk that was refused", digest(f.read()[CACHE:]), before)
    say("A machine with an empty disk is switched on")
    m, root = boot("disk.img")
    expect("root file system", root, "/dev/nbd0")
    say(check_server(m))
    write(m, "early", files)
    if SECRET:
        upgrade(m, "/bin/xnbdbox", "/data")  # before a kill, after which nothing is recorded
        m.run("runs=$(wc -l </run/xnbd/trace); cat /data/file0 >/dev/null;"
              f" is_so() {{ [ $(wc -l </run/xnbd/trace) -gt $runs ]; }}; until_true {PATIENCE} is_so")
    if not DEMO:
        kill_server(m, KILLS, "/data")
    upgrade(m, "/bin/xnbdbox", "/data")
    say("Three times another program has taken the server's place, each read from the root file system that it serves")
    write(m, "meanwhile", files)  # so that its inode, and the programs, are here
    origin.kill()
    cached, blocks = int(query(m, "cached")), int(query(m, "blocks"))
    say(f"The origin is lost. {cached} of {blocks} blocks are here")
    if cached >= blocks * 8 // 10:
        sys.exit(f"too late: {cached} of {blocks} blocks were copied when the origin was lost")
    read_all(m)
    write(m, "meanwhile", files)
    say("The machine goes on: it has written a file, with fsync. A program that wants what is not here waits")
    time.sleep(OUTAGE)
    expect("origin", query(m, "mode"), "proxy")
    expect_waiting(m)
    if not DEMO:
        upgrade(m, "/bin/xnbdbox", "/data")
        expect_waiting(m)
    origin.start()
    say("The origin is back")
    hurry(m)
    m.run(f"until_true {PATIENCE} test -e /run/read")
    wait_for(m, "mode", "target")
    say("Every block is here, and the switch is done. The origin is stopped, for good")
    origin.kill()
    if not DEMO:
        upgrade(m, "/bin/xnbdbox", "/data")
    check_files(m, files)
    write(m, "late", files)
    say(f"All {len(files)} files are right, and a new one is written. Shutdown")
    power_off(m, "trying again", "is back")
    with open("disk.img", "rb") as f:
        check_disk(f.read(), files)
    say("The file systems on the disk are clean, seen from the host")
    second_boot("disk.img", files)
    if DRACUT:
        expect_refusal("disk.img", f"root=/dev/vda1 is not {LOCAL}, the file system that moves", words="root=/dev/vda1")
    with open("disk.img", "rb") as f:
        check_disk(f.read(), files)
    say(f"The file systems are still clean, and all {len(files)} files are on the disk, seen from the host")
    say("The machine has moved, and has not noticed")


class Power:
    """The machine's disk, whose cache a power cut loses."""

    URI = "nbd+unix:///?socket=disk.sock"

    def __init__(self):
        self.off = threading.Event()
        self.disk = Disk("disk.sock", empty_disk(), self.off)

    def fails_in_flush(self, flushes):
        """In the middle of that one, from now on. The copy's commits bring some every few seconds."""
        self.disk.flushes_left = flushes

    def wait(self):
        if not self.off.wait(PATIENCE):
            sys.exit("there were not so many FLUSHes")

    def cut(self, m):
        self.off.set()
        m.kill()
        self.disk.wait()
        check_console()
        after = outcome(self.disk.stable, self.disk.pending, rng)
        self.off.clear()
        self.disk.power_on(after)


# Until the power fails. Nobody has been told that this file is there.
TORN = "while dd if=/dev/urandom of=/data/torn bs=64k count=4 conv=fsync; do :; done"


def cut_while_it_boots(power):
    """While file systems are mounted, the server starts, or soon after."""
    flushes = rng.randrange(1, 12)
    power.fails_in_flush(flushes)
    m = switch_on(power.URI, ready=False)
    power.wait()
    power.cut(m)
    return f"in FLUSH {flushes} of a boot"


class Progress:
    """What must be there at the next boot, whatever happens."""

    def __init__(self):
        self.written = {}  # files, by the machine
        self.cached = 0  # blocks that were committed

    def check(self, m):
        cached, blocks = int(query(m, "cached")), int(query(m, "blocks"))
        if cached < self.cached:
            sys.exit(f"{cached} blocks are here, {self.cached} were committed before the power failed")
        if cached >= blocks * 9 // 10:
            sys.exit(f"too late: {cached} of {blocks} blocks were copied before the power failed often enough")
        if self.written:
            check_files(m, self.written, " ".join(self.written))
        said = m.run("head -c 4096 /data/file11 | sha256sum")
        expect("what the origin has", said.split()[0], digest(origin.sample))

    def write(self, m):
        cached = int(query(m, "cached"))
        write(m, f"file_of_{rng.randrange(5)}", self.written)
        self.cached = cached  # the FLUSH was a commit


def cut_while_it_works(power, progress, goal):
    """When goal blocks are here, and files were written. Some cuts are in the middle of a FLUSH."""
    m, root = boot(power.URI)
    expect("root file system", root, "/dev/nbd0")
    progress.check(m)
    progress.write(m)
    copy_until(m, goal)
    for _ in range(rng.randrange(3)):
        progress.write(m)
    if rng.random() < 0.6:
        power.fails_in_flush(rng.randrange(1, 4))
        m.tell(TORN)
        power.wait()
    power.cut(m)
    return f"{progress.cached} blocks are safe, and {len(progress.written)} files"


def cut_at_the_switch(power, progress):
    """In one of the last commits, or soon after."""
    m, root = boot(power.URI)
    progress.check(m)
    hurry(m)
    m.run(f"is_so() {{ [ $(query cached) -gt $(($(query blocks) * 95 / 100)) ]; }}; until_true {PATIENCE} is_so")
    progress.write(m)
    power.fails_in_flush(rng.randrange(1, 3))
    m.tell(TORN)
    power.wait()
    power.cut(m)


def move_and_cut_power():
    power, progress = Power(), Progress()
    for i in range(CUTS - 1):
        if rng.random() < 0.4:
            what = cut_while_it_boots(power)
        else:
            what = cut_while_it_works(power, progress, ROOT // 4096 * (i + 1) * 8 // 10 // CUTS)
        print(f"{time.monotonic() - began:.1f} s: cut {i + 1}: {what}", file=log)
    cut_at_the_switch(power, progress)
    m, root = boot(power.URI)
    print(f"{time.monotonic() - began:.1f} s: cut {CUTS}: at the switch; the root is on {root}", file=log)
    if root == "/dev/nbd0":  # it was before
        hurry(m)
        wait_for(m, "mode", "target")
    origin.kill()
    files = {**origin.files, **progress.written}
    m.run("rm -f /data/torn")
    check_files(m, files)
    for i in range(3):
        write(m, f"late{i}", files)
    power.cut(m)
    second_boot(power.URI, files)
    power.disk.wait()
    check_disk(bytes(power.disk.now), files)


def cut_and_boot_without_origin():
    """What is here, half of the disk, is enough for the boot, and for what the machine does then."""
    power, progress = Power(), Progress()
    m, root = boot(power.URI)
    progress.check(m)
    copy_until(m, ROOT // 4096 // 2)
    progress.write(m)
    m.tell(TORN)
    power.fails_in_flush(2)
    power.wait()
    power.cut(m)
    origin.kill()
    m, root = boot(power.URI, overwrite=False)
    expect("root file system", root, "/dev/nbd0")
    progress.check(m)
    progress.write(m)
    read_all(m)
    with open("other.img", "wb") as f:
        f.write(make_ext4("fs.img", ROOT))
    origin.start("other.img")
    wait_for(m, "origin_error", "it serves a disk of other content")
    progress.check(m)
    progress.write(m)
    expect_waiting(m)
    origin.kill()
    origin.start()
    wait_for(m, "origin_state", "up")
    m.run(f"until_true {PATIENCE} test -e /run/read")
    hurry(m)
    wait_for(m, "mode", "target")
    origin.kill()
    files = {**origin.files, **progress.written}
    m.run("rm -f /data/torn")
    check_files(m, files)
    power_off(m, "xnbd: more: cache= is missing", "continuing with local blocks", "it serves a disk of other content", "is back")
    power.disk.wait()
    check_disk(bytes(power.disk.now), files)


origin = Origin()
if SECRET:
    INITRD = with_secrets(INITRD)
origin.start()
if KIND == "power":
    move_and_cut_power()
elif KIND == "away":
    cut_and_boot_without_origin()
else:
    move_and_shut_down()
expect("the origin's disk", origin.digest(), origin.sum)
expect("what the origin says", origin.said(), [])
if not DEMO:
    print("ok")
