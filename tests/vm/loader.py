# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# loader.py: a whole disk moves, and boots by itself: GRUB, its menu, kernel and initramfs are on it. Nobody gives the machine
# a kernel: BIOS (SeaBIOS) or UEFI (OVMF) finds a loader on its disks.
#   1. the old machine installs GRUB on its disk and on a medium; xnbd-migrate checks both machines, and its plan has the words
#      for the medium (loader_disk.py)
#   2. by BIOS: the medium boots the new machine; a part is copied; shutdown
#   3. the new disk alone does not boot, by neither firmware, and is as it was; a boot without the medium's partition for the
#      bitmap says that it waits for it
#   4. by UEFI: the medium boots again; copy, xnbd-migrate watch and finish; an entry is made for the firmware; shutdown. The origin is gone then
#   5. the new disk alone boots by BIOS, and by a UEFI that knows no entry of it
#   6. without EFI/BOOT/BOOTX64.EFI it boots by UEFI with the entry, and not without
#   7. without a cover, a half-copied disk boots, and reads zeroes where blocks are missing
import os, re, shutil, subprocess, sys, time
import gpt
from debian import start_origin
from debian_disk import expect
from layouts import MIB, read
from loader_disk import COMMON, ESP, INITRD, ROOT, ROOT_BYTES, SIZE, commands, digest, expect_lines, make_disks, plan, write_menu
from machine import PATIENCE, XNBDBOX, Machine, connect, expect_quiet, free_port, spawn
from model import expect_clean, read_files

OVMF = "/usr/share/OVMF/OVMF_{}_4M.fd"
NOTHING = {"bios": "No bootable device", "uefi": "No bootable option or device|UEFI Interactive Shell"}
BOTH = "stick.img", "disk.img"
began = time.monotonic()
files = {}


def say(text):
    print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)


def firmware_of(kind, variables):
    """variables: what UEFI keeps, such as its entries; a new one knows none."""
    if kind == "bios":
        return ("-machine", "graphics=off")  # its messages are on the serial line
    if not os.path.exists(variables):
        shutil.copy(OVMF.format("VARS"), variables)
    return ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF.format('CODE')}",
            "-drive", f"if=pflash,unit=1,format=raw,file={variables}")


def switch_on(kind, *drives, variables=None, ready=False):
    if not variables:
        variables = "new.fd"
        if os.path.exists(variables):
            os.unlink(variables)
    more = {} if len(drives) > 1 else {"nic": ()}
    return Machine(*drives, firmware=firmware_of(kind, variables), memory=512, ready=ready, **more,
                   line=("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=line"))


def console():
    """What it says, without what moves the cursor."""
    with open("console.log", errors="replace") as f:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", f.read())


def wait_for(pattern):
    end = time.monotonic() + PATIENCE
    while not (found := re.search(pattern, console())):
        if time.monotonic() > end:
            sys.exit(f"the console does not say: {pattern}\n{console()[-2000:]}")
        time.sleep(0.1)
    return found.group()


def boot(kind, loader, root, *drives, **more):
    """By this loader, as this kind of machine, to this root file system."""
    m = switch_on(kind, *drives, ready=True, **more)
    platform = "efi" if kind == "uefi" else "pc"
    expect("the loader", re.findall(r"this is GRUB of the \w+, \w+", console()), [f"this is GRUB of the {loader}, {platform}"])
    expect("what the kernel has found", m.run("[ ! -d /sys/firmware/efi ] || echo uefi"), "uefi\n" if kind == "uefi" else "")
    expect("root", m.run("sed -n 's|^\\([^ ]*\\) / ext4 .*|\\1|p' /proc/mounts").strip(), root)
    say(f"{kind}: {loader}: booted, its root is on {root}")
    return m


def create(m, name):
    m.run(f"echo {name} >/data/{name}; sync")
    files[f"/data/{name}"] = f"{name}\n".encode()


def check_files(m):
    said = m.run("sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum " + " ".join(files))
    expect("files", {line.split()[1]: line.split()[0] for line in said.splitlines()}, {n: digest(c) for n, c in files.items()})


def power_off(m):
    m.tell("poweroff")
    m.process.wait(PATIENCE)
    m.line.close()
    if "down: good night" not in console():
        sys.exit("this was no clean shutdown")
    expect_quiet()


def expect_nothing(kind, why, **more):
    """The firmware finds nothing to boot on the disk, and nobody changes it."""
    before = digest(read("disk.img"))
    m = switch_on(kind, "disk.img", **more)
    found = wait_for(f"{NOTHING[kind]}|this is GRUB|GRUB loading|Linux version")
    m.kill()
    if not re.match(NOTHING[kind], found):
        sys.exit(f"{kind}: {why}: it boots: {found}")
    expect("the disk", digest(read("disk.img")), before)
    say(f"{kind}: {why}: {found}")


