# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# whole_disk.py INITRD LAYOUT [WORD...]: a whole disk of a Debian with systemd moves (layouts.py). The kernel's command line has root=
# and fstab has names as such a system has; that they are on this disk or that one, nothing in the system is told. WORD: more for the
# command line, as this initramfs wants it in each boot; but "behind": the disk is larger than what moves, and has the commit file behind
# that.
#   1. a boot over the network, and a shutdown in the middle. A WORD that limits how long systemd waits for a device limits this
#      boot alone, and the origin comes later than that
#   2. the next boot goes on; the origin is lost for a minute, while a package is installed; the copy, the switch; a shutdown. The
#      origin is gone then
#   3. a boot without the words xnbd...=, from the local disk
#   4. one with them, from the local disk, too
# With LVM there is no switch in 2: it is made by the next boot, with the words, before anything can find the volumes on a
# device of the server. The one without them comes last.
import re, subprocess, sys, time
from debian import HOLD, boot, moves_from, power_off, start_origin
from debian_disk import LOCAL, SERVED, DebianDisk, expect, expect_hidden, expect_no_server
from layouts import MIB, read, write
from machine import PATIENCE, expect_quiet, free_port
from model import BLOCK, is_covered, uncover

INITRD = sys.argv[1]
OUTAGE = 60  # seconds without an origin
SWITCHES = sys.argv[2] != "lvm"
BEHIND = "behind" in sys.argv[3:]
WORDS = [w for w in sys.argv[3:] if w != "behind"]
LIMITS = [w for w in WORDS if "device-timeout=" in w]


def shut_down(m, booted):
    """With LVM, dracut unmounts the root file system in an initramfs: nothing there may end the server before."""
    took = power_off(m, 3 * HOLD + booted / 2)
    expect_quiet()
    with open("console.log", errors="replace") as f:
        expect("unmounted in an initramfs", "Unmounted /oldroot" in f.read(), disk.is_of_dracut() and not SWITCHES)
    return took


def lose_origin(m):
    """For a while; what waits for it meanwhile has no error. Returns the next one."""
    origin.kill()
    origin.wait()
    m.tell("dpkg -i /root/moved.deb && dpkg -V moved")
    time.sleep(OUTAGE)
    _, following = start_origin("origin.img", port)
    said, end = m.until("exit")
    expect(f"the package, installed without an origin: {said}", end, "exit 0\n")
    return following


def commit_file():
    return read("disk.img")[disk.size:] if BEHIND else read("state.img")


def check_hidden_disk():
    """Seen from outside, before the switch."""
    _, shown = uncover(read("disk.img")[:disk.size], commit_file())
    if any(shown) or subprocess.run(["blkid", "-p", "disk.img"], stdout=subprocess.PIPE).stdout:
        sys.exit("the half-copied disk is not covered")


disk = DebianDisk(INITRD, sys.argv[2])
words = " ".join([f"root={disk.layout.root} ro", *(re.sub(r"(device-timeout=)\d+", rf"\g<1>{PATIENCE}", w) for w in WORDS)])
write("state.img", bytes(MIB * 16))
write("disk.img", bytes(disk.size + (12 * MIB if BEHIND else 0)))
port = free_port()
moves = moves_from(port, bitmap="/dev/vdb" if BEHIND else "/dev/vda")
files, times = {}, []


def create(m, name):
    m.run(f"echo {name} >/root/{name}; sync")
    files[f"/root/{name}"] = f"{name}\n".encode()


def first_boot():
    if not LIMITS:
        _, process = start_origin("origin.img", port)
        return process, *boot(INITRD, words, moves)
    m, _ = boot(INITRD, words, moves, *LIMITS, ready=False)
    time.sleep(2 * int(LIMITS[0].split("=")[-1]))
    began = time.monotonic()
    _, process = start_origin("origin.img", port)
    m.until("ready")
    return process, m, time.monotonic() - began


origin, m, booted = first_boot()
disk.check_system(m, SERVED)
expect_hidden(m)
create(m, "first")
cached = int(m.run("query cached"))
times.append((booted, shut_down(m, booted)))
check_hidden_disk()
print(f"{cached} of {disk.size // BLOCK} blocks were here at the first shutdown")

m, booted = boot(INITRD, words, moves)
disk.check_system(m, SERVED)
if int(m.run("query cached")) < cached:
    sys.exit("the second boot begins anew")
create(m, "second")
origin = lose_origin(m)
m.run("xnbd-bgctl --cache-all /run/xnbd/ctl")
m.run(f"is_so() {{ [ \"$(query state)\" = complete ]; }}; until_true {PATIENCE} is_so; sync")
expect_hidden(m)
if SWITCHES:
    m.run("xnbd-bgctl --switch /run/xnbd/ctl")
expect("mode", m.run("query mode"), "target\n" if SWITCHES else "proxy\n")
expect("what was installed", m.run("echo 3 >/proc/sys/vm/drop_caches; dpkg -V moved"), "")
create(m, "third")
origin.kill()
origin.wait()
times.append((booted, shut_down(m, booted)))
expect("cover", is_covered(commit_file()), not SWITCHES)
if SWITCHES:
    print("{} of {} files are as on the origin; of the blocks differ {}".format(*disk.check(files)))
else:
    check_hidden_disk()

for more in ("", moves) if SWITCHES else (moves, ""):
    m, booted = boot(INITRD, words, more)
    disk.check_system(m, LOCAL)
    expect_no_server(m)
    create(m, f"local{len(times)}")
    times.append((booted, shut_down(m, booted)))
    disk.check(files)
    with open("console.log", errors="replace") as f: # of this boot
        expect("what the script says", f"xnbd: /dev/vdb has root={disk.layout.root}" in f.read(), bool(more))
print("boots and shutdowns took " + ", ".join(f"{a:.0f} and {b:.0f} s" for a, b in times))
print("ok")
