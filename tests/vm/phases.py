# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# phases.py NETWORK [INITRD]: a machine whose root file system moves is shut down or rebooted in each phase of that: nothing was copied
# yet; in the middle of the copy; the origin was lost just before; it was gone at the boot already; after the switch; by itself. Each
# ends soon, is clean, and the next boot goes on. NETWORK: what has the network in the system, see NETWORKS; or busybox: a system
# without systemd (boot.py), whose init calls /etc/down.
import os, re, sys, time
import debian
from debian import HOLD, moves_from, start_origin
from layouts import MIB, read, write
from machine import BUILD, HOST, PATIENCE, Machine, expect_quiet, make_ext4
from model import expect_clean, is_covered, read_files, together

NETWORK = sys.argv[1]
INITRD = "".join(sys.argv[2:]) or ("boot/initrd" if NETWORK == "busybox" else "initramfs-tools.initrd")
RATE = 256 << 10  # of the copy, bytes a second: it is to last
LO = "auto lo\niface lo inet loopback\n"
OTHER = "address 10.0.2.15/24"  # than the one of the initramfs
NETWORKS = {  # what the system starts, and is active then; a file of it
    "auto": ("networking.service", "/etc/network/interfaces", f"{LO}auto eth0\niface eth0 inet static\n{OTHER}\n"),
    "hotplug": ("ifup@eth0.service", "/etc/network/interfaces", f"{LO}allow-hotplug eth0\niface eth0 inet dhcp\n"),
    "networkd-dhcp": ("systemd-networkd.service", "/etc/systemd/network/dhcp.network", "[Match]\nName=e*\n[Network]\nDHCP=ipv4\n"),
    "networkd-static": ("systemd-networkd.service", "/etc/systemd/network/dhcp.network", "[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\n"),
    "network-manager": ("NetworkManager.service", "/etc/hostname", "moved\n"),
}
began = time.monotonic()


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found}, not {expected}")


class Debian:
    """With systemd."""
    how = {"off": "systemctl poweroff", "again": "systemctl reboot"}

    def __init__(self):
        self.unit, path, content = NETWORKS[NETWORK]
        write("root.img", read(BUILD + ("/network-manager.img" if NETWORK == "network-manager" else "/systemd.img")))
        debian.put("root.img", {path: content.encode(), "/root/large": os.urandom(16 * MIB)})

    def boot(self, port):
        started = "" if NETWORK == "hotplug" else f"systemd.wants={self.unit}"  # by udev
        m, booted = debian.boot(INITRD, "rw net.ifnames=0", started, moves_from(port, network="ip=10.0.2.20::10.0.2.2:255.255.255.0::eth0:off"))
        m.run(f"until_true {PATIENCE} systemctl is-active {self.unit}")
        if NETWORK != "network-manager":
            m.run(f"has_both() {{ ip -o -4 addr show eth0 | grep -q ' 10.0.2.15/' && ip -o -4 addr show eth0 | grep -q ' 10.0.2.20/'; }}; until_true {PATIENCE} has_both")
        expect("units that have failed", m.run("systemctl --failed --no-legend --plain"), "")
        return m, booted


class BusyBox:
    """Its init, and nothing beside it."""
    how = {"off": "poweroff", "again": "touch /run/again; reboot"}

    def __init__(self):
        write("root.img", make_ext4("fs.img", 64 * MIB, "-d", BUILD + "/boot/root"))
        debian.put("root.img", {"/root/large": os.urandom(16 * MIB)})

    def boot(self, port):
        at = time.monotonic()
        m = Machine("state.img", "disk.img", initrd=INITRD, memory=256, line=("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=line"), append=(
            "loglevel=7 nosoftlockup rcupdate.rcu_cpu_stall_suppress=1"
            f" xnbd.origin={HOST}:{port} xnbd.cache=/dev/vdb xnbd.bitmap=/dev/vda xnbd.ip=10.0.2.15/24,eth0"))
        return m, time.monotonic() - at


