# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# bits_are_true.py BITMAP CACHE_IMAGE DISK: rule 1. Every bit that is set stands for
# a block whose bytes are in the image (nobody has written to the disk meanwhile).
import sys

bitmap, cache, disk = (open(name, "rb").read() for name in sys.argv[1:4])
words = memoryview(bitmap).cast("Q")
wrong = 0
for block in range((len(disk) + 4095) // 4096):
    if words[block // 64] >> block % 64 & 1:
        at = slice(block * 4096, block * 4096 + 4096)
        wrong += cache[at][: len(disk[at])] != disk[at]
print("true" if not wrong else f"{wrong} blocks are wrong")