def expect_waiting(words):
    """A boot without the medium, which has the bitmap, as from another one: it says what is missing, and waits."""
    with open("empty.img", "wb") as f:
        f.truncate(MIB)
    m = Machine("empty.img", "disk.img", initrd=os.path.abspath(INITRD), append=f"{COMMON} {words}", memory=512, ready=False)
    wait_for(r"waiting for xnbd\.bitmap=PARTUUID=\S+: is it plugged in")
    m.kill()
    expect("what else it waits for", "waiting for xnbd.cache" in console(), False)
    say("without the bitmap's device a boot waits, and says so")


def move():
    """Steps 2 to 4."""
    _, origin = start_origin("origin.img", port)
    words = plan(port)
    write_menu(words + " xnbd.rate=512K")  # so that much is missing at the shutdown
    say("the plan is on the medium")
    m = boot("bios", "medium", "/dev/nbd0p3", *BOTH)
    create(m, "first")
    cached, blocks = int(m.run("query cached")), int(m.run("query blocks"))
    if cached >= blocks:
        sys.exit("too late: every block is here")
    say(f"{cached} of {blocks} blocks are here")
    power_off(m)
    expect("beginning of the disk", read("disk.img")[:11], b"Half-copied")
    for kind in NOTHING:
        expect_nothing(kind, "the half-copied disk")
    expect_waiting(words)
    write_menu(words)
    m = boot("uefi", "medium", "/dev/nbd0p3", *BOTH, variables="machine.fd")
    check_files(m)
    create(m, "second")
    expect_lines(m.run("xnbd-migrate watch -i 1"), "^ok: every block is here", "^next: xnbd-migrate finish$")
    expect_lines(m.run("xnbd-migrate finish"), "^ok: .*compared", "^ok: switched", "^next: shut down xnbd-server on the old machine",
                 "^next: see xnbd-migrate.7., The boot loader", "^next: reboot, with the same command line or without the xnbd words")
    m.run("modprobe efivarfs")
    for command in commands("new", sda="vdb"):
        if "sgdisk" not in command:
            print(f"new# {command}\n{m.run(command)}", end="")
    m.run("umount /sys/firmware/efi/efivars")
    power_off(m)
    origin.kill()
    origin.wait()


def check_disk(size):
    """Seen from outside: a table for this size."""
    disk = read("disk.img")
    gpt.expect_valid(disk[:size])
    expect("the partition of GRUB", disk[MIB:ESP], read("origin.img")[MIB:ESP])
    root = disk[ROOT:ROOT + ROOT_BYTES]
    expect_clean("the root file system", root)
    expect("files", dict(zip(files, read_files(root, *files))), files)


def boot_alone():
    """Steps 5 and 6."""
    for kind in "bios", "uefi":
        m = boot(kind, "disk", "/dev/vda3", "disk.img")
        check_files(m)
        create(m, kind)
        if kind == "uefi":
            m.run(*(c for c in commands("new", sda="vda") if "sgdisk" in c))
        power_off(m)
        check_disk(SIZE if kind == "bios" else len(read("disk.img")))
    subprocess.run(["mdeltree", "-i", f"disk.img@@{ESP}", "::/EFI/BOOT"], check=True)
    expect_nothing("uefi", "without EFI/BOOT and without an entry")
    m = switch_on("uefi", "disk.img", variables="machine.fd")
    wait_for("Linux version")
    expect("the loader", re.findall("this is GRUB of the .*", console()), ["this is GRUB of the disk, efi"])
    m.kill()
    say("uefi: without EFI/BOOT, with the entry: its kernel starts")


def boot_uncovered():
    """Step 7: all is here but the end of a file, whose beginning a fetch of its neighbours may bring."""
    spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--laddr", "127.0.0.1", "--lport", str(port), "origin.img")
    connect(port).shutdown()
    proxy = free_port()
    p = spawn(XNBDBOX, "xnbd-server", "--proxy", "--laddr", "127.0.0.1", "--lport", str(proxy), "127.0.0.1", str(port), "bare.img", "bare.bm", "bare.ctl")
    client, disk = connect(proxy), read("origin.img")
    missing = disk.index(files["/data/file3"][:4096])
    for at in range(0, len(disk), MIB):
        for begin, end in (at, min(at + MIB, missing)), (max(at, missing + MIB), min(at + MIB, len(disk))):
            if begin < end:
                client.pread(end - begin, begin)
    client.shutdown()
    p.terminate()
    p.wait()
    here = read("bare.img")[missing:missing + MIB]
    expect("zeroes at its end", here[MIB // 2:], bytes(MIB // 2))
    m = boot("bios", "disk", "/dev/vda3", "bare.img")
    expect("a file whose blocks are missing", m.run("sha256sum </data/file3").split()[0], digest(here))
    m.kill()


port = free_port()
files.update(make_disks(port))
say("GRUB is on the old machine's disk, and on the medium")
with open("disk.img", "wb") as f:
    f.truncate(os.path.getsize("origin.img") + 4 * MIB)
origin_sum = digest(read("origin.img"))
move()
boot_alone()
boot_uncovered()
expect("the old machine's disk", digest(read("origin.img")), origin_sum)
print("ok")
