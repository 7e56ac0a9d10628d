# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# For loader.py: the disk of the old machine, origin.img, and the medium that boots the new one, stick.img. GRUB is on both,
# for BIOS and for UEFI, as the old machine has installed it: by the commands of xnbd-migrate(7), as they stand there. What
# xnbd-migrate(8) says on the old machine, and on the new one before the move, is looked at.
import hashlib, os, random, re, shutil, subprocess, sys
import gpt
from layouts import MIB, read, write
from machine import BUILD, HOST, WORDS, XNBDBOX, Machine, format_ext4

ROOT_UUID = "2f6d8a34-7c1e-4b95-a0d3-6e8b5c4f1927"
ESP, ROOT, ROOT_BYTES = 2 * MIB, 18 * MIB, 96 * MIB  # where they are on the disk
SIZE = ROOT + ROOT_BYTES + MIB
STICK_BYTES = 84 * MIB
# virtio has its console, a busy host is no error.
COMMON = f"root=UUID={ROOT_UUID} rw loglevel=7 nosoftlockup rcupdate.rcu_cpu_stall_suppress=1 udev.event_timeout=900 {WORDS}"
TOOLS = "grub-install", "grub-probe", "mkfs.vfat", "efibootmgr", "sgdisk"
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
KERNEL, = os.listdir(BUILD + "/debian/lib/modules")
INITRD = f"root/boot/initrd.img-{KERNEL}"
FAT = "fat", "vfat", "nls_cp437", "nls_ascii"  # modules


def commands(prompt, **instead):
    """What "The boot loader" in xnbd-migrate(7) has behind "old# " or "new# ", with the words of this machine."""
    with open(TOP + "/man/xnbd-migrate.7") as f:
        text = f.read().split(".Ss The boot loader\n")[1].split("\n.Sh ")[0].replace("\\e\n\t", "")
    found = []
    for command in re.findall(rf"^(?:\.Dl )?{prompt}# (.*)", text, re.M):
        for words in {r"\e": "\\", r"\(aq": "'", "+500M": "+56M", "VERSION": KERNEL, **instead}.items():
            command = command.replace(*words)
        found.append(command)
    return found


def path_of(tool):
    return shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def copy(path, to, origin=""):
    os.makedirs(to + os.path.dirname(path), exist_ok=True)
    shutil.copy(origin + path, to + path)


def menu(name, suffix, *words):
    """What GRUB does there. The file system of its own files has the kernel, too."""
    return (f"echo this is GRUB of the {name}, $grub_platform\nlinux /boot/vmlinuz{suffix} {' '.join((COMMON, *words))}\n"
            f"initrd /boot/initrd.img{suffix}\nboot\n").encode()


def cpio(directory):
    return subprocess.run("find . | cpio -o -H newc --quiet", shell=True, cwd=directory, check=True, stdout=subprocess.PIPE).stdout


def install(to):
    """The program with all features, which compares, too, and xnbd-migrate."""
    for d in "/usr/sbin", "/usr/bin", "/usr/share/xnbdbox":
        os.makedirs(to + d, exist_ok=True)
    shutil.copy(XNBDBOX, to + "/usr/bin/xnbdbox")
    shutil.copy(TOP + "/config/xnbd-migrate", to + "/usr/sbin")
    shutil.copy(TOP + "/config/initramfs/devices", to + "/usr/share/xnbdbox")


def make_tree():
    """The system of boot.py, with GRUB's tools, its own kernel and initramfs, and files that nobody reads at a boot. Returns these."""
    shutil.copytree(BUILD + "/boot/root", "root", symlinks=True)
    for d in "tmp", "mnt", "boot/grub", "boot/efi", "usr/share", "lib/modules", "data":
        os.makedirs("root/" + d)
    tools = [path_of(t) for t in TOOLS]
    libraries = subprocess.run(["ldd", *tools], check=True, capture_output=True, text=True).stdout
    for path in {*tools, *re.findall(r"(?<=\s)/\S+(?= \()", libraries)}:
        copy(path, "root")
    shutil.copytree("/usr/lib/grub", "root/usr/lib/grub", ignore=shutil.ignore_patterns("monolithic", "*.img.signed", "*.exec"))
    for d, _, names in os.walk(f"{BUILD}/debian/lib/modules/{KERNEL}"):
        for name in names:
            if name.split(".")[0] in (*FAT, "efivarfs"):
                copy(os.path.join(d, name)[len(BUILD + "/debian"):], "root", BUILD + "/debian")
    install("root")
    os.replace("root/usr/bin/xnbdbox", "root/bin/xnbdbox")
    subprocess.run(["root/bin/busybox", "depmod", "-b", "root", KERNEL], check=True)
    shutil.copy(BUILD + "/vmlinuz", f"root/boot/vmlinuz-{KERNEL}")
    initrd = read(BUILD + "/initramfs-tools.initrd")
    write(INITRD, initrd + bytes(-len(initrd) % 4) + cpio("installed"))
    write("root/boot/grub/grub.cfg", menu("disk", f"-{KERNEL}"))
    files = {}
    for i in range(4):
        content = random.Random(i).randbytes(MIB)
        write(f"root/data/file{i}", content)
        files[f"/data/file{i}"] = content
    return files


