# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# whole_disk.py INITRD LAYOUT [WORD...]: a whole disk of a Debian with systemd moves (layouts.py). The kernel's command line has root=
# and fstab has names as such a system has; that they are on this disk or that one, nothing in the system is told. WORD: more for the
# command line, as this initramfs wants it in each boot.
#   1. a boot over the network, and a shutdown in the middle
#   2. the next boot goes on; the origin is lost for a minute, while a package is installed; the copy, the switch; a shutdown. The
#      origin is gone then
#   3. a boot without the words xnbd...=, from the local disk
#   4. one with them, from the local disk, too
# With LVM there is no switch in 2: it is made by the next boot, with the words, before anything can find the volumes on a
# device of the server. The one without them comes last.
import hashlib, os, random, shutil, subprocess, sys, time
import gpt
from layouts import FIRST, LAYOUTS, MIB, SWAP_UUID, read, uuid_of, write
from debian import HOLD, boot, moves_from, names, power_off, start_origin
from machine import BUILD, PATIENCE, expect_quiet
from model import BLOCK, expect_clean, is_covered, read_files, uncover

INITRD, SWAP_BYTES = sys.argv[1], 32 * MIB
OUTAGE = 60  # seconds without an origin
SWITCHES = sys.argv[2] != "lvm"
DRACUT = INITRD.startswith("dracut")
LAYOUT = LAYOUTS[sys.argv[2]](BUILD + "/systemd.img")
PARTS = ("7b6f0b6e-0001-4000-8000-5a3d1c2b0a91", "7b6f0b6e-0002-4000-8000-5a3d1c2b0a92", "7b6f0b6e-0003-4000-8000-5a3d1c2b0a93")


def make_package():
    """Of Debian, with some files."""
    os.makedirs("package/DEBIAN")
    os.makedirs("package/usr/share/moved")
    write("package/DEBIAN/control", b"Package: moved\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: of a test\n")
    for n in range(20):
        write(f"package/usr/share/moved/{n}", random.Random(n).randbytes(50000))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", "package", "moved.deb"], check=True, stdout=subprocess.DEVNULL)
    return read("moved.deb")


def root_file_system():
    """That of build_glue.sh, with an fstab; and with what dracut unpacks at a shutdown."""
    write("root.img", read(BUILD + "/systemd.img"))
    files = {**LAYOUT.files, "/root/moved.deb": make_package(), "/etc/fstab": f"{LAYOUT.root} / ext4 errors=remount-ro 0 1\n{LAYOUT.swap} none swap sw 0 0\n".encode()}
    if DRACUT:
        kernel, = os.listdir(BUILD + "/debian/lib/modules")
        files[f"/boot/initrd.img-{kernel}"] = read(BUILD + "/" + INITRD.replace(".", "-shutdown."))
    for n, (path, content) in enumerate(files.items()):
        write(f"file{n}", content)
    subprocess.run(["debugfs", "-w", "-f", "-", "root.img"], check=True, capture_output=True, text=True,
                   input="mkdir /boot\nmkdir /etc/keys\n" + "".join(f"rm {path}\nwrite file{n} {path}\n" for n, path in enumerate(files)))
    return read("root.img")


def swap_space():
    write("swap.img", bytes(SWAP_BYTES))
    subprocess.run(["mkswap", "-q", "-U", SWAP_UUID, "swap.img"], check=True)
    return read("swap.img")


def make_origin():
    contents, at, parts = LAYOUT.make(root_file_system(), swap_space()), FIRST, [(gpt.BIOS_BOOT, PARTS[0], MIB, random.Random(1).randbytes(MIB))]
    for kind, own, content in zip(LAYOUT.kinds, PARTS[1:], contents):
        parts.append((kind, own, at, content))
        at += len(content)
    size = at + MIB
    write("origin.img", gpt.make_disk(size, *parts))
    return size, len(parts)


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found}\nexpected: {expected}")


def check_system(m, disk):
    """It is up, on these partitions of this disk, and nothing has failed."""
    root, swap = LAYOUT.source(disk)
    expect("root", m.run("findmnt -n -o SOURCE /").strip(), root)
    expect("swap", m.run("sed '1d; s/[^a-z0-9/-].*//' /proc/swaps"), m.run(f"readlink -f {swap}"))
    expect("units that have failed", m.run("systemctl --failed --no-legend --plain"), "")
    expect("multi-user.target", m.run("systemctl is-active multi-user.target"), "active\n")
    links = m.run(f"readlink -f /dev/disk/by-uuid/{ROOT_UUID} /dev/disk/by-uuid/{SWAP_UUID} "
                  + " ".join(f"/dev/disk/by-partuuid/{p}" for p in PARTS[:N])).split()
    expect("links", links, m.run(f"readlink -f {root} {swap}").split() + [disk.part(n + 1) for n in range(N)])
    below = m.run("cd /sys/class/block; for d in dm-*/slaves/*; do [ ! -e $d ] || echo /dev/${d##*/}; done; cd /").split()
    expect("partitions below others", below, LAYOUT.below(disk))


class Device:
    def __init__(self, name, infix=""):
        self.name, self.infix = name, infix

    def part(self, n):
        return f"/dev/{self.name}{self.infix}{n}"


SERVED, LOCAL = Device("nbd0", "p"), Device("vdb")


