# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Partition tables of GPT, in sectors of 512 bytes.
import struct, sys, uuid, zlib

SECTOR = 512
ENTRIES, ENTRY = 128, 128
TABLE = ENTRIES * ENTRY // SECTOR  # sectors
HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
EFI_SYSTEM = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
SWAP = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
LVM = "e6d6d379-f507-44c2-a23c-238f2a3df928"


def header(own, other, last, table_at, table):
    """Of a disk whose last sector is `last`."""
    fields = [b"EFI PART", 0x10000, HEADER.size, 0, 0, own, other, TABLE + 2, last - TABLE - 1, bytes(16), table_at, ENTRIES, ENTRY,
              zlib.crc32(table)]
    fields[3] = zlib.crc32(HEADER.pack(*fields))
    return HEADER.pack(*fields).ljust(SECTOR, b"\0")


def make_disk(size, *parts):
    """The bytes of a disk with partitions: type, UUID, first byte, content; with both headers."""
    last = size // SECTOR - 1
    table = b"".join(uuid.UUID(kind).bytes_le + uuid.UUID(own).bytes_le + struct.pack("<QQQ", at // SECTOR, (at + len(content)) // SECTOR - 1, 0) + bytes(72)
                     for kind, own, at, content in parts).ljust(ENTRIES * ENTRY, b"\0")
    disk = bytearray(size)
    disk[446:512] = struct.pack("<BxxxBxxxII", 0, 0xEE, 1, last).ljust(64, b"\0") + b"\x55\xaa"
    disk[SECTOR:SECTOR * (TABLE + 2)] = header(1, last, last, 2, table) + table
    disk[-SECTOR * (TABLE + 1):] = table + header(last, 1, last, last - TABLE, table)
    for _, _, at, content in parts:
        disk[at:at + len(content)] = content
    return bytes(disk)


def expect_valid(disk):
    """Both headers and tables, by their checksums and what they say of each other."""
    last = len(disk) // SECTOR - 1
    tables = []
    for own, other in (1, last), (last, 1):
        head = disk[own * SECTOR:own * SECTOR + HEADER.size]
        fields = list(HEADER.unpack(head))
        at = fields[10] * SECTOR
        table = disk[at:at + ENTRIES * ENTRY]
        told, fields[3] = fields[3], 0
        if fields[0] != b"EFI PART" or fields[5:7] != [own, other] or told != zlib.crc32(HEADER.pack(*fields)) or fields[13] != zlib.crc32(table):
            sys.exit(f"the header of GPT in sector {own} is not valid")
        tables.append(table)
    if tables[0] != tables[1]:
        sys.exit("the two tables of GPT differ")
