# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
"""The old handshakes by hand, as they were before "fixed newstyle" and with its first servers.

  old.py serve oldstyle|newstyle|tripping SOCKET FILE    reads only, one connection after the other
  old.py use oldstyle|newstyle|ored SOCKET NAME MODEL    a client: reads all, writes a little, reads again

tripping: as nbd-server 3.8 to 3.14. It says fixed newstyle, and knows EXPORT_NAME and ABORT. To any other option it
answers ERR_UNSUP, but leaves the option's length and data unread; so it finds no magic next, and hangs up.

ored: newstyle as nbd-client 3.3 to 3.9.1 speaks it. The flags of the handshake are or-ed into those of the export, and
the disk is set up by the result.
"""
import socket, struct, sys

role, style, path = sys.argv[1:4]
READ_ONLY = 2
OLD_MAGIC, NEW_MAGIC = struct.pack(">Q", 0x0000420281861253), b"IHAVEOPT"


def exactly(s, n):
    data = bytearray()
    while len(data) < n:
        part = s.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def greet(s, size):
    if style == "oldstyle":
        s.sendall(b"NBDMAGIC" + OLD_MAGIC + struct.pack(">QI", size, 3) + bytes(124))
        return
    if style == "tripping":
        greet_tripping(s, size)
        return
    s.sendall(b"NBDMAGIC" + NEW_MAGIC + struct.pack(">H", 0))
    flags, magic, option, n = struct.unpack(">I8sII", exactly(s, 20))
    assert (flags, magic, option) == (0, NEW_MAGIC, 1), (flags, magic, option)
    exactly(s, n)
    s.sendall(struct.pack(">QH", size, 3) + bytes(124))


def greet_tripping(s, size):
    s.sendall(b"NBDMAGIC" + NEW_MAGIC + struct.pack(">H", 3))
    no_zeroes = exactly(s, 4)[3] & 2
    while True:
        magic, option = struct.unpack(">8sI", exactly(s, 12))
        if magic != NEW_MAGIC or option == 2:
            raise EOFError
        if option == 1:
            break
        s.sendall(struct.pack(">QIII", 0x3E889045565A9, option, 0x80000001, 0))
    exactly(s, struct.unpack(">I", exactly(s, 4))[0])
    s.sendall(struct.pack(">QH", size, 3) + bytes(0 if no_zeroes else 124))


def serve(disk):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    while True:
        s = listener.accept()[0]
        try:
            greet(s, len(disk))
            while True:
                magic, kind, cookie, at, n = struct.unpack(">IIQQI", exactly(s, 28))
                assert magic == 0x25609513 and kind in (0, 2), (magic, kind)
                if kind == 2:
                    break
                assert 0 < n <= len(disk) - at
                s.sendall(struct.pack(">IIQ", 0x67446698, 0, cookie) + disk[at:at + n])
        except (EOFError, OSError):
            pass
        s.close()


def shake_hands(s, name):
    assert exactly(s, 8) == b"NBDMAGIC"
    if style == "oldstyle":
        assert exactly(s, 8) == OLD_MAGIC
        size = struct.unpack(">Q", exactly(s, 8))[0]
        assert exactly(s, 4 + 124)[4:] == bytes(124)
        return size
    assert exactly(s, 8) == NEW_MAGIC
    of_handshake = struct.unpack(">H", exactly(s, 2))[0]
    s.sendall(struct.pack(">I8sII", 0, NEW_MAGIC, 1, len(name)) + name)
    size, of_export = struct.unpack(">QH", exactly(s, 10))
    assert exactly(s, 124) == bytes(124)
    if (of_export | (of_handshake if style == "ored" else 0)) & READ_ONLY:
        sys.exit("it is read-only")
    return size


def ask(s, kind, at, n, data=b""):
    s.sendall(struct.pack(">IIQQI", 0x25609513, kind, at ^ 0x5555, at, n) + data)
    assert struct.unpack(">IIQ", exactly(s, 16)) == (0x67446698, 0, at ^ 0x5555)
    return exactly(s, n) if kind == 0 else b""


def read_all(s, size):
    return b"".join(ask(s, 0, at, min(131072, size - at)) for at in range(0, size, 131072))


def use(name, model_file):
    model = bytearray(open(model_file, "rb").read())
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    assert shake_hands(s, name.encode()) == len(model)
    assert read_all(s, len(model)) == model
    for at, n in ((5, 7), (4090, 8200), (len(model) - 1000, 1000)):
        model[at:at + n] = bytes([n % 251]) * n
        ask(s, 1, at, n, model[at:at + n])
    assert read_all(s, len(model)) == model
    s.sendall(struct.pack(">IIQQI", 0x25609513, 2, 0, 0, 0))
    assert s.recv(1) == b""
    open(model_file, "wb").write(model)
    print("right")


if role == "serve":
    serve(open(sys.argv[4], "rb").read())
else:
    use(sys.argv[4], sys.argv[5])
