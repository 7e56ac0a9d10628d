#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make bench still works: a few rows of it, in miniature. How fast is not looked at.
set -u
cd "$(dirname "$0")/../.." || exit 1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
trap 'exit 1' INT TERM HUP
BENCH_OUT=$out BENCH_SECONDS=0.05 BENCH_ROUNDS=1 BENCH_MIB=16 \
	BENCH_ROWS="randread-4k-d8 lean-read-1m-c4 copy-half switch delay1-copy sizes cold-5ms-d16 cold-5ms-beside threads-read-c4-d8 threads2-write-c1-d1" \
	BENCH_SIZES="1 2" sh tests/bench/run.sh || exit 1

fail() {
	echo "$1" >&2
	exit 1
}
rows=$(tail -n +2 "$out/results.tsv" | cut -f1 | uniq | tr '\n' ' ')
[ "$rows" = "randread-4k-d8 randread-4k-d8-c4 randread-4k-d8-c16 lean-read-1m-c4 lean-read-1m-c4-stuck copy-half-local switch delay1-copy cold-5ms-d16 cold-5ms-beside threads-read-c4-d8 threads2-write-c1-d1 " ] ||
	fail "not the rows that were wanted: $rows"
# Each server has done something, used the processor or not, and had memory.
awk -F '\t' 'NR > 1 && !($4 > 0 && $7 > 0 && $13 > 0) { print; bad = 1 } END { exit bad }' "$out/results.tsv" >&2 ||
	fail "a line without a rate, a ratio or memory"
[ "$(wc -l <"$out/results.tsv")" = 46 ] || fail "not so many lines"
COSTS_BLOCKS=256 sh tests/bench/costs.sh | awk '{ n += / us/ } END { exit n < 7 }' || fail "no costs"
[ -s "$out/plot.png" ] || fail "no plot"
grep -q '^| copy-half-local  *| xnbd ' "$out/table.md" || fail "no table"
[ "$(cut -f1 "$out/sizes.tsv" | tr '\n' ' ')" = "gib 1 2 " ] || fail "not the sizes that were wanted"
[ -s "$out/sizes.png" ] || fail "no plot of sizes"
