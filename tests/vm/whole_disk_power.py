# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# whole_disk_power.py INITRD LAYOUT SEED: the disk of whole_disk.py moves, and the power is cut ten times between the first boot and the
# switch; both disks of the machine lose what no FLUSH has made safe, or some of it. Each next boot goes on. CUTS=3: no more than that.
#   1          when the move begins
#   2, 7       in the middle of an installation, when the system is up; the next boot has no origin
#   3, 8       that boot has come up with what is here; once the origin has come back, and once not
#   4 to 6     while the system boots
#   9          when all is here
#   10         while a boot switches
# After each cut both disks are looked at from outside, for several throws of the dice: nothing shows the half-copied disk, no
# block that was local is forgotten, what nobody wrote is as on the origin, the journal is all that e2fsck needs, and what was
# written with fsync is there. At the end: boots from the local disk, with the words and without. The program is one that can compare:
# the one of the initramfs has no record of who has written what.
import hashlib, os, random, shutil, subprocess, sys, threading, time
import gpt
from debian import HOLD, boot, moves_from, power_off, start_origin
from debian_disk import LOCAL, SERVED, DebianDisk, expect, expect_hidden, expect_no_server
from disk import Disk, outcome
from layouts import MIB, read, write
from machine import BUILD, PATIENCE, XNBDBOX, expect_quiet
from model import BLOCK, bits, is_covered, noted, read_files, uncover

INITRD, LAYOUT, rng = sys.argv[1], sys.argv[2], random.Random(int(sys.argv[3]))
CUTS = int(os.environ.get("CUTS") or 10)
RATE = 32 << 10  # of the copy, bytes a second: it is to last
THROWS = 3
RARE = {f"/root/rare{n}": rng.randbytes(MIB) for n in range(2)}  # files that nobody reads but who wants what is not here
began = time.monotonic()
log = open("power.log", "w", buffering=1)


