# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Who takes part: how each is started, how its clients reach it, and what it has used.
import contextlib, os, shutil, signal, subprocess, sys, tempfile, time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(TOP + "/tests")
from free_port import free_port
XNBDBOX = os.environ.get("XNBDBOX", TOP + "/build/xnbdbox")
BEFORE = os.environ.get("BENCH_BEFORE")  # another xnbdbox
TICKS = os.sysconf("SC_CLK_TCK")


class Broken(Exception):
    """Something does not run, or did what it must not do."""


def run(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Broken("%s: status %d: %s" % (" ".join(argv), done.returncode, done.stdout[-800:]))


@contextlib.contextmanager
def on_processors(some):
    """What is started meanwhile uses only these; None: any."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, some or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def size_at(uri):
    return subprocess.run(["nbdinfo", "--size", uri], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).returncode


class Server:
    """One that runs. Its files are in a directory of its own, which goes with it."""

    def __init__(self, base, tcp=False, keys=None):
        """keys: the file with the key of "alice", for TLS."""
        self.dir = tempfile.mkdtemp(dir=base)
        self.socket = self.dir + "/s"
        self.port = free_port() if tcp else None
        self.export = ""
        self.keys = keys
        self.pid = None

    def uri(self):
        if self.keys:
            return "nbds+unix://alice@/%s?socket=%s&tls-psk-file=%s" % (self.export, self.socket, self.keys)
        if self.port:
            return "nbd://127.0.0.1:%d/%s" % (self.port, self.export)
        return "nbd+unix:///%s?socket=%s" % (self.export, self.socket)

    def start(self, argv, ready, pidfile=None):
        log = open(self.dir + "/log", "w")
        # What nbdkit caches is to be where the others keep it.
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir, env=dict(os.environ, TMPDIR=self.dir))
        self.pid = None if pidfile else self.process.pid
        until = time.monotonic() + 30
        while not ready():
            if time.monotonic() > until or (not pidfile and self.process.poll() is not None):
                said = open(self.dir + "/log").read()[-800:]
                if pidfile and os.path.exists(pidfile):
                    self.pid = int(open(pidfile).read())
                self.stop()
                raise Broken("%s does not serve: %s" % (" ".join(argv), said))
            time.sleep(0.02)
        if pidfile:
            self.pid = int(open(pidfile).read())
        return self

    def family(self):
        """It, and the processes that it has made and that are alive."""
        found, left = [], [self.pid]
        while left:
            pid = left.pop()
            try:
                left += map(int, open("/proc/%d/task/%d/children" % (pid, pid)).read().split())
                found.append(pid)
            except OSError:
                pass
        return found

    def cpu_s(self):
        """Of all, also of those that have ended: their parent has waited for them."""
        until = time.monotonic() + 5
        while len(self.family()) > 1 and time.monotonic() < until:
            time.sleep(0.005)
        fields = open("/proc/%d/stat" % self.pid).read().rsplit(") ", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICKS

    def forget_peak(self):
        with open("/proc/%d/clear_refs" % self.pid, "w") as f:
            f.write("5")

    def peak_bytes(self):
        total = 0
        for pid in self.family():
            try:
                for line in open("/proc/%d/status" % pid):
                    if line.startswith("VmHWM:"):
                        total += int(line.split()[1]) << 10
            except OSError:
                pass
        return total

    def stop(self):
        for pid in self.family() if self.pid else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.pid:
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- a disk that is here ---------------------------------------------------------


def xnbd(base, image, tcp=False, binary=XNBDBOX, more=(), keys=None):
    s = Server(base, tcp, keys)
    more = [*more, *(["--tls", "require", "--tls-psk", keys] if keys else [])]
    argv = [binary, "xnbd-server", "--target", "--laddr", "127.0.0.1", "--lport", str(s.port or 0), "--unix", s.socket, "--max-clients", "0", *more, image]
    return s.start(argv, lambda: size_at(s.uri()) == 0)


def xnbd_threads(n):
    """With so many; a program that knows no such option has one."""
    usage = subprocess.run([XNBDBOX, "xnbd-server", "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    more = ["--threads", str(n)] if "--threads" in usage else []
    return lambda base, image, tcp=False: xnbd(base, image, tcp, more=more)


def nbdkit_plugin(base, tcp, *what, keys=None):
    s = Server(base, tcp, keys)
    what = [*(["--tls=require", "--tls-psk=" + keys] if keys else []), *what]
    where = ["-i", "127.0.0.1", "-p", str(s.port)] if tcp else ["-U", s.socket]
    return s.start(["nbdkit", "-f", *where, *what], lambda: size_at(s.uri()) == 0)


def nbdkit(base, image, tcp=False, keys=None):
    return nbdkit_plugin(base, tcp, "file", image, keys=keys)


def nbdkit_64(base, image, tcp=False):
    """With 64 threads for each connection, instead of 16."""
    return nbdkit_plugin(base, tcp, "--threads", "64", "file", image)


def ceiling(program):
    """tests/bench/ceiling.c: what no server is faster than."""

    def start(base, image, tcp=False):
        s = Server(base, tcp)
        return s.start([program, str(s.port) if tcp else "unix:" + s.socket, image], lambda: size_at(s.uri()) == 0)

    return start


def nbdkit_memory(base, image, tcp=False):
    s = nbdkit_plugin(base, tcp, "memory", str(os.path.getsize(image)))
    run("nbdcopy", image, s.uri())
    return s


def qemu_nbd(base, image, tcp=False, keys=None):
    s = Server(base, tcp, keys)
    where = ["-b", "127.0.0.1", "-p", str(s.port)] if tcp else ["-k", s.socket]
    argv = ["qemu-nbd", "-t", "-e", "64", "-f", "raw", "--aio=threads", "--cache=writeback", *where, image]
    if keys:
        argv[1:1] = ["--object", "tls-creds-psk,id=t,endpoint=server,dir=" + os.path.dirname(keys), "--tls-creds", "t"]
    return s.start(argv, lambda: size_at(s.uri()) == 0)


def nbd_server(base, image, tcp=False):
    s = Server(base, tcp)
    where = "listenaddr = 127.0.0.1\n\tport = %d" % s.port if tcp else "unixsock = " + s.socket
    with open(s.dir + "/conf", "w") as f:
        f.write("[generic]\n\t%s\n[disk]\n\texportname = %s\n\tflush = true\n" % (where, image))
    s.export = "disk"  # it has no default one
    # It becomes a daemon, whatever it is told.
    return s.start(["nbd-server", "-C", s.dir + "/conf", "-p", s.dir + "/pid"], lambda: size_at(s.uri()) == 0, s.dir + "/pid")


# ---- one that stands before another ----------------------------------------------


def xnbd_proxy(base, origin, binary=XNBDBOX):
    """origin: a socket, or a URI"""
    s = Server(base)
    s.control = s.dir + "/ctl"
    origin = [origin] if "://" in origin else ["unix:" + origin, "-"]
    argv = [binary, "xnbd-server", "--proxy", "--laddr", "127.0.0.1", "--lport", "0", "--unix", s.socket, *origin, "img", "bm", "ctl"]
    return s.start(argv, lambda: size_at(s.uri()) == 0)


def nbdkit_cache(base, origin):
    return nbdkit_plugin(base, False, "--filter=cache", "nbd", "socket=" + origin, "cache-on-read=true")


def nbdkit_cow(base, origin):
    return nbdkit_plugin(base, False, "--filter=cow", "nbd", "socket=" + origin, "cow-on-read=true")


def qemu_copy_on_read(base, origin):
    s = Server(base)
    overlay = s.dir + "/overlay"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "nbd+unix:///?socket=" + origin, "-F", "raw", overlay)
    image = "driver=copy-on-read,file.driver=qcow2,file.file.driver=file,file.file.filename=" + overlay
    argv = ["qemu-nbd", "-t", "-e", "64", "--aio=threads", "--cache=writeback", "-k", s.socket, "--image-opts", image]
    return s.start(argv, lambda: size_at(s.uri()) == 0)


def relay(base, program, to, delay_ms):
    """A link whose round trip takes so long."""
    s = Server(base)
    return s.start([program, s.socket, to, str(int(delay_ms * 500))], lambda: size_at(s.uri()) == 0)


# ---- who takes part ----------------------------------------------------------------


def xnbd_before(base, image, tcp=False, keys=None):
    return xnbd(base, image, tcp, BEFORE, keys=keys)


def xnbd_proxy_before(base, origin):
    return xnbd_proxy(base, origin, BEFORE)


if BEFORE:
    TARGETS = {"xnbd": xnbd, "before": xnbd_before}
    PROXIES = {"xnbd": xnbd_proxy, "before": xnbd_proxy_before}
    TARGETS_AND_MEMORY = TARGETS
else:
    TARGETS = {"xnbd": xnbd, "nbdkit": nbdkit, "qemu-nbd": qemu_nbd, "nbd-server": nbd_server}
    PROXIES = {"xnbd": xnbd_proxy, "nbdkit cache": nbdkit_cache, "nbdkit cow": nbdkit_cow, "qemu-nbd cor": qemu_copy_on_read}
    TARGETS_AND_MEMORY = dict(TARGETS, **{"nbdkit memory": nbdkit_memory})
# nbd-server of Debian 12 has certificates only.
TLS_TARGETS = {who: make for who, make in TARGETS.items() if make != nbd_server}
# One peer is enough for rows of which there are many.
LEAN_TARGETS = {who: make for who, make in TARGETS.items() if who in ("xnbd", "before", "nbdkit")}
# nbd-server's queue of those who connect is too short for 16 at once.
CROWD_TARGETS = {who: make for who, make in TARGETS.items() if make != nbd_server}
