# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# partitioned.py FILE gpt|mbr [SECTOR]: a disk of 32 MiB with the partitions "state" (1 MiB to 9 MiB) and "the cache"
# (9 MiB to 31 MiB); SECTOR: its logical blocks.
import struct, sys, uuid, zlib

PATH, KIND, SECTOR = sys.argv[1], sys.argv[2], int((sys.argv[3:] or ["512"])[0])
MIB = 1 << 20
TOTAL = 32 * MIB // SECTOR
PARTS = (("state", 1, 9, "11111111-2222-3333-4444-5566778899aa"), ("the cache", 9, 31, "abcdef01-2345-6789-abcd-ef0123456789"))


def gpt(f):
    linux = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
    table = b"".join(linux.bytes_le + uuid.UUID(own).bytes_le + struct.pack("<QQQ", begin * MIB // SECTOR, end * MIB // SECTOR - 1, 0)
                     + name.encode("utf-16-le").ljust(72, b"\0") for name, begin, end, own in PARTS).ljust(128 * 128, b"\0")
    fields = struct.pack("<QQQQ16sQIII", 1, TOTAL - 1, MIB // SECTOR, TOTAL - 35, bytes(16), 2, 128, 128, zlib.crc32(table))
    head = struct.pack("<8sIIII", b"EFI PART", 0x10000, 92, 0, 0) + fields
    f.seek(SECTOR)
    f.write(head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:])
    f.seek(2 * SECTOR)
    f.write(table)
    return struct.pack("<BxxxBxxxII", 0, 0xEE, 1, TOTAL - 1)


def mbr(f):
    return b"".join(struct.pack("<BxxxBxxxII", 0, 0x83, begin * MIB // SECTOR, (end - begin) * MIB // SECTOR) for _, begin, end, _ in PARTS)


with open(PATH, "wb") as f:
    f.truncate(32 * MIB)
    entries = {"gpt": gpt, "mbr": mbr}[KIND](f)
    f.seek(440)
    f.write(bytes.fromhex("78563412") + bytes(2) + entries.ljust(64, b"\0") + b"\x55\xaa")
