#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# What io_uring would bring: fio alone reads and writes 4 KiB at random of a file that is in the
# page cache, one call for each (psync, pvsync2) and 32 at a time (io_uring, and with buffers and
# file registered). Three rounds in turn, thousands a second.
set -eu
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-uring.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
head -c 1G /dev/urandom >"$T/file"

# one RW NAME OPTION...
one() {
	rw=$1 name=$2
	shift 2
	fio --name=x --filename="$T/file" --size=1g --rw="$rw" --bs=4k --invalidate=0 --runtime=4 --time_based \
		--randrepeat=0 --norandommap --gtod_reduce=1 --iodepth_batch_submit=32 --iodepth_batch_complete_max=32 \
		"$@" --output-format=terse --terse-version=3 --output="$T/out" >"$T/log" 2>&1 || {
		cat "$T/log"
		exit 1
	}
	# fields 8 and 49: reads and writes a second
	awk -F';' -v what="$rw $name" '/^3;/ { printf "%-26s %6.0f k/s\n", what, ($8 + $49) / 1000 }' "$T/out"
}

for rw in randread randwrite; do
	for _ in 1 2 3; do
		one "$rw" psync --ioengine=psync
		one "$rw" pvsync2 --ioengine=pvsync2
		one "$rw" io_uring --ioengine=io_uring --iodepth=32
		one "$rw" "io_uring registered" --ioengine=io_uring --iodepth=32 --fixedbufs=1 --registerfiles=1
	done
done
