# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# fuse.py BACKING MOUNTPOINT [KEY=VALUE...]: a file system with the files of the directory BACKING,
# by the kernel's protocol (linux/fuse.h), so that it can be as bad as one likes:
#   hang=FILE    while FILE is there, nothing that concerns a file's content or its opening is answered
#   read_ms=N    a read of a file's content takes so long, however many there are at a time
#   slow_ms=N    a write of 64 KiB or more takes so long; it cannot zero or punch (no fallocate)
#   lie=yes      lseek(2) says that there is no data anywhere
#   bad=FILE     while FILE is there, a read of a file's content fails with EIO
# Ends when it is unmounted.
import ctypes, errno, os, select, stat, struct, sys, time

backing, mountpoint = sys.argv[1:3]
options = dict(a.split("=", 1) for a in sys.argv[3:])
hang = options.get("hang")
slow, slow_read = (int(options.get(key, 0)) / 1000 for key in ("slow_ms", "read_ms"))

(LOOKUP, FORGET, GETATTR, SETATTR, UNLINK, RENAME, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR,
 CREATE, INTERRUPT, DESTROY, BATCH_FORGET, LSEEK) = (1, 2, 3, 4, 10, 12, 14, 15, 16, 17, 18, 20, 25, 26, 27, 28, 29, 35, 36, 38, 42, 46)
HANGS = (OPEN, CREATE, READ, WRITE, FSYNC, FLUSH, SETATTR, LSEEK)
BIG_WRITES, SET_SIZE = 1 << 5, 1 << 3
FOR_EVER = 1 << 20  # seconds that names and sizes are good for

names = {1: ""}  # of nodes


def path(node):
    return os.path.join(backing, names[node])


def node_of(name):
    for node, known in names.items():
        if known == name:
            return node
    node = max(names) + 1
    names[node] = name
    return node


def attr(node):
    s = os.stat(path(node))
    return struct.pack("<6Q10I", node, s.st_size, s.st_blocks, int(s.st_atime), int(s.st_mtime), int(s.st_ctime), 0, 0, 0,
                       s.st_mode, 1, 0, 0, 0, 4096, 0)


def entry(name):
    os.stat(os.path.join(backing, name))  # or ENOENT
    node = node_of(name)
    return struct.pack("<4Q2I", node, 0, 0, FOR_EVER, 0, 0) + attr(node)


def answer(op, node, data):
    if op == INIT:
        return struct.pack("<4I2H2I2H2I6I", 7, 31, 1 << 17, BIG_WRITES, 64, 48, 1 << 17, 1, 32, 0, 0, *[0] * 7)
    if op == LOOKUP:
        return entry(data[:-1].decode())
    if op == GETATTR:
        return struct.pack("<Q2I", FOR_EVER, 0, 0) + attr(node)
    if op == SETATTR:
        valid, _, _, size = struct.unpack_from("<2I2Q", data)
        if valid & SET_SIZE:
            os.truncate(path(node), size)
        return answer(GETATTR, node, b"")
    if op == UNLINK:
        os.unlink(os.path.join(backing, data[:-1].decode()))
        return b""
    if op == RENAME:
        old, new = data[8:-1].decode().split("\0")
        os.rename(os.path.join(backing, old), os.path.join(backing, new))
        for n in names:
            names[n] = {new: "", old: new}.get(names[n], names[n]) if n != 1 else ""
        return b""
    if op == CREATE:
        name = data[16:-1].decode()
        os.close(os.open(os.path.join(backing, name), os.O_CREAT | os.O_WRONLY, 0o600))
        return entry(name) + answer(OPEN, node_of(name), b"")
    if op in (OPEN, OPENDIR):
        return struct.pack("<Q2I", 0, 0, 0)
    if op == READ:
        if "bad" in options and os.path.exists(options["bad"]):
            raise OSError(errno.EIO, "")
        _, at, n = struct.unpack_from("<2QI", data)
        with open(path(node), "rb") as f:
            return os.pread(f.fileno(), n, at)
    if op == WRITE:
        _, at, n = struct.unpack_from("<2QI", data)
        with open(path(node), "r+b") as f:
            os.pwrite(f.fileno(), data[40:40 + n], at)
        return struct.pack("<2I", n, 0)
    if op == STATFS:
        return struct.pack("<5Q4I6I", 1 << 30, 1 << 30, 1 << 30, 1, 1, 4096, 255, 4096, 0, *[0] * 6)
    if op == LSEEK and "lie" in options:
        raise OSError(errno.ENXIO, "")
    if op in (RELEASE, FSYNC, FLUSH, RELEASEDIR, READDIR):
        return b""
    raise OSError(errno.ENOSYS, "")


def reply(unique, op, node, data):
    error = 0
    try:
        out = answer(op, node, data)
    except OSError as e:
        out, error = b"", e.errno
    try:
        os.write(fuse, struct.pack("<IiQ", 16 + len(out), -error, unique) + out)
    except OSError as e:
        if e.errno != errno.ENOENT:  # interrupted: nobody waits for it
            raise


def must_hang():
    return hang and os.path.exists(hang)


fuse = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"fuse", os.fsencode(mountpoint), b"fuse", 0, b"fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other" % (fuse, stat.S_IFDIR)):
    raise OSError(ctypes.get_errno(), "mount")
late = []  # answers that wait: until when, and what of
while True:
    now, hangs = time.monotonic(), must_hang()
    for l in [l for l in late if l[0] <= now and not (hangs and l[2] in HANGS)]:
        late.remove(l)
        reply(*l[1:])
    if not select.select([fuse], [], [], .002 if (slow or slow_read) and late else .02 if late else None)[0]:
        continue
    try:
        raw = os.read(fuse, (1 << 17) + 4096)
    except OSError as e:
        if e.errno == errno.ENODEV:
            sys.exit()  # unmounted
        if e.errno in (errno.ENOENT, errno.EINTR):
            continue
        raise
    _, op, unique, node = struct.unpack_from("<2I2Q", raw)
    if op in (FORGET, BATCH_FORGET, INTERRUPT):
        continue
    now = time.monotonic()
    if op in HANGS and must_hang():
        late.append((0, unique, op, node, raw[40:]))
    elif slow and op == WRITE and len(raw) > 65536:
        late.append((now + slow, unique, op, node, raw[40:]))
    elif slow_read and op == READ:
        late.append((now + slow_read, unique, op, node, raw[40:]))
    else:
        reply(unique, op, node, raw[40:])
