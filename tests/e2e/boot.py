# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# boot.py COMMIT_FILE: as if the machine had gone down since this file was written:
# another boot id in both copies of its header, the checksums to match (FNV-1a, see
# core/state.c).
import sys

f = open(sys.argv[1], "r+b")
for copy in 0, 4096:
    f.seek(copy)
    header = bytearray(f.read(1024))
    if header[:7] != b"XNBDCMT":
        continue
    header[16:56] = b"00000000-0000-0000-0000-000000000000".ljust(40, b"\0")
    sum_ = 0xCBF29CE484222325
    for byte in header[:1016]:
        sum_ = (sum_ ^ byte) * 0x100000001B3 % (1 << 64)
    header[1016:] = sum_.to_bytes(8, "big")
    f.seek(copy)
    f.write(header)