def expect_lines(said, *patterns):
    """Each is a part of a line, in this order."""
    found = iter(said.splitlines())
    for pattern in patterns:
        if not any(re.search(pattern, line) for line in found):
            sys.exit(f"xnbd-migrate does not say: {pattern}\n{said}")


def check_old(m, port):
    """The disk is mounted read-write, then not."""
    command = f"chroot /a xnbd-migrate check old -p {port} /dev/vda"
    expect_lines(m.run(f"{command}; [ $? = 1 ]"), "^problem: /dev/vda3 is mounted read-write on / of this machine - .*mount -o remount,ro /$", "^1 problem")
    m.run("chroot /a mount -o remount,ro /")
    expect_lines(m.run(command), "^ok: /dev/vda3 is mounted read-only", "^ok: it is a whole disk: it has a partition table .GPT.",
                 f"^next: here: xnbd-server --target --readonly --laddr 10.0.2.15 --lport {port} /dev/vda$")


def plan(port):
    """The new machine, with its medium and its disk, in a rescue system. Returns what its kernel is to be told."""
    write("rescue.initrd", read(BUILD + "/initrd") + cpio("installed"))
    m = Machine("stick.img", "disk.img", initrd=os.path.abspath("rescue.initrd"))
    m.run("mkdir -p /tmp")
    origin = f"{HOST}:{port}"
    expect_lines(m.run(f"sh /usr/sbin/xnbd-migrate check new {origin} /dev/vdb PARTLABEL=other; [ $? = 1 ]"),
                 "^problem: xnbd.bitmap=PARTLABEL=other: there is no such device - here are: .*/dev/vda ")
    moves = f"{origin} /dev/vdb PARTLABEL=xnbd"
    expect_lines(m.run(f"sh /usr/sbin/xnbd-migrate check new {moves}"), "^ok: the origin is there", "^ok: /dev/vdb is blank", "^ok: /dev/vda3 .xnbd.bitmap. is blank",
                 f"^next: xnbd-migrate plan '{origin}' '/dev/vdb' 'PARTLABEL=xnbd'$")
    said = m.run(f"sh /usr/sbin/xnbd-migrate plan {moves}")
    m.kill()
    expect_lines(said, "^note: the initramfs may have another name for eth0", "^     xnbd.origin=", "with root= as the old machine has it")
    words = re.search(r"^     (xnbd\.origin=.*)", said, re.M).group(1)
    print(words)
    return words.replace(":eth0:", "::")  # as that note says


def write_menu(words):
    """The medium's."""
    write("stick.cfg", menu("medium", "", words))
    subprocess.run(["mcopy", "-o", "-i", f"stick.img@@{ESP}", "stick.cfg", "::/boot/grub/grub.cfg"], check=True)


def make_disks(port):
    """Returns the files of the old machine's disk."""
    install("installed")
    files = make_tree()
    format_ext4("root.img", ROOT_BYTES, "-U", ROOT_UUID, "-d", "root")
    with open("root.img", "rb") as f:
        root = f.read()
    part = "7b6f0b6e-{:04d}-4000-8000-5a3d1c2b0a92".format
    write("origin.img", gpt.make_disk(SIZE, (gpt.BIOS_BOOT, part(1), MIB, bytes(MIB)), (gpt.EFI_SYSTEM, part(2), ESP, bytes(ROOT - ESP)),
                                      (gpt.LINUX, part(3), ROOT, root)))
    write("stick.img", bytes(STICK_BYTES))
    m = Machine("origin.img", "stick.img", memory=512)
    m.run("mount /dev/vda3 /a && for d in dev proc sys; do mount --bind /$d /a/$d; done; mount -t tmpfs tmpfs /a/tmp")
    for command in (f"modprobe -a {' '.join(FAT)}", "mkfs.vfat /dev/vda2", "mount /dev/vda2 /boot/efi", *commands("old", sda="vda", sdb="vdb"),
                    "umount /boot/efi"):
        print(f"old# {command}\n{m.run(f'chroot /a {command}')}", end="")
    check_old(m, port)
    m.run("umount /a/tmp /a/dev /a/proc /a/sys && umount /a")
    m.kill()
    return files


def digest(content):
    return hashlib.sha256(content).hexdigest()