class Power:
    """The machine's disks, whose caches a power cut loses, and what is known of them."""
    DRIVES = "nbd+unix:///?socket=state.sock", "nbd+unix:///?socket=disk.sock"

    def __init__(self):
        self.off = threading.Event()
        self.state, self.disk = Disk("state.sock", bytes(16 * MIB), self.off), Disk("disk.sock", bytes(disk.size), self.off)
        self.local, self.files, self.cached, self.cuts = bits(b"", disk.size), {}, 0, 0
        self.origin = read("origin.img")

    def fails_in_flush(self, flushes, patience=PATIENCE):
        """In the middle of that one, from now on, of one of both disks; or after so many seconds."""
        rng.choice((self.state, self.disk)).flushes_left = flushes
        return self.off.wait(patience)

    def cut(self, m, what):
        self.off.set()
        m.kill()
        for d in self.state, self.disk:
            d.wait()
        expect_quiet()
        pending = len(self.state.pending), len(self.disk.pending)
        for _ in range(THROWS):
            state, image = (outcome(d.stable, d.pending, rng) for d in (self.state, self.disk))
            local = self.look(state, image)
        self.local = local
        self.cuts += 1
        print(f"{time.monotonic() - began:.0f} s: cut {self.cuts}: {what}; {sum(local)} blocks are local, {len(self.files)} files are safe,"
              f" {pending[0]} and {pending[1]} writes were in the caches", file=log)
        if self.cuts == CUTS < 10:
            print(f"{CUTS} cuts; {time.monotonic() - began:.0f} s\nok")
            sys.exit()
        self.off.clear()
        self.state.power_on(state)
        self.disk.power_on(image)

    def look(self, state, image):
        """From outside. Returns which blocks are local."""
        local, written = bits(state, disk.size), noted(state, disk.size)
        if any(was and not now for was, now in zip(self.local, local)) or sum(local) < self.cached:
            sys.exit(f"{sum(local)} blocks count as local, there were {max(self.cached, sum(self.local))}")
        now, shown = uncover(image, state)
        if not written and any(local) and not all(local):
            sys.exit("it is not known who has written what")
        if not all(local):
            write("cut.img", image)
            if any(shown) or subprocess.run(["blkid", "-p", "cut.img"], stdout=subprocess.PIPE).stdout:
                sys.exit("the half-copied disk is not covered")
        together = bytearray(self.origin)
        for at in (b * BLOCK for b, here in enumerate(local) if here):
            together[at:at + BLOCK] = now[at:at + BLOCK]
            if written and not written[at // BLOCK] and together[at:at + BLOCK] != self.origin[at:at + BLOCK]:
                sys.exit(f"block {at // BLOCK} is not the origin's, and nothing says that anybody has written it")
        gpt.expect_valid(together)
        expect("files", dict(zip(self.files, read_files(disk.layout.find(together), *self.files))), self.files)
        return local


def make_initrd():
    """That with another program."""
    os.makedirs("initramfs/usr/bin")
    shutil.copy(XNBDBOX, "initramfs/usr/bin/xnbdbox")
    archive = subprocess.run("cd initramfs && find . -type f | cpio -o -H newc --quiet", shell=True, check=True, capture_output=True).stdout
    first = read(f"{BUILD}/{INITRD}")
    write("initrd", first + bytes(-len(first) % 4) + archive)
    return os.path.abspath("initrd")


def create(m):
    """A file, and all that was written before, is safe."""
    name, content = f"/root/file{rng.randrange(8)}", f"{rng.random()}\n"
    m.run(f"echo {content.strip()} >{name}; sync")
    power.files[name] = content.encode()


def install(m):
    m.run("dpkg -i /root/moved.deb && dpkg -V moved")


def start(**more):
    return boot(initrd, words, moves, drives=Power.DRIVES, **more)


def boot_and_check():
    """The system is up, by the server, and has all that it is known to have."""
    m, took = start()
    disk.check_system(m, SERVED)
    expect_hidden(m)
    cached = int(m.run("query cached"))
    if cached < power.cached:
        sys.exit(f"{cached} blocks are local, {power.cached} were before the power failed")
    if cached > disk.size // BLOCK * 8 // 10:
        sys.exit(f"too late: {cached} blocks were copied before the power failed often enough")
    said = m.run("cat " + " ".join(power.files)) if power.files else ""
    expect("files", said, "".join(c.decode() for c in power.files.values()))
    return m, took


def work(m):
    """What needs all of dpkg."""
    install(m)
    cached = int(m.run("query cached"))
    create(m)
    power.cached = cached  # a sync is a commit


def cut_while_it_installs(m, what):
    flushes = rng.randrange(1, 12)
    m.tell("while dpkg -i /root/moved.deb; do :; done")
    power.fails_in_flush(flushes)
    power.cut(m, f"{what}, in FLUSH {flushes} of an installation")


def cut_while_it_boots(low, high):
    """In a FLUSH, or when there is none, between these parts of a boot."""
    at = rng.uniform(low, high) * booted
    m, _ = start(ready=False)
    time.sleep(at)
    power.fails_in_flush(1, 5)
    power.cut(m, f"{at:.0f} s after the start of a boot")


def boot_without_origin(returns):
    """What is here is enough for it, and for an installation. Who wants the rest waits."""
    origin.kill()
    origin.wait()
    m, _ = boot_and_check()
    expect("the origin is there", m.run("query origin_state") == "up\n", False)
    work(m)
    rare = rares.pop()
    m.run(f"(cat {rare} >/run/rare; echo done >/run/read) & true")
    time.sleep(10)
    expect("the read of what is not here", m.run("ls /run/read 2>/dev/null || true"), "")
    if returns:
        following = start_origin("origin.img", port)[1]
        m.run(f"until_true {PATIENCE} test -e /run/read")
        expect("what was not here", m.run("sha256sum </run/rare").split()[0], hashlib.sha256(RARE[rare]).hexdigest())
        cut_while_it_installs(m, "the origin was gone at the boot, and has come back")
    else:
        cut_while_it_installs(m, "the origin was gone at the boot, and still is")
        following = start_origin("origin.img", port)[1]
    return following


def copy_all():
    m, _ = boot_and_check()
    work(m)
    m.run("xnbd-bgctl --cache-all2 --rate 0 /run/xnbd/ctl")
    m.run(f"is_so() {{ [ \"$(query state)\" = complete ]; }}; until_true {PATIENCE} is_so")
    create(m)
    power.cached = disk.size // BLOCK
    said = m.run("xnbd-bgctl --verify --rate 0 /run/xnbd/ctl")
    if "compared" not in said:
        sys.exit(f"the comparison: {said}")
    print(said.strip(), file=log)
    expect("mode", m.run("query mode"), "proxy\n")
    cut_while_it_installs(m, "all is here")
    if not is_covered(power.state.now):
        sys.exit("not covered, and nobody has switched")


def cut_while_it_switches():
    flushes = rng.randrange(1, 4)
    m, _ = start(ready=False)
    power.fails_in_flush(flushes)
    power.cut(m, f"in FLUSH {flushes} of the boot that switches; it is {'covered' if is_covered(power.state.stable) else 'not covered any more'}")


def boot_from_disk(more):
    m, took = boot(initrd, words, more, drives=Power.DRIVES)
    disk.check_system(m, LOCAL)
    expect_no_server(m)
    install(m)
    create(m)
    power_off(m, 3 * HOLD + took / 2)
    expect_quiet()
    for d, image in (power.state, "state.img"), (power.disk, "disk.img"):
        d.wait()
        write(image, d.now)
        d.power_on(d.now)
    expect("cover", is_covered(read("state.img")), False)
    return disk.check(power.files)


# Without checksums, as in machine.py: a cut tears the superblock.
disk = DebianDisk(INITRD, LAYOUT, ("-O", "^metadata_csum"), {"/usr/bin/xnbdbox": read(XNBDBOX), **RARE})
rares = list(RARE)
initrd = make_initrd()
words = f"root={disk.layout.root} ro"
port, origin = start_origin("origin.img")
moves = moves_from(port) + f" xnbd.auto=copy xnbd.rate={RATE}"
power = Power()

m, _ = start(ready=False)
flushes = rng.randrange(1, 6)
power.fails_in_flush(flushes)
power.cut(m, f"in FLUSH {flushes} of the first boot")
m, booted = boot_and_check()
work(m)
cut_while_it_installs(m, "up")
origin = boot_without_origin(returns=True)
for part in 0, 1, 2:
    cut_while_it_boots(0.2 + part * 0.3, 0.5 + part * 0.3)
m, booted = boot_and_check()
work(m)
cut_while_it_installs(m, "up")
origin = boot_without_origin(returns=False)
copy_all()
origin.kill()
origin.wait()
cut_while_it_switches()
expect("cuts", power.cuts, 10)
print("{} of {} files are as on the origin; of the blocks differ {}".format(*boot_from_disk(moves)))
boot_from_disk("")
print(f"ten cuts, the last boot of all took {booted:.0f} s; {time.monotonic() - began:.0f} s")
print("ok")
