# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# shutdown.py INITRD [network|network-manager]: a machine whose root file system has Debian's systemd (build_glue.sh
# systemd) boots from the network and copies nothing. The origin is lost for good, and then
# "systemctl poweroff" is given, which is not here by the boot itself, as most programs. It may
# take three times what the first request waits for the origin, and half of what this boot took:
# a busy host is no error.
#   network: the origin stays, and what has the network in the system takes it down when it is stopped: systemd-networkd
#            with another address, by DHCP, and ifupdown with one more. The shutdown needs blocks after that. The initramfs
#            makes a VLAN, too.
#   network-manager: the same with NetworkManager (build_glue.sh network-manager), which would give the device another address;
#            the initramfs makes a bond.
import os, shutil, subprocess, sys
from debian import HOLD, boot, moves_from, names, power_off, put, start_origin
from machine import BUILD, PATIENCE, expect_quiet, make_ext4
from model import expect_clean, read_files, together

INITRD, KIND = sys.argv[1], "".join(sys.argv[2:])
IMAGE = "root.img"
WORDS = {  # what is started, and what the initramfs sets up
    "": ("", "ip=10.0.2.15::10.0.2.2:255.255.255.0:::off"),
    "network": ("net.ifnames=0 systemd.wants=systemd-networkd.service systemd.wants=networking.service",
                "ip=10.0.2.20::10.0.2.2:255.255.255.0:::off xnbd.ip=10.9.9.2/24,eth0.5"),
    "network-manager": ("net.ifnames=0 systemd.wants=NetworkManager.service",
                        "bond=bond0:eth0:mode=active-backup,miimon=100 xnbd.ip=10.0.2.20/24,bond0,10.0.2.2 nameserver=10.0.2.3"),
}
INTERFACES = "auto lo eth0\niface lo inet loopback\niface eth0 inet static\naddress 10.0.2.16/24\n"


def expect_hidden(m):
    """Udev and blkid know the device, and not the half-copied disk with the same names."""
    known = names(m)
    if "vdb" in known or 'nbd0: ' not in known or 'TYPE="ext4"' not in known:
        sys.exit(f"the system knows:\n{known}")


def check_disk(content):
    """What the machine has written is there, as is the rest of its root file system."""
    with open("state.img", "rb") as f:
        commit = read_files(f.read(), "/bitmap.commit")[0]
    with open("disk.img", "rb") as disk, open(IMAGE, "rb") as image:
        root = together(image.read(), disk.read(), commit)
    if subprocess.run(["blkid", "-p", "disk.img"], stdout=subprocess.PIPE).stdout:
        sys.exit("the half-copied disk is not covered")
    expect_clean("the root file system", root)
    found = read_files(root, "/root/file")[0]
    if found != content:
        sys.exit(f"the file has {found}")


def expect_said(m, command, expected):
    if (said := m.run(command)) != expected:
        sys.exit(f"{command}: {said}\nexpected: {expected}")


def check_network(m):
    """What the initramfs has set up is there, beside what the system adds."""
    if KIND == "network":
        m.run(f"by_dhcp() {{ ip -o -4 addr | grep -q ' 10.0.2.15/'; }}; until_true {PATIENCE} by_dhcp; systemctl is-active networking")
        expect_said(m, "ip -o -4 addr | grep -c 'eth0 .*10.0.2.20/24.* forever'; ip -o -4 addr | grep -c 'eth0.5 .*10.9.9.2/24.* forever'; ip -o -4 addr | grep -c ' 10.0.2.16/24'; "
                    "ip route show default | grep -vc dhcp; ip -d link show eth0.5 | grep -o 'vlan protocol 802.1Q id 5'", "1\n1\n1\n1\nvlan protocol 802.1Q id 5\n")
        return
    m.run(f"up() {{ nmcli -g RUNNING general | grep -qx running && ! nmcli -g STARTUP general | grep -q starting; }}; until_true {PATIENCE} up")
    m.run("! nmcli connection up other; sleep 5")
    expect_said(m, "nmcli -g GENERAL.STATE device show eth0; nmcli -g GENERAL.STATE device show bond0", "10 (unmanaged)\n10 (unmanaged)\n")
    expect_said(m, "ip -o -4 addr show scope global | sed 's/.* inet \\([^ ]*\\).*/\\1/'; ip route show default | cut -d' ' -f-5", "10.0.2.20/24\ndefault via 10.0.2.2 dev bond0\n")
    expect_said(m, "cat /sys/class/net/bond0/bonding/mode /sys/class/net/bond0/bonding/slaves; grep ^nameserver /etc/resolv.conf", "active-backup 1\neth0\nnameserver 10.0.2.3\n")


shutil.copyfile(BUILD + ("/network-manager.img" if KIND == "network-manager" else "/systemd.img"), IMAGE)
if KIND == "network":
    put(IMAGE, {"/etc/network/interfaces": INTERFACES.encode()})
with open("state.img", "wb") as f:
    f.write(make_ext4("fs.img", 16 << 20))
with open("disk.img", "wb") as f:
    f.truncate(os.path.getsize(IMAGE))
port, origin = start_origin(IMAGE)
m, booted = boot(INITRD, "rw", WORDS[KIND][0], moves_from(port, network=WORDS[KIND][1]))
m.run("echo written >/root/file; sync")
expect_hidden(m)
cached, blocks = (int(m.run(f"query {key}")) for key in ("cached", "blocks"))
if cached > blocks // 2:
    sys.exit(f"{cached} of {blocks} blocks are here: this is no test")
if KIND:
    check_network(m)
else:
    origin.kill()
    origin.wait()
m.run("echo 3 >/proc/sys/vm/drop_caches")
took = power_off(m, 3 * HOLD + booted / 2)
if KIND:
    expect_quiet()
check_disk(b"written\n")
print(f"{cached} of {blocks} blocks were here, {booted:.1f} s to boot, {took:.1f} s to power off")
print("ok")
