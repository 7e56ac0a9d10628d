# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""What xNBD 0.4 does at its sockets, for the tests: its proxy and its xnbd-bgctl, as far
as others can see them.

  xnbd04.py proxy ORIGIN IMAGE BITMAP CONTROL NBD     serves NBD oldstyle, with sockets' paths
  xnbd04.py status SIZEFILE BITMAP CONTROL            a control socket that knows QUERY_STATUS
  xnbd04.py counts FILE                               lines "COUNT SIZE WHAT WORDS..." that are wrong
  xnbd04.py query|cache-all|switch CONTROL            xnbd-bgctl
  xnbd04.py reconnect CONTROL ORIGIN [NAME]
  xnbd04.py raw CONTROL COMMAND                       any number; prints how it ends
  xnbd04.py early-end CONTROL                         ends a session that was handed over
"""
import array, mmap, os, signal, socket, struct, sys, threading, time

BLOCK = 4096
STATUS = struct.Struct("@q4096s4096si4096s4096s4N")
QUERY, FD, FORWARDER, SHARED, DETECT = 1, 2, 3, 4, 5
OLD_MAGIC, NEW_MAGIC = 0x0000420281861253, b"IHAVEOPT"
RUN_BLOCKS, OUTSTANDING = 31, 1000


def exactly(s, n):
    """n bytes, or None at the end."""
    data = b""
    while len(data) < n:
        try:
            more = s.recv(n - len(data))
        except ConnectionError:
            more = b""
        if not more:
            return None
        data += more
    return data


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    return s


def handshake(path, name=""):
    """A connection in the transmission phase, and the size."""
    s = connect(path)
    assert exactly(s, 8) == b"NBDMAGIC"
    style = exactly(s, 8)
    if style == NEW_MAGIC:
        exactly(s, 2)
        s.sendall(struct.pack(">I8sII", 0, NEW_MAGIC, 1, len(name)) + name.encode())
        size = struct.unpack(">Q", exactly(s, 8) or sys.exit("no such export"))[0]
        exactly(s, 2 + 124)
    else:
        assert struct.unpack(">Q", style)[0] == OLD_MAGIC
        size = struct.unpack(">Q", exactly(s, 8))[0]
        exactly(s, 4 + 124)
    return s, size


class Bitmap:
    """An array of native 64-bit words: block i is bit i % 64 of word i / 64."""

    def __init__(self, path, size):
        self.blocks = (size + BLOCK - 1) // BLOCK
        bytes_ = (self.blocks + 63) // 64 * 8
        self.file = open(path, "r+b" if os.path.exists(path) else "w+b")
        if os.fstat(self.file.fileno()).st_size == 0:
            self.file.truncate(bytes_)
        assert os.fstat(self.file.fileno()).st_size == bytes_, "bitmap of another size"
        self.map = mmap.mmap(self.file.fileno(), bytes_)
        self.words = memoryview(self.map).cast("Q")

    def has(self, i):
        return self.words[i // 64] >> (i % 64) & 1

    def set(self, i):
        self.words[i // 64] |= 1 << (i % 64)

    def count(self):
        return sum(self.has(i) for i in range(self.blocks))


# ---- xnbd-server --proxy ------------------------------------------------------------------


class Proxy:
    def __init__(self, origin, image, bitmap, control, nbd):
        self.origin_path, self.control_path = origin, control
        self.origin, self.size = handshake(origin)
        self.paths = (os.path.abspath(image), os.path.abspath(bitmap))
        self.image = os.open(image, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(self.image, self.size)
        self.bits = Bitmap(bitmap, self.size)
        self.lock = threading.Lock()
        self.waiting, self.target = [], False
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})  # and in the threads
        self.listen(nbd, self.client)
        self.listen(control, self.control)
        while True:
            signal.sigwait({signal.SIGUSR2})
            self.switch()

    def listen(self, path, serve):
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
        s.listen(16)

        def accept():
            while True:
                c = s.accept()[0]
                threading.Thread(target=serve, args=(c,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def switch(self):
        with self.lock:
            self.target = True
            for c in self.waiting:
                c.close()

    def fetch(self, first, end):
        """Missing blocks are asked for one by one. False: the origin failed."""
        with self.lock:
            for i in range(first, end):
                if self.bits.has(i) or self.target:
                    continue
                n = min(BLOCK, self.size - i * BLOCK)
                try:
                    self.origin.sendall(struct.pack(">IIQQI", 0x25609513, 0, 7, i * BLOCK, n))
                except BrokenPipeError:
                    return False
                head = exactly(self.origin, 16)
                if head is None or struct.unpack(">IIQ", head)[:2] != (0x67446698, 0):
                    return False
                os.pwrite(self.image, exactly(self.origin, n), i * BLOCK)
                self.bits.set(i)
        return True

    def serve(self, s):
        while True:
            head = exactly(s, 28)
            if head is None:
                return
            magic, kind, handle, offset, length = struct.unpack(">II8sQI", head)
            if magic != 0x25609513 or kind == 2 or offset + length > self.size:
                return
            data, error = b"", 0
            first, end = offset // BLOCK, (offset + length + BLOCK - 1) // BLOCK
            if kind == 1:
                data = exactly(s, length)
                self.fetch(first, end)
                os.pwrite(self.image, data, offset)
                data = b""
            elif kind in (0, 5):
                error = 0 if self.fetch(first, end) else 5
                data = os.pread(self.image, length, offset) if kind == 0 and not error else b""
            s.sendall(struct.pack(">II8s", 0x67446698, error, handle) + data)

    def client(self, s):
        s.sendall(struct.pack(">8sQQI", b"NBDMAGIC", OLD_MAGIC, self.size, 5) + bytes(124))
        self.serve(s)
        s.close()

    def take_fd(self, s):
        fds = array.array("i")
        _, aux, _, _ = s.recvmsg(1, socket.CMSG_SPACE(4))
        for level, kind, data in aux:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds.frombytes(data[:4])
        return socket.socket(fileno=fds[0])

    def control(self, s):
        head = exactly(s, 4)
        command = struct.unpack("@i", head)[0] if head else 0
        if command == QUERY:
            s.sendall(STATUS.pack(self.size, self.paths[0].encode(), self.paths[1].encode(), os.getpid(),
                                  self.origin_path.encode(), b"-", 0, 0, 0, 0))
        elif command == FD:
            with self.take_fd(s) as session:
                self.serve(session)
            s.sendall(b"x")
        elif command == FORWARDER:
            self.origin = self.take_fd(s)
        elif command == DETECT:
            with self.lock:
                if not self.target:
                    self.waiting.append(s)
                    return
        s.close()  # with what was not read: the client sees ECONNRESET


def status_only(size_file, bitmap, control):
    s = socket.socket(socket.AF_UNIX)
    s.bind(control)
    os.seteuid(int(os.environ.get("AS_USER", 0)))  # which the kernel tells the peer
    s.listen(16)
    os.seteuid(0)
    while True:
        c = s.accept()[0]
        head = exactly(c, 4)
        if head and struct.unpack("@i", head)[0] == QUERY:
            size = int(open(size_file).read())
            pid = int(os.environ.get("TOLD_PID", os.getpid()))
            c.sendall(STATUS.pack(size, b"/nowhere", bitmap.encode(), pid, b"h", b"1", 1, 2, 3, 4))
        c.close()


def counts(path):
    for line in open(path):
        count, size, _, *words = line.split()
        words = [int(w, 16) for w in words]
        blocks = (int(size) + BLOCK - 1) // BLOCK
        if int(count) != sum(words[i // 64] >> (i % 64) & 1 for i in range(blocks)):
            print("wrong:", line)


# ---- xnbd-bgctl ---------------------------------------------------------------------------------


def command(control, number):
    s = connect(control)
    s.sendall(struct.pack("@i", number))
    return s


def query(control):
    s = command(control, QUERY)
    raw = exactly(s, STATUS.size)
    assert s.recv(1) == b"", "more than the status"
    v = STATUS.unpack(raw)
    for text in (v[1], v[2], v[4], v[5]):
        assert not text[text.index(b"\0"):].strip(b"\0"), "bytes behind a text"
    assert STATUS.pack(*v) == raw, "padding is not zero"
    return v


def text(b):
    return b[: b.index(b"\0")].decode()


def pass_fd(s, fd):
    s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


def missing_runs(bits):
    i = 0
    while i < bits.blocks:
        if bits.has(i):
            i += 1
            continue
        end = i
        while end < bits.blocks and end - i < RUN_BLOCKS and not bits.has(end):
            end += 1
        yield i, end
        i = end


def cache_all(control):
    v = query(control)
    bits = Bitmap(text(v[2]), v[0])
    ours, theirs = socket.socketpair()
    s = command(control, FD)
    pass_fd(s, theirs.fileno())
    theirs.close()
    room = threading.Semaphore(OUTSTANDING)
    refused = []

    def replies():
        while head := exactly(ours, 16):
            magic, error, handle = struct.unpack(">IIQ", head)
            assert (magic, handle) == (0x67446698, 2**64 - 1)
            refused.extend([error] * (error != 0))
            room.release()

    reader = threading.Thread(target=replies)
    reader.start()
    for first, end in missing_runs(bits):
        room.acquire()
        n = min(end * BLOCK, v[0]) - first * BLOCK
        ours.sendall(struct.pack(">IIQQI", 0x25609513, 5, 2**64 - 1, first * BLOCK, n))
    ours.sendall(struct.pack(">IIQQI", 0x25609513, 2, 2**64 - 1, 0, 0))
    byte = exactly(s, 1)
    reader.join()
    print("done" if byte and s.recv(1) == b"" else "hung up", bits.count(), "of", bits.blocks, "refused", len(refused))


def switch(control):
    v = query(control)
    bits = Bitmap(text(v[2]), v[0])
    if bits.count() < bits.blocks:
        sys.exit("not all blocks are here")
    s = command(control, DETECT)
    os.kill(v[3], signal.SIGUSR2)
    assert s.recv(1) == b""
    print("switched")


def reconnect(control, origin, name=""):
    link, _ = handshake(origin, name)
    s = command(control, FORWARDER)
    pass_fd(s, link.fileno())
    link.close()
    assert s.recv(1) == b""


def descriptors(control):
    for n in range(4):
        with socket.socket(socket.AF_UNIX) as s, open("/dev/null") as f:
            s.connect(control)
            socket.send_fds(s, [b"status\n"], [f.fileno()] * n)
            assert b"\nok\n" in s.recv(65536)


def raw(control, number):
    s = command(control, number)
    if number == SHARED:
        with open("/dev/zero") as f:
            pass_fd(s, f.fileno())
    try:
        print("end of file" if s.recv(1) == b"" else "data")
    except ConnectionResetError:
        print("reset")


def early_end(control, part=None):
    ours, theirs = socket.socketpair()
    s = command(control, FD)
    pass_fd(s, theirs.fileno())
    theirs.close()
    ours.sendall(struct.pack(">IIQQI", 0x25609513, 0, 1, 0, 512))
    print("read", exactly(ours, 16 + 512) is not None)
    if part:
        ours.sendall(struct.pack(">IIQQI", 0x25609513, 1, 2, 0, 8192) + bytes(100))
        time.sleep(0.2)
    s.settimeout(20)
    s.sendall(b"x")
    print("session ended", ours.recv(1) == b"", "then a byte", exactly(s, 1) is not None and s.recv(1) == b"")


def main(verb, *args):
    if verb == "proxy":
        Proxy(*args)
    elif verb == "status":
        status_only(*args)
    elif verb == "counts":
        counts(args[0])
    elif verb == "query":
        v = query(args[0])
        print("disk_size", v[0])
        print("cache_image", text(v[1]))
        print("bitmap", text(v[2]))
        print("pid", v[3])
        print("origin", text(v[4]), text(v[5]))
        print("limits", v[6], v[7])
    elif verb == "raw":
        raw(args[0], int(args[1]))
    else:
        {"cache-all": cache_all, "switch": switch, "reconnect": reconnect, "early-end": early_end, "descriptors": descriptors}[verb](*args)


main(*sys.argv[1:])
