# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# kernel_tls.py KERNEL SEED: TLS whose records are the kernel's, in a machine: a server, a proxy and xnbd-client, with each
# other and with GnuTLS on the host. /proc/net/tls_stat tells that it was the kernel.
import glob, os, random, subprocess, sys, time
import nbd
from machine import HOST, XNBDBOX, Machine, expect_quiet, free_port, kernel, spawn

RELEASE, SEED = sys.argv[1], int(sys.argv[2])
rng = random.Random(SEED)
SIZE = 10 << 20
SOURCE = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "../..")
KEY = rng.randbytes(32).hex()


def stat():
    """How many sockets the kernel does TLS for, or has, in each direction."""
    lines = m.run("cat /proc/net/tls_stat").splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got}, not {wanted}")


class counted:
    """A block that makes so many connections with the kernel's TLS; none of them is left behind it."""

    def __init__(self, what, connections, errors=0):
        self.what, self.connections, self.errors = what, connections, errors

    def __enter__(self):
        self.begun, self.before = time.monotonic(), stat()

    def __exit__(self, kind, *_):
        if kind:
            return
        after = stat()
        for name in "TlsTxSw", "TlsRxSw":
            got = after[name] - self.before[name]
            if got < self.connections or (not self.connections and got):
                sys.exit(f"{self.what}: {name} {got}, not {self.connections}")
        expect(f"{self.what}: errors", after["TlsDecryptError"] > self.before["TlsDecryptError"], bool(self.errors))
        print(f"{self.what}: {time.monotonic() - self.begun:.1f} s", file=sys.stderr)


def none_left():
    m.run("until_true 60 sh -c 'grep -q \"^TlsCurrTxSw[[:space:]]*0$\" /proc/net/tls_stat && grep -q \"^TlsCurrRxSw[[:space:]]*0$\" /proc/net/tls_stat'")


def uri(host, port, name="alice"):
    return f"nbds://{name}@{host}:{port}/?tls-psk-file=keys"


def in_machine(port, host="127.0.0.1"):
    return f"'nbds://alice@{host}:{port}/?tls-psk-file=/keys'"


def client(export=""):
    """A client on the host, of GnuTLS."""
    h = nbd.NBD()
    h.set_export_name(export)
    h.set_tls(nbd.TLS_REQUIRE)
    h.set_tls_psk_file("keys")
    h.set_tls_username("alice")
    h.connect_tcp("127.0.0.1", str(m.port))
    return h


def nbdcopy(source, to, *more):
    subprocess.run(["nbdcopy", *more, source, to], check=True)


def content(path):
    with open(path, "rb") as f:
        return f.read()


def sum_of(path):
    return m.run(f"md5sum {path}").split()[0]


# ---- GnuTLS as the client of a server in the machine ------------------------------------------------------

def server_in_machine():
    m.run("cp /dev/vda /t/disk.img && xnbd-server --target --daemonize --logpath /t/log --lport 8521 --tls-psk /keys --tls require /t/disk.img")
    with counted("nbdcopy reads, several connections", 2):
        nbdcopy(uri("127.0.0.1", m.port), "out.img", "--connections=4")
        expect("what was read", content("out.img") == data, True)
    with counted("nbdcopy writes", 1):
        new = rng.randbytes(SIZE)
        with open("new.img", "wb") as f:
            f.write(new)
        nbdcopy("new.img", uri("127.0.0.1", m.port), "--flush")
        expect("what was written", sum_of("/t/disk.img"), subprocess.run(["md5sum", "new.img"], capture_output=True, text=True).stdout.split()[0])
    sockets = m.run("grep -c . /proc/net/unix")
    with counted("no relay is left", 1):
        h = client()
        expect("Unix sockets with a client", m.run("grep -c . /proc/net/unix"), sockets)
        h.pwrite(b"x" * 100000, 12345)
        expect("what it reads", h.pread(100000, 12345), b"x" * 100000)
        h.shutdown()
    none_left()


