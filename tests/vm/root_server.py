# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The server of a machine's root file system, as the initramfs script has started it (/run/xnbd/ctl): killed, and its program
# exchanged for one on that root, while the machine goes on.
import sys
from machine import PATIENCE


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found}, not {expected}")


def query(m, key):
    return m.run("query " + key).strip()


def check_server(m):
    """The root depends on it, and it has outlived the initramfs. Returns a line that says so."""
    pid = query(m, "pid")
    expect("first letter of the server's name", m.run(f"head -c 1 /proc/{pid}/cmdline; echo"), "@\n")
    expect("its oom_score_adj", m.run(f"cat /proc/{pid}/oom_score_adj"), "-1000\n")
    locked = int(m.run(f"sed -n 's/^VmLck:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{pid}/status"))
    if locked < 100:
        sys.exit(f"only {locked} KiB of the server's memory are locked")
    if "(deleted)" not in m.run(f"ls -l /proc/{pid}/exe"):
        sys.exit("the initramfs is still there")
    return f"Process {pid} serves it: {locked} KiB locked in memory, its program deleted with the initramfs"


class Load:
    """A program that writes and reads a file of the root file system, past the machine's memory."""

    def __init__(self, m, directory):
        self.m, self.file = m, f"{directory}/load"
        m.run("rm -f /run/enough /run/loaded /run/rounds; dd if=/dev/urandom of=/run/l bs=1k count=900 2>/dev/null; (n=0;"
              f" while [ ! -e /run/enough ]; do dd if=/run/l of={self.file} bs=16k conv=fsync 2>/dev/null && echo 3 >/proc/sys/vm/drop_caches &&"
              f" cmp /run/l {self.file} || break; n=$((n + 1)); echo $n >/run/rounds; done; echo $n >/run/loaded) &"
              f" until_true {PATIENCE} test -s /run/rounds")

    def goes_on(self, command):
        """When this has been done, with nothing in the page cache."""
        rounds = int(self.m.run("cat /run/rounds"))
        self.m.run(f"echo 3 >/proc/sys/vm/drop_caches; {command}")
        self.m.run(f"is_so() {{ [ $(cat /run/rounds) -gt {rounds} ]; }}; until_true {PATIENCE} is_so")

    def ends(self, rounds):
        self.m.run(f"touch /run/enough; until_true {PATIENCE} test -s /run/loaded; cmp /run/l {self.file}; rm {self.file}")
        if int(self.m.run("cat /run/loaded")) < rounds:
            sys.exit("the load has come to its end: " + self.m.run("dmesg | tail -5"))


def upgrade(m, program, directory):
    """To the program that is on the root file system, some of which may be at the origin only. Meanwhile others use their disk."""
    load = Load(m, directory)
    pid = query(m, "pid")
    for _ in range(3):
        load.goes_on(f"xnbd-bgctl --upgrade {program} /run/xnbd/ctl")
    load.ends(3)
    expect("the process that serves", query(m, "pid"), pid)
    if "memfd:" not in m.run(f"ls -l /proc/{pid}/exe"):
        sys.exit("the program is still the one of the initramfs")
    return check_server(m)


def kill_server(m, kills, directory):
    """Again and again, while others use their disk: its keeper starts it again, and no request fails. Last while it starts."""
    load = Load(m, directory)
    mode = query(m, "mode")
    keeper = m.run(f"sed -n 's/^PPid:[^0-9]*//p' /proc/{query(m, 'pid')}/status").strip()
    for i in range(kills):
        pid = query(m, "pid")
        starting = (f"is_so() {{ p=$(grep -l '^PPid:[^0-9]*{keeper}$' /proc/[0-9]*/status 2>/dev/null | tr -dc 0-9); [ \"$p\" ] && [ \"$p\" != {pid} ] && kill -9 $p; }}; "
                    f"until_true {PATIENCE} is_so; " if i == kills - 1 else "")
        load.goes_on(f"kill -9 {pid}; {starting}is_so() {{ p=$(query pid 2>/dev/null); [ \"$p\" ] && [ \"$p\" != {pid} ]; }}; until_true {PATIENCE} is_so")
    load.ends(kills)
    expect("the new server", query(m, "mode"), mode)
    return check_server(m)
