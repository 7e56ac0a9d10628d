#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make bench: this server and those of others, under the same load, in turns. What counts
# is the ratio. Fails when something does not run or a copy is not true; never because
# something was slow. The table and the plots are left in build/bench.
#
# ROWS (words; a row is run when its name contains one of them), SECONDS (of each run; 1),
# ROUNDS (3), QUICK=1 (few rows, one round); make hands them over as BENCH_*.
# BENCH_BEFORE=FILE: another xnbdbox instead of the others.
# ROWS=threads and ROWS=cold: see BENCHMARKS.md; cold needs root, for a disk with a delay.
# BENCH_SIZES="1 1024" (GiB; of the row that is called sizes).
# BENCH_DIR (where the disks are; /tmp), BENCH_MIB (size of a disk; 512), BENCH_PIECE_KIB (the one
# that is written at random was first written so much at a time; 4, at most 1024).
set -eu
cd "$(dirname "$0")/../.."
out=${BENCH_OUT:-build/bench}
mkdir -p "$out"
for program in relay lean slow ceiling; do
	gcc -O2 -Wall -Wextra -o "$out/$program" "tests/bench/$program.c"
done
exec /usr/bin/python3 tests/bench/bench.py "$out"