def late_reader():
    """A client that disconnects before it reads the replies to its requests: all of them come."""
    with counted("replies behind the end", 1):
        h = client()
        buffers = [nbd.Buffer(1 << 20) for _ in range(8)]
        cookies = [h.aio_pread(b, i << 20) for i, b in enumerate(buffers)]
        h.aio_disconnect(0)
        time.sleep(2)
        now = content("new.img")[:12345] + b"x" * 100000 + content("new.img")[112345:]
        while h.aio_in_flight() and not h.aio_is_closed() and not h.aio_is_dead():
            h.poll(-1)
        for i, (b, c) in enumerate(zip(buffers, cookies)):
            expect("a reply has come", h.aio_command_completed(c), True)
            expect("it is right", bytes(b.to_bytearray()) == now[i << 20:][:1 << 20], True)
    none_left()


def upgrade():
    """The sessions go on in another program."""
    m.run("xnbd-wrapper --daemonize --logpath /t/log --lport 8521 --tls-psk /keys --tls require --imgfile /t/disk.img --socket /run/w.ctl")
    with counted("--upgrade", 1):
        h = client("/t/disk.img")
        for _ in range(2):
            expect("what it reads", h.pread(1 << 20, 0), content("new.img")[:12345] + b"x" * 100000 + content("new.img")[112345:1 << 20])
            m.run("xnbd-bgctl --upgrade /bin/xnbdbox /run/w.ctl")
            expect("whose key it is", m.run("xnbd-bgctl --query /run/w.ctl | grep tls_keys"), "tls_keys alice=1\n")
        h.pwrite(b"y" * 5000, 5 << 20)
        expect("what it has written", h.pread(5000, 5 << 20), b"y" * 5000)
        h.shutdown()
    none_left()
    m.run("kill $(pidof xnbd-wrapper); until_true 60 sh -c '! pidof xnbd-wrapper'; : >/t/log")


def root_storage():
    """Not the kernel's."""
    m.run("xnbd-server --target --root-storage --daemonize --pidfile /run/pid --lport 8521 --tls-psk /keys --tls require /t/disk.img")
    with counted("--root-storage", 0):
        h = client()
        expect("its size", h.get_size(), SIZE)
        h.shutdown()
    m.run("p=$(cat /run/pid) && kill $p && until_true 60 [ ! -e /proc/$p ]")


# ---- a proxy in the machine --------------------------------------------------------------------------------

def proxy(what, origin, wanted, mode="", says=""):
    """A move. mode: what the origin does; says: what the proxy does about it."""
    lost = mode in ("close", "flip", "update")
    with counted(what, 1 + lost, mode == "flip"):
        m.run(f"xnbd-server --proxy --daemonize --logpath /t/log --lport 0 --unix /run/p.sock {origin} /t/cache.img /t/cache.bm /run/ctl.sock && "
              "xnbd-bgctl --cache-all /run/ctl.sock && xnbd-bgctl --switch /run/ctl.sock")
        expect("the copy", sum_of("/t/cache.img"), wanted)
        m.run("p=$(xnbd-bgctl --query /run/ctl.sock | sed -n 's/^pid //p') && kill $p && until_true 60 [ ! -e /proc/$p ]; rm -f /t/cache.*")
        m.run(f"grep -q '{says}' /t/log; : >/t/log" if lost else "! grep -vE 'TLS: connected|: all blocks are local|: switched' /t/log")


def proxies():
    m.run("xnbd-server --target --daemonize --logpath /t/log --lport 8521 --tls-psk /keys --tls require /t/disk.img")
    proxy("a proxy, from our server in the machine", in_machine(8521), sum_of("/t/disk.img"))
    end_server()
    none_left()
    # GnuTLS
    port = free_port()
    kit = spawn("nbdkit", "-f", "--tls=require", "--tls-psk=keys", "-i", "127.0.0.1", "-p", str(port), "file", "data.img")
    proxy("a proxy, from nbdkit", in_machine(port, HOST), sum_of("/dev/vda"))
    kit.kill()
    none_left()


def end_server():
    m.run("kill $(pidof xnbd-server); until_true 60 sh -c '! pidof xnbd-server'; ! grep -vE 'TLS: connected|: all blocks are local|: switched' /t/log")


