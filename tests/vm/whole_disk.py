# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# whole_disk.py INITRD: a whole disk of a Debian with systemd moves: GPT with a partition for a boot loader, the root file
# system and swap space. The kernel's command line has root=UUID= and fstab has UUIDs, as such a system has; that they are
# on this disk or that one, nothing in the system is told.
#   1. a boot over the network, and a shutdown in the middle
#   2. the next boot goes on; the copy, the switch; a shutdown. The origin is gone then
#   3. a boot without the words xnbd...=, from the local disk
#   4. one with them, from the local disk, too
import hashlib, os, random, shutil, subprocess, sys
import gpt
from debian import HOLD, boot, moves_from, names, power_off, start_origin
from machine import BUILD, PATIENCE, expect_quiet
from model import BLOCK, expect_clean, is_covered, read_files, uncover

INITRD = sys.argv[1]
MIB = 1 << 20
ROOT_AT, SWAP_BYTES = 3 * MIB, 32 * MIB
UUID = {"swap": "9a1d6f0e-3c55-4b0f-8a59-0d5f2f3c7e11"}
PARTS = ("7b6f0b6e-0001-4000-8000-5a3d1c2b0a91", "7b6f0b6e-0002-4000-8000-5a3d1c2b0a92", "7b6f0b6e-0003-4000-8000-5a3d1c2b0a93")


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, content):
    with open(path, "wb") as f:
        f.write(content)


def root_file_system():
    """That of build_glue.sh, with an fstab."""
    write("root.img", read(BUILD + "/systemd.img"))
    UUID["root"] = subprocess.run(["blkid", "-p", "-o", "value", "-s", "UUID", "root.img"], check=True, capture_output=True, text=True).stdout.strip()
    write("fstab", f"UUID={UUID['root']} / ext4 errors=remount-ro 0 1\nUUID={UUID['swap']} none swap sw 0 0\n".encode())
    subprocess.run(["debugfs", "-w", "-f", "-", "root.img"], check=True, capture_output=True, text=True, input="rm /etc/fstab\nwrite fstab /etc/fstab\n")
    return read("root.img")


def swap_space():
    write("swap.img", bytes(SWAP_BYTES))
    subprocess.run(["mkswap", "-q", "-U", UUID["swap"], "swap.img"], check=True)
    return read("swap.img")


def make_origin():
    root, loader = root_file_system(), random.Random(1).randbytes(MIB)
    swap_at = ROOT_AT + len(root)
    size = swap_at + SWAP_BYTES + MIB
    write("origin.img", gpt.make_disk(size, (gpt.BIOS_BOOT, PARTS[0], MIB, loader), (gpt.LINUX, PARTS[1], ROOT_AT, root),
                                      (gpt.SWAP, PARTS[2], swap_at, swap_space())))
    return size, slice(ROOT_AT, swap_at)


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found}\nexpected: {expected}")


def check_system(m, disk):
    """It is up, on these partitions of this disk, and nothing has failed."""
    expect("root", m.run("findmnt -n -o SOURCE /").strip(), disk.part(2))
    expect("swap", m.run("sed '1d; s/[^a-z0-9/].*//' /proc/swaps"), disk.part(3) + "\n")
    expect("units that have failed", m.run("systemctl --failed --no-legend --plain"), "")
    expect("multi-user.target", m.run("systemctl is-active multi-user.target"), "active\n")
    links = m.run(f"readlink -f /dev/disk/by-uuid/{UUID['root']} /dev/disk/by-uuid/{UUID['swap']} "
                  + " ".join(f"/dev/disk/by-partuuid/{p}" for p in PARTS)).split()
    expect("links", links, [disk.part(n) for n in (2, 3, 1, 2, 3)])


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
    expect("partitions of the cache", m.run("ls -d /sys/class/block/vdb?* 2>/dev/null || true"), "")
    pid = m.run("query pid").strip()
    users = m.run("find /proc/[0-9]*/fd -lname '/dev/vd*' 2>/dev/null || true").split()
    expect("others that have /dev/vd* open", [u for u in users if u.split("/")[2] != pid], [])
    if not users:
        sys.exit("not even the server has /dev/vd* open")
    expect("mounts", m.run("grep /dev/vd /proc/mounts || true"), "")


def shut_down(m, booted):
    took = power_off(m, 3 * HOLD + booted / 2)
    expect_quiet()
    return took


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
    if disk[:ROOT.start] != origin[:ROOT.start] or disk[-MIB:] != origin[-MIB:]:
        sys.exit("what is around the file systems has changed")
    expect_clean("the root file system", disk[ROOT])
    expect("files", dict(zip(files, read_files(disk[ROOT], *files))), files)
    before, after = tree(origin[ROOT]), tree(disk[ROOT])
    wrong = [p for p in before if p in after and before[p][0] == after[p][0] and before[p][1] != after[p][1]]
    expect("files that nobody wrote and that have changed", wrong, [])
    same = sum(after.get(p) == before[p] for p in before)
    if same < len(before) - 20:
        sys.exit(f"only {same} of {len(before)} files are as they were")
    return same, len(before), sum(disk[i:i + BLOCK] != origin[i:i + BLOCK] for i in range(0, SIZE, BLOCK))


SIZE, ROOT = make_origin()
words = f"root=UUID={UUID['root']} ro"
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
m.run("xnbd-bgctl --cache-all /run/xnbd/ctl")
m.run(f"is_so() {{ [ \"$(query state)\" = complete ]; }}; until_true {PATIENCE} is_so; sync")
expect_hidden(m)
m.run("xnbd-bgctl --switch /run/xnbd/ctl")
expect("mode", m.run("query mode"), "target\n")
create(m, "third")
origin.kill()
origin.wait()
times.append((booted, shut_down(m, booted)))
expect("cover", is_covered(read("state.img")), False)
print("{} of {} files are as on the origin; of the blocks differ {}".format(*check_disk(files)))

for more in "", moves:
    m, booted = boot(INITRD, words, more)
    check_system(m, LOCAL)
    expect("servers", m.run("pidof @nbd-server xnbd-server || true; ls /sys/class/block | grep nbd0p || true"), "")
    create(m, f"local{len(times)}")
    times.append((booted, shut_down(m, booted)))
    check_disk(files)
with open("console.log", errors="replace") as f:
    expect("what the script says", f"xnbd: /dev/vdb has root=UUID={UUID['root']}" in f.read(), True)
print("boots and shutdowns took " + ", ".join(f"{a:.0f} and {b:.0f} s" for a, b in times))
print("ok")
