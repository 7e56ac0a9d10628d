# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A virtual machine (see init), and what stands around it on the host.
import atexit, json, os, re, select, socket, subprocess, sys, time
import nbd

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from free_port import free_port

BUILD = os.environ["VM"]
XNBDBOX = os.environ["XNBDBOX"]
HOST = "10.0.2.2"  # as the machine sees it; there it is 127.0.0.1
PATIENCE = 900  # seconds for what takes one or two: a busy host is no error
# For each kernel. norandmaps: QEMU keeps what it has translated of a program by its addresses. A boot that
# starts thousands of processes, each at addresses of its own, comes to a standstill.
WORDS = "console=ttyS0 panic=-1 norandmaps no_timer_check mitigations=off random.trust_cpu=on sysrq_always_enabled"


def spawn(*command, **more):
    """A process that does not outlive this one."""
    p = subprocess.Popen(("setpriv", "--pdeathsig", "KILL", *command), stdin=subprocess.DEVNULL, **more)
    atexit.register(p.kill)
    return p


def connect(port, name=""):
    """A client of an NBD server that may be just starting."""
    end = time.monotonic() + PATIENCE
    while True:
        h = nbd.NBD()
        h.set_export_name(name)
        try:
            h.connect_tcp("127.0.0.1", str(port))
            return h
        except nbd.Error as e:
            if time.monotonic() > end:
                sys.exit(f"no server on port {port}: {e}")
            time.sleep(0.05)


def serve_origin(path):
    """Our own target, for the machine to copy from. Returns its port."""
    port = free_port()
    spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--laddr", "127.0.0.1", "--lport", str(port), path)
    connect(port).shutdown()
    return port


def format_ext4(path, size, *more):
    """An empty file system."""
    with open(path, "wb") as f:
        f.truncate(size)
    # Without checksums: the power may fail between the two sectors of the superblock, which
    # real disks write in one; the checksum would make that the end of the file system.
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^metadata_csum", *more, path], check=True)


def make_ext4(path, size, *more):
    """Its bytes."""
    format_ext4(path, size, *more)
    with open(path, "rb") as f:
        return f.read()


def kernel(release):
    """For Machine: one of the two kernels of build.sh."""
    return {} if release == "6.1" else {"kernel": f"vmlinuz-{release}", "initrd": f"initrd-{release}"}


def expect_quiet(may_say=r"(?!)"):
    """Nothing on the console of an error of a disk or file system, or of the kernel itself, but lines that match may_say.
    That a processor was not there for long is the fault of a busy host."""
    with open("console.log", errors="replace") as f:
        lines = re.findall(r".*(?:I/O error|EXT4-fs error|[Rr]emounting filesystem read-only|BUG|WARNING|blocked for).*", f.read())
    lines = [line for line in lines if "soft lockup" not in line and not re.search(may_say, line)]
    if lines:
        sys.exit("the kernel says:\n" + "\n".join(lines))


class Machine:
    """drives: what QEMU calls a file, with options if need be; raw. They are /dev/vda, vdb,
    ... 127.0.0.1:port of the host leads to port 8521 of the machine. Another initrd has to
    end in something that does as init does, too. memory: MiB. ready: waits until it is. disk: options of each disk. nic: () for a
    machine without a network. firmware: options of a machine that gets no kernel, initrd and append, as its firmware finds a boot
    loader on its disks."""

    def __init__(self, *drives, kernel="vmlinuz", initrd="initrd", append="quiet", line=("-serial", "chardev:line"), memory=256, ready=True, disk="",
                 nic=("-device", "virtio-net-pci,netdev=net,romfile="), firmware=()):
        self.port = free_port()
        listener = socket.socket(socket.AF_UNIX)
        if os.path.exists("line.sock"):
            os.unlink("line.sock")
        listener.bind("line.sock")
        listener.listen(1)
        start = firmware or ("-kernel", os.path.join(BUILD, kernel), "-initrd", os.path.join(BUILD, initrd), "-append", f"{append} {WORDS}")
        command = ["qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max", "-m", str(memory), "-nodefaults",
                   "-no-user-config", "-display", "none", "-no-reboot", *start,
                   "-chardev", "socket,id=console,path=console.sock,server=on,wait=off,logfile=console.log", "-serial", "chardev:console",
                   "-qmp", "unix:qmp.sock,server=on,wait=off", "-chardev", "socket,id=line,path=line.sock", *line,
                   "-netdev", f"user,id=net,restrict=off,hostfwd=tcp:127.0.0.1:{self.port}-:8521", *nic]
        for i, drive in enumerate(drives):
            command += ["-drive", f"if=none,id=d{i},format=raw,file={drive}",
                        "-device", f"virtio-blk-pci,drive=d{i}{disk}"]
        with open("qemu.log", "w") as log:
            self.process = spawn(*command, stdout=log, stderr=log)
        listener.settimeout(PATIENCE)
        self.line = listener.accept()[0]
        self.line.settimeout(PATIENCE)
        self.said = self.line.makefile("r", errors="replace")
        if ready:
            self.until("ready")

    def until(self, *ends):
        """The lines that it says before one of these words."""
        lines = []
        while True:
            try:
                line = self.said.readline()
            except OSError as e:
                line = ""
                lines.append(f"{e}\n")
            if not line:
                with open("console.log", errors="replace") as f:
                    sys.exit("the machine says no more:\n" + "".join(lines[-5:] + f.readlines()[-20:]) + self.blocked())
            word = line.split()[:1]
            if word and word[0] in ends:
                return "".join(lines), line
            lines.append(line.replace("\r", ""))

    def blocked(self):
        """What the kernel says of tasks that wait for a disk or for memory, and of its memory
        (sysrq: a break on the serial line, then a letter)."""
        said = b""
        try:
            qmp, console = (socket.socket(socket.AF_UNIX) for _ in range(2))
            qmp.connect("qmp.sock")
            console.connect("console.sock")
            for letter in b"wm":
                for command in {"execute": "qmp_capabilities"}, {"execute": "chardev-send-break", "arguments": {"id": "console"}}:
                    qmp.sendall(json.dumps(command).encode() + b"\n")
                time.sleep(1)
                console.sendall(bytes((letter,)))
                while select.select([console], [], [], 10)[0]:
                    said += console.recv(4096)
        except OSError as e:
            said += f"no break on the serial line: {e}\n".encode()
        return said.decode(errors="replace").replace("\r", "")

    def tell(self, command):
        """Without waiting for its end."""
        self.line.sendall(command.encode() + b"\n")

    def run(self, command):
        """Returns what it says; that it fails is an error."""
        self.tell(command)
        said, end = self.until("exit")
        if end.split() != ["exit", "0"]:
            sys.exit(f"in the machine: {command}: {end}{said}")
        return said

    def query(self):
        said = self.run("xnbd-bgctl --query /run/ctl.sock")
        return dict(line.split(" ", 1) for line in said.splitlines())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.line.close()