# ---- xnbd-client in the machine -----------------------------------------------------------------------------

def devices():
    port = free_port()
    kit = spawn("nbdkit", "-f", "--tls=require", "--tls-psk=keys", "-i", "127.0.0.1", "-p", str(port), "file", "new.img")
    m.run("cp /dev/vda /t/disk.img && xnbd-server --target --daemonize --logpath /t/log --lport 8521 --tls-psk /keys --tls require /t/disk.img")
    for ioctl in "", "--nonetlink ":
        for what, server in ("our server", in_machine(8521)), ("nbdkit", in_machine(port, HOST)):
            with counted(f"xnbd-client {ioctl}with {what}", 1):
                m.run(f"xnbd-client {ioctl}{server} /dev/nbd0")
                at = rng.randrange(1, 4000)
                m.run(f"dd if=/dev/vda of=/dev/nbd0 bs=4096 skip={at} seek={at} count=1000 conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; "
                      f"dd if=/dev/vda bs=4096 skip={at} count=1000 2>/dev/null >/t/a; dd if=/dev/nbd0 bs=4096 skip={at} count=1000 2>/dev/null | cmp - /t/a; rm /t/a")
                expect("processes", m.run("ps | grep -c '[@]nbd-client' || true").strip(), "1" if ioctl else "0")
                m.run("xnbd-client -d /dev/nbd0; until_true 60 sh -c 'xnbd-client --check /dev/nbd0; [ $? = 2 ]'")
    end_server()
    kit.kill()
    none_left()


# ---- records that are not data ---------------------------------------------------------------------------------

def origins():
    """Of a server: tickets and padding do no harm; after new keys, a broken record, or an end, the proxy connects again."""
    image, port = free_port(), free_port()
    spawn(XNBDBOX, "xnbd-server", "--target", "--readonly", "--laddr", "127.0.0.1", "--lport", str(image), "data.img")
    for mode, says in ("tickets", ""), ("padding", ""), ("close", ""), ("flip", ""), ("update", "support the KeyUpdate"):
        p = spawn("./tls_records", "server", str(port), str(image), KEY, mode, str(2 << 20))
        proxy(f"a proxy, an origin with {mode}", in_machine(port, HOST), sum_of("/dev/vda"), mode, says)
        p.kill()
        p.wait()
    none_left()


def clients():
    m.run("cp /dev/vda /t/disk.img && xnbd-server --target --daemonize --logpath /t/log --lport 8521 --tls-psk /keys --tls require /t/disk.img")
    for mode in "update", "ticket", "flip", "close", "alert", "type", "empty":
        with counted(f"a client with {mode}", 1, mode == "flip"):
            p = subprocess.run(["./tls_records", "client", str(m.port), KEY, mode], capture_output=True, text=True)
            expect(f"a client with {mode}", p.stdout + p.stderr, "hung up\n")
    with counted("others are served", 1):
        client().shutdown()
    expect("the log", m.run("grep -vc 'TLS: connected' /t/log; grep -c 'support the KeyUpdate' /t/log; : >/t/log"), "1\n1\n")
    end_server()
    none_left()


data = rng.randbytes(SIZE)
with open("data.img", "wb") as f:
    f.write(data)
with open("keys", "w") as f:
    f.write(f"alice:{KEY}\n")
m = Machine("data.img,readonly=on", append="loglevel=7", memory=512, **kernel(RELEASE))
subprocess.run(["gcc", "-std=gnu11", "-O2", f"-I{SOURCE}/applet", "-o", "tls_records", f"{SOURCE}/tests/vm/tls_records.c",
                *sorted(glob.glob(f"{SOURCE}/applet/tls/*.c"))], check=True)
m.run(f"mkdir /t && mount -t tmpfs t /t && (umask 077; echo alice:{KEY} >/keys)")
expect("at the start", stat()["TlsTxSw"], 0)
server_in_machine()
late_reader()
end_server()
upgrade()
root_storage()
proxies()
devices()
origins()
clients()
expect_quiet()
print("ok")