def expect_hidden(m):
    """Nobody knows the half-copied disk, or has it open, but the server."""
    known = names(m)
    if "vdb" in known or "nbd0p2: " not in known:
        sys.exit(f"the system knows:\n{known}")
    expect("physical volumes", [d for d in m.run("pvs --noheadings -o pv_name").split() if d.startswith("/dev/vd")], [])
    expect("partitions of the cache", m.run("ls -d /sys/class/block/vdb?* 2>/dev/null || true"), "")
    pid = m.run("query pid").strip()
    users = m.run("find /proc/[0-9]*/fd -lname '/dev/vd*' 2>/dev/null || true").split()
    expect("who holds the cache", m.run("ls /sys/class/block/vdb/holders"), "")
    expect("others that have /dev/vd* open", [u for u in users if u.split("/")[2] != pid], [])
    if not users:
        sys.exit("not even the server has /dev/vd* open")
    expect("mounts", m.run("grep /dev/vd /proc/mounts || true"), "")
    expect("the limit of a shutdown", m.run("systemctl is-active xnbd-shutdown; query hold"), "active\n0\n")


def shut_down(m, booted):
    """With LVM, dracut unmounts the root file system in an initramfs: nothing there may end the server before."""
    took = power_off(m, 3 * HOLD + booted / 2)
    expect_quiet()
    with open("console.log", errors="replace") as f:
        expect("unmounted in an initramfs", "Unmounted /oldroot" in f.read(), DRACUT and not SWITCHES)
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


def check_hidden_disk():
    """Seen from outside, before the switch."""
    _, shown = uncover(read("disk.img"), read("state.img"))
    if any(shown) or subprocess.run(["blkid", "-p", "disk.img"], stdout=subprocess.PIPE).stdout:
        sys.exit("the half-copied disk is not covered")


def tree(file_system):
    """All files: what of it changes when one is written, and its content."""
    write("part.img", file_system)
    shutil.rmtree("tree", ignore_errors=True)
    os.mkdir("tree")
    subprocess.run(["debugfs", "-R", "rdump / tree", "part.img"], check=True, capture_output=True)
    paths = [os.path.join(d, f) for d, _, found in os.walk("tree") for f in found]
    return {p[4:]: (os.stat(p).st_mtime, hashlib.sha256(read(p)).digest()) for p in paths if os.path.isfile(p) and not os.path.islink(p)}


def check_disk(files):
    """As a whole, after the switch: a valid table, the loader's partition, the ends, a clean file system; what the machine has
    written, and what it has not. Returns how much that is: files, and blocks that differ from the origin's."""
    disk, origin = read("disk.img"), read("origin.img")
    gpt.expect_valid(disk)
    if disk[:FIRST] != origin[:FIRST] or disk[-MIB:] != origin[-MIB:]:
        sys.exit("what is around the file systems has changed")
    root = LAYOUT.find(disk)
    expect_clean("the root file system", root)
    expect("files", dict(zip(files, read_files(root, *files))), files)
    before, after = tree(LAYOUT.find(origin)), tree(root)
    wrong = [p for p in before if p in after and before[p][0] == after[p][0] and before[p][1] != after[p][1]]
    expect("files that nobody wrote and that have changed", wrong, [])
    same = sum(after.get(p) == before[p] for p in before)
    if same < len(before) - 20:
        sys.exit(f"only {same} of {len(before)} files are as they were")
    return same, len(before), sum(disk[i:i + BLOCK] != origin[i:i + BLOCK] for i in range(0, SIZE, BLOCK))


SIZE, N = make_origin()
ROOT_UUID = uuid_of("root.img")
words = " ".join([f"root={LAYOUT.root} ro", *sys.argv[3:]])
write("state.img", bytes(MIB * 16))
write("disk.img", bytes(SIZE))
port, origin = start_origin("origin.img")
moves = moves_from(port)
files, times = {}, []


def create(m, name):
    m.run(f"echo {name} >/root/{name}; sync")
    files[f"/root/{name}"] = f"{name}\n".encode()


m, booted = boot(INITRD, words, moves)
check_system(m, SERVED)
expect_hidden(m)
create(m, "first")
cached = int(m.run("query cached"))
times.append((booted, shut_down(m, booted)))
check_hidden_disk()
print(f"{cached} of {SIZE // BLOCK} blocks were here at the first shutdown")

m, booted = boot(INITRD, words, moves)
check_system(m, SERVED)
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
expect("cover", is_covered(read("state.img")), not SWITCHES)
if SWITCHES:
    print("{} of {} files are as on the origin; of the blocks differ {}".format(*check_disk(files)))
else:
    check_hidden_disk()

for more in ("", moves) if SWITCHES else (moves, ""):
    m, booted = boot(INITRD, words, more)
    check_system(m, LOCAL)
    expect("servers", m.run("pidof @nbd-server xnbd-server || true; ls /sys/class/block | grep nbd0p || true"), "")
    create(m, f"local{len(times)}")
    times.append((booted, shut_down(m, booted)))
    check_disk(files)
    with open("console.log", errors="replace") as f: # of this boot
        expect("what the script says", f"xnbd: /dev/vdb has root={LAYOUT.root}" in f.read(), bool(more))
print("boots and shutdowns took " + ", ".join(f"{a:.0f} and {b:.0f} s" for a, b in times))
print("ok")
