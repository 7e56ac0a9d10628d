# SPDX-License-Identifier: GPL-2.0-or-later
# boot.py COMMIT_FILE: as if the machine had gone down since this file was written:
# another boot id in its header, the checksum to match (FNV-1a, see core/state.c).
import sys

f = open(sys.argv[1], "r+b")
header = bytearray(f.read(512))
header[24:64] = b"00000000-0000-0000-0000-000000000000".ljust(40, b"\0")
sum_ = 0xCBF29CE484222325
for byte in header[:504]:
    sum_ = (sum_ ^ byte) * 0x100000001B3 % (1 << 64)
header[504:] = sum_.to_bytes(8, "big")
f.seek(0)
f.write(header)
