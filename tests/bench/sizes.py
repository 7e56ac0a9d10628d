# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# What a proxy's start, --query, copy and switch cost as the disk grows: sparse disks, nothing
# here at first, all of it in the end.
import os, subprocess, time
from servers import XNBDBOX, Broken, Server, run, size_at

GIB = 1 << 30
# The last is what fits into a file of ext4, whose limit is a block less than 16 TiB.
SIZES_GIB = [int(gib) for gib in (os.environ.get("BENCH_SIZES") or "1 4 16 64 256 1024 4096 15360").split()]
STEPS = "start", "query", "cache-all", "start, all here", "query, all here", "switch"


def seconds(act):
    begin = time.monotonic()
    act()
    return time.monotonic() - begin


class Proxy(Server):
    """Its start is over when its parent says so: --daemonize."""

    def __init__(self, base, origin):
        Server.__init__(self, base)
        self.control = self.dir + "/ctl"
        self.origin = origin

    def begin(self):
        run(XNBDBOX, "xnbd-server", "--proxy", "--laddr", "127.0.0.1", "--lport", "0", "--unix", self.socket, "--daemonize",
            "--pidfile", self.dir + "/pid", "unix:" + self.origin, "-", self.dir + "/img", self.dir + "/bm", self.control)
        self.pid = int(open(self.dir + "/pid").read())

    def finish(self):
        """It ends by itself, as it does when it is told to."""
        os.kill(self.pid, 15)
        until = time.monotonic() + 60
        while os.path.exists("/proc/%d" % self.pid):
            if time.monotonic() > until:
                raise Broken("the proxy does not end")
            time.sleep(0.01)
        self.pid = None

    def stop(self):
        if self.pid:
            self.finish()
        Server.stop(self)

    def ask(self, what):
        run(XNBDBOX, "xnbd-bgctl", what, self.control)


def cost(base, gib):
    """The seconds of each step."""
    disk = base + "/large.img"
    with open(disk, "wb") as f:
        f.truncate(gib * GIB)
    origin = Server(base)
    proxy = None
    try:
        origin.start([XNBDBOX, "xnbd-server", "--target", "--laddr", "127.0.0.1", "--lport", "0", "--unix", origin.socket, disk],
                     lambda: size_at(origin.uri()) == 0)
        proxy = Proxy(base, origin.socket)
        ask = lambda what: seconds(lambda: proxy.ask(what))
        found = [seconds(proxy.begin), ask("--query"), ask("--cache-all")]
        proxy.finish()
        return found + [seconds(proxy.begin), ask("--query"), ask("--switch")]
    finally:
        if proxy:
            proxy.stop()
        origin.stop()
        os.unlink(disk)


class Sizes:
    """The row of that name."""

    def __init__(self, out):
        self.out = out

    def table(self, base, rounds, say):
        """The least of the rounds: what is added to it is other work of the machine."""
        say("")
        say("What a disk without data costs as it grows, in milliseconds: the least of %d rounds." % rounds)
        say("")
        say("| GiB | " + " | ".join(STEPS) + " |")
        say("| ---: |" + " ---: |" * len(STEPS))
        rows = []
        for gib in SIZES_GIB:
            best = [min(times) for times in zip(*(cost(base, gib) for _ in range(rounds)))]
            rows.append([gib] + best)
            say("| %d | " % gib + " | ".join("%.1f" % (s * 1000) for s in best) + " |")
        with open(self.out + "/sizes.tsv", "w") as f:
            print("gib", *STEPS, sep="\t", file=f)
            for row in rows:
                print(*row, sep="\t", file=f)
        self.plot(rows)

    def plot(self, rows):
        with open(self.out + "/sizes.gp", "w") as f:
            f.write("set terminal png size 900,600\nset output '%s/sizes.png'\nset key left top\nset logscale xy\n" % self.out)
            f.write("set title 'a disk without data'\nset xlabel 'GiB'\nset ylabel 'seconds'\n")
            f.write("plot " + ", ".join("'-' with linespoints title '%s'" % step for step in STEPS) + "\n")
            for i in range(len(STEPS)):
                f.write("".join("%d %g\n" % (row[0], row[1 + i]) for row in rows) + "e\n")
        subprocess.run(["gnuplot", self.out + "/sizes.gp"], check=True)
        print("see %s/sizes.png" % self.out)
