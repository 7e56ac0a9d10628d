# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# messages.py SINK: a proxy whose messages go to what takes none. What is to be seen: it
# serves, answers at its control socket, counts what is lost, tells it when messages can be
# written again, and ends at SIGTERM while they cannot.
import fcntl, os, re, select, signal, socket, subprocess, sys, termios, time, tty
from peer import FLUSH, READ, answer, ask, connect, receive, reply, request, session

MANY = 600  # messages; more than pipe, terminal or socket and the server's own room hold


class Pipe:
    """Nobody reads."""

    def __init__(self):
        self.reader, self.fd = os.pipe()
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 4096)
        self.options = []

    def name(self):
        return {"stderr": self.fd}

    def free(self):
        """What has come, until nothing more does."""
        text = b""
        while select.select([self.reader], [], [], 0.5)[0]:
            part = os.read(self.reader, 65536)
            if not part:
                break
            text += part
        return text.decode()

    def block(self):
        pass


class Fifo(Pipe):
    """Opened for reading by nobody but the one who writes."""

    def __init__(self):
        os.mkfifo("fifo")
        self.reader = self.fd = os.open("fifo", os.O_RDWR)
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, 4096)
        self.options = []


class LogFifo(Fifo):
    """--logpath: a FIFO that has a reader, which does not read."""

    def __init__(self):
        Fifo.__init__(self)
        self.options = ["--logpath", "fifo"]

    def name(self):
        return {}


class Socket(Pipe):
    """As journald's, while it waits for its disk."""

    def __init__(self):
        self.pair = socket.socketpair()
        self.pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.reader, self.fd = (s.fileno() for s in self.pair)
        self.options = []


class Gone(Pipe):
    """The reader has gone."""

    def __init__(self):
        Pipe.__init__(self)
        os.close(self.reader)

    free = None


class Closed(Gone):
    def name(self):
        return {"preexec_fn": lambda: os.close(2)}


class Full(Gone):
    def __init__(self):
        self.fd = os.open("/dev/full", os.O_WRONLY)
        self.options = []


class Disk(Pipe):
    """A file on a full disk; sys.argv[2] is a small one."""

    def __init__(self):
        self.dir = sys.argv[2]
        self.options = []
        self.fd = os.open(self.dir + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.block()

    def block(self):
        with open(self.dir + "/full", "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
        # the last page of the log may have room
        try:
            while True:
                os.write(self.fd, b"\n" * 64)
        except OSError:
            pass

    def free(self):
        os.unlink(self.dir + "/full")
        os.kill(server.pid, signal.SIGUSR1)
        time.sleep(0.5)
        return open(self.dir + "/log").read()


class Frozen(Pipe):
    """A file on a disk that hangs."""

    def __init__(self):
        self.dir = sys.argv[2]
        self.options = []
        self.fd = os.open(self.dir + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def block(self):
        subprocess.run(["fsfreeze", "-f", self.dir], check=True)

    def free(self):
        subprocess.run(["fsfreeze", "-u", self.dir], check=True)
        time.sleep(0.5)
        return open(self.dir + "/log").read()


class Terminal(Pipe):
    """Stopped, as by ^S."""

    def __init__(self):
        self.reader, self.fd = os.openpty()
        tty.setraw(self.fd)
        self.options = []

    def block(self):
        termios.tcflow(self.fd, termios.TCOOFF)

    def free(self):
        termios.tcflow(self.fd, termios.TCOON)
        return Pipe.free(self)


class Stopping(Gone):
    """A terminal that stops background processes that write to it (stty tostop)."""

    def __init__(self):
        self.options = []
        self.reader, self.fd = os.openpty()
        mode = termios.tcgetattr(self.fd)
        mode[3] |= termios.TOSTOP
        termios.tcsetattr(self.fd, termios.TCSANOW, mode)
        os.setsid()
        os.close(os.open(os.ttyname(self.fd), os.O_RDWR))  # is ours

    def name(self):
        return {"stderr": self.fd, "preexec_fn": lambda: os.setpgid(0, 0)}


class Syslog(Pipe):
    """syslogd does not read; in a /dev of our own."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("/dev/log")
        self.reader = self.socket.fileno()
        self.options = ["--syslog"]

    def name(self):
        return {}

    def free(self):
        text = ""
        while select.select([self.reader], [], [], 0.5)[0]:
            text += os.read(self.reader, 65536).decode() + "\n"
        return text


class Notify(Gone):
    """The service manager does not read."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("notify.sock")
        self.options = []
        other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        other.setblocking(False)
        try:
            while True:
                other.sendto(b"x", "notify.sock")
        except BlockingIOError:
            pass

    def name(self):
        return {"env": dict(os.environ, NOTIFY_SOCKET="notify.sock")}


def status():
    answered = dict(line.split(" ", 1) for line in ask("ctl.sock", "status", 5).splitlines() if " " in line)
    return int(answered["messages_lost"])


def serves():
    s = session("proxy.sock", 5)
    for kind, length in ((READ, 4096), (FLUSH, 0)):
        s.sendall(request(kind, 7, 0, length))
        assert reply(s) == (0, 7)
        receive(s, length)
    s.close()
    print("serves", flush=True)


def messages():
    """Each wants a snapshot that a proxy does not make."""
    with connect("ctl.sock", 5) as s:
        for i in range(MANY):
            os.kill(server.pid, signal.SIGUSR1)
            s.sendall(b"pause\n")
            answer(s)


sink = globals()[sys.argv[1]]()
server = subprocess.Popen(["xnbd-server", "--proxy", "--lport", "0", "--unix", "proxy.sock", *sink.options,
                           "unix:origin.sock", "-", "cache.img", "cache.bm", "ctl.sock"], **sink.name())
try:
    for _ in range(200):
        if os.path.exists("proxy.sock") and subprocess.run(["nbdinfo", "--size", "nbd+unix:///?socket=proxy.sock"], timeout=5, capture_output=True).returncode == 0:
            break
        time.sleep(0.05)
    sink.block()
    messages()
    serves()
    lost = status()
    print("lost" if lost else "none lost", flush=True)
    if sink.free:
        text = sink.free()
        told = sum(int(n) for n in re.findall(r": (\d+) messages? were lost", text))
        print("told" if status() == told else f"{told} told, {status()} lost", flush=True)
        sink.block()
        messages()
        serves()
    server.send_signal(signal.SIGTERM)
    try:
        print(server.wait(10))
    except subprocess.TimeoutExpired:
        if sys.argv[1] != "Frozen":
            raise
        # the kernel ends no thread that waits for such a disk
        print("thaw")
        sink.free()
        print(server.wait(10))
except Exception as e:
    print(type(e).__name__, e)
finally:
    if sys.argv[1] == "Frozen":
        subprocess.run(["fsfreeze", "-u", sink.dir], capture_output=True)
    server.kill()
    server.wait()