def end(m, how, booted, what, may_say=r"(?!)"):
    """A shutdown or reboot, without a red line."""
    m.run("echo 3 >/proc/sys/vm/drop_caches")
    took = debian.shut_down(m, system.how[how], 3 * HOLD + booted / 2, "reboot: Power down" if how == "off" else "reboot: Restarting system")
    expect_quiet(may_say)
    with open("console.log", errors="replace") as f:
        expect("red lines", re.findall(r".*(?:FAILED|down: .* in use).*", f.read()), [])
    expect_clean("the bitmap's file system", read("state.img"))
    print(f"{time.monotonic() - began:.0f} s: {what}: {booted:.0f} s to boot, {took:.0f} s to {'power off' if how == 'off' else 'restart'}", flush=True)


def check_disks(switched):
    """Seen from outside: hidden until the switch; a clean file system, with all that the machine has written."""
    commit = read_files(read("state.img"), "/bitmap.commit")[0]
    expect("cover", is_covered(commit), not switched)
    content = together(read("root.img"), read("disk.img"), commit) if not switched else read("disk.img")
    expect_clean("the root file system", content)
    expect("files", dict(zip(files, read_files(content, *files))), files)


def boot(phase, device="/dev/nbd0"):
    m, booted = system.boot(port)
    expect("root", m.run("sed -n 's|^\\([^ ]*\\) / ext4 .*|\\1|p' /proc/mounts").strip(), device)
    m.run(f"echo {phase} >/root/{phase}; sync")
    files[f"/root/{phase}"] = f"{phase}\n".encode()
    if device == "/dev/nbd0":
        cached.append(int(m.run("query cached")))
        expect("the next boot goes on", cached == sorted(cached), True)
    return m, booted


def lose_origin():
    origin.kill()
    origin.wait()


def copy_some(m):
    """It goes on when this returns."""
    m.run(f"xnbd-bgctl --cache-all2 --rate {RATE} /run/xnbd/ctl; goal=$(($(query cached) + 500)); is_so() {{ [ $(query cached) -ge $goal ]; }}; until_true {PATIENCE} is_so")
    here, blocks = int(m.run("query cached")), int(m.run("query blocks"))
    if here > blocks * 8 // 10:
        sys.exit(f"{here} of {blocks} blocks are here: this is no test")


def wait_for_missing_block(m):
    """A program does, and cannot be killed."""
    m.run("dd if=/root/large of=/dev/null bs=64k >/dev/null 2>&1 & waits() { grep -q '^State:.*D' /proc/$!/status; }; "
          f"until_true {PATIENCE} waits; sleep 1; waits")


files, cached = {}, []
system = BusyBox() if NETWORK == "busybox" else Debian()
write("state.img", make_ext4("fs.img", 16 * MIB))
write("disk.img", bytes(os.path.getsize("root.img")))
port, origin = start_origin("root.img")

m, booted = boot("before")
end(m, "again", booted, "nothing was copied")
check_disks(False)

m, booted = boot("middle")
copy_some(m)
end(m, "off", booted, "in the middle of the copy")
check_disks(False)

m, booted = boot("lost")
copy_some(m)
lose_origin()
end(m, "again", booted, "the origin was lost")
check_disks(False)

m, booted = boot("gone")
expect("the origin is there", m.run("query origin_state") == "up\n", False)
wait_for_missing_block(m)
end(m, "off", booted, "the origin was gone at the boot", r"I/O error, dev nbd0, sector \d+ op 0x0:\(READ\)")
check_disks(False)

_, origin = start_origin("root.img", port)
m, booted = boot("after")
m.run(f"xnbd-bgctl --cache-all2 --rate 0 /run/xnbd/ctl; is_so() {{ [ \"$(query state)\" = complete ]; }}; until_true {PATIENCE} is_so; xnbd-bgctl --switch /run/xnbd/ctl")
expect("mode", m.run("query mode"), "target\n")
lose_origin()
end(m, "again", booted, "after the switch")
check_disks(True)

m, booted = boot("local", "/dev/vdb")
end(m, "off", booted, "from its own disk")
check_disks(True)
print("ok")
