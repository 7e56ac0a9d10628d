# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Rows of reads that wait for the disk. For root: the disk is a loop device on slow.c.
import os, subprocess, time
from loads import MIB, Lean, measured
from rows import Contender, Row
from servers import BEFORE, TARGETS, Broken, nbdkit_64, xnbd

DELAYS_MS = 1, 5
DEPTHS = 1, 4, 16, 32, 64
DISK_BYTES = 16 << 30  # no block is read twice, but for a few
WARM_BYTES = 64 * MIB


class SlowDisk:
    """stop(): as servers have it."""

    def __init__(self, base, program, ms):
        self.dir, self.device = "%s/slow%d" % (base, ms), None
        os.mkdir(self.dir)
        self.process = subprocess.Popen([program, self.dir, str(DISK_BYTES), str(1000 * ms)])
        while not os.path.ismount(self.dir):
            if self.process.poll() is not None:
                raise Broken("no disk with a delay")
            time.sleep(0.02)
        try:
            argv = ["losetup", "--find", "--show", "--direct-io=on", self.dir + "/disk"]
            self.device = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        except subprocess.SubprocessError:
            self.stop()
            raise

    def stop(self):
        if self.device:
            subprocess.run(["losetup", "--detach", self.device])
        # The kernel lets go of the device when its last user has: udev may look at it.
        for _ in range(50):
            if subprocess.run(["umount", self.dir], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.1)
        else:
            self.process.kill()
        self.process.wait()
        os.rmdir(self.dir)

    def cool(self, warm_bytes=0):
        """Nothing of it is in the page cache but its first bytes, so many."""
        disk = os.open(self.device, os.O_RDONLY)
        try:
            os.posix_fadvise(disk, 0, 0, os.POSIX_FADV_DONTNEED)
            for at in range(0, warm_bytes, MIB):
                os.pread(disk, MIB, at)
        finally:
            os.close(disk)


def cold(disk, load):
    def run(server, seconds):
        disk.cool()
        return load(server, seconds)

    return run


def beside(disk, warm, reader):
    """warm, while reader keeps the disk busy; server.second, if it is there, serves that one."""

    def run(server, seconds):
        disk.cool(WARM_BYTES)

        def load():
            other = reader.begin(getattr(server, "second", server), seconds + 0.2)
            result = warm(server, seconds)
            reader.end(other, server)
            return result

        return measured(server, load)

    return run


class Apart(Contender):
    """With a second server for who is beside."""

    def begin(self):
        Contender.begin(self)
        self.server.second = self.start()

    def end(self):
        if self.server and hasattr(self.server, "second"):
            self.server.second.stop()
        Contender.end(self)


def all(rows):
    if os.geteuid() != 0:
        return
    servers = TARGETS if BEFORE else dict(TARGETS, **{"nbdkit 64": nbdkit_64})
    for ms in DELAYS_MS:
        disk = SlowDisk(rows.base, rows.programs + "/slow", ms)
        rows.running.append(disk)
        start = lambda make: lambda: make(rows.base, disk.device)
        for depth in DEPTHS:
            load = cold(disk, Lean(rows.lean_program, "read", 4096, depth, 1))
            yield Row("cold-%dms-d%d" % (ms, depth), {who: Contender(start(make), load) for who, make in servers.items()},
                      ms == 5 and depth == 32)
        if ms < 5: # cold reads would take both processors of a small machine
            continue
        warm = Lean(rows.lean_program, "read", 4096, 8, 1, more=["-r", str(WARM_BYTES)])
        load = beside(disk, warm, Lean(rows.lean_program, "read", 4096, 32, 1))
        contenders = {who: Contender(start(make), load) for who, make in servers.items()}
        contenders["xnbd apart"] = Apart(start(xnbd), load)
        yield Row("cold-%dms-beside" % ms, contenders, True, others=False)
