# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A physical volume of LVM2 with one metadata area, and linear volumes one after the other: what pvcreate, vgcreate and
# lvcreate make, without device-mapper on this machine.
import struct, zlib

SECTOR = 512
MIB = 1 << 20
METADATA_AT = 4096  # up to the first extent, at 1 MiB
EXTENT = MIB


def checksum(content):
    return zlib.crc32(content, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def identity(n):
    return f"{n:032d}"


def dashed(name):
    return "-".join(name[a:b] for a, b in ((0, 6), (6, 10), (10, 14), (14, 18), (18, 22), (22, 26), (26, 32)))


def label(size):
    header = identity(0).encode() + struct.pack("<Q 4Q 4Q II 2Q", size, EXTENT, 0, 0, 0, METADATA_AT, EXTENT - METADATA_AT, 0, 0, 2, 1, 0, 0)
    body = (struct.pack("<I8s", 32, b"LVM2 001") + header).ljust(SECTOR - 20, b"\0")
    return b"LABELONE" + struct.pack("<QI", 1, checksum(body)) + body


def metadata(group, size, volumes):
    text, at = "", 0
    for n, (name, content) in enumerate(volumes.items()):
        extents = len(content) // EXTENT
        text += (f'{name} {{ id = "{dashed(identity(n + 2))}" status = ["READ", "WRITE", "VISIBLE"] flags = [] segment_count = 1\n'
                 f'segment1 {{ start_extent = 0 extent_count = {extents} type = "striped" stripe_count = 1 stripes = ["pv0", {at}] }} }}\n')
        at += extents
    return (f'{group} {{ id = "{dashed(identity(1))}" seqno = 1 format = "lvm2" status = ["RESIZEABLE", "READ", "WRITE"] flags = []\n'
            f'extent_size = {EXTENT // SECTOR} max_lv = 0 max_pv = 0 metadata_copies = 0\n'
            f'physical_volumes {{ pv0 {{ id = "{dashed(identity(0))}" status = ["ALLOCATABLE"] flags = [] dev_size = {size // SECTOR}\n'
            f'pe_start = {EXTENT // SECTOR} pe_count = {size // EXTENT - 1} }} }}\n'
            f'logical_volumes {{ {text}}} }}\ncontents = "Text Format Volume Group" version = 1\n').encode() + b"\0"


def make_volume(group, **volumes):
    """The bytes of a physical volume; the first of `volumes`, name and content in whole MiB, begins at 1 MiB."""
    data = b"".join(volumes.values())
    size = EXTENT + len(data)
    text = metadata(group, size, volumes)
    area = (b" LVM2 x[5A%r0N*>" + struct.pack("<IQQ QQII", 1, METADATA_AT, EXTENT - METADATA_AT, SECTOR, len(text), checksum(text), 0)).ljust(SECTOR - 4, b"\0")
    head = bytes(SECTOR) + label(size).ljust(METADATA_AT - SECTOR, b"\0") + struct.pack("<I", checksum(area)) + area + text
    return head.ljust(EXTENT, b"\0") + data
