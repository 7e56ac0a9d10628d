#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make sim-coverage: the lines of core/, and of the start (storage/store*.c), that neither the
# simulator nor core_test reaches.
# CC: the compiler, with all that core/ and the simulator need. STORAGE: the files of storage/ that the
# simulator has. SEEDS: so many runs.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-coverage.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
cd "$top"
command -v gcov >/dev/null || {
	echo "gcov is missing: apt-get install gcc" >&2
	exit 1
}

# The core twice: as the simulator has it, and as core_test has it.
mkdir "$T/sim" "$T/unit"
for file in applet/core/*.c; do
	name=$(basename "$file" .c)
	$CC -include tests/sim/limits.h -Dmalloc=sim_malloc '-Daligned_alloc(a,n)=sim_malloc(n)' -Dcalloc=sim_calloc -Dfree=sim_free \
		-O0 --coverage -c -o "$T/sim/$name.o" "$file"
	$CC -O0 --coverage -c -o "$T/unit/$name.o" "$file"
done
for name in $STORAGE; do
	$CC -include tests/sim/limits.h -include tests/sim/store_calls.h -O0 --coverage \
		-c -o "$T/sim/$name.o" "applet/storage/$name.c"
done
$CC -include tests/sim/limits.h -O2 --coverage -fno-profile-arcs -fno-test-coverage -o "$T/run_sim" \
	"$T"/sim/*.o tests/sim/*.c applet/nbd/wire.c applet/nbd/zeroes.c -lgcov
$CC --coverage -fno-profile-arcs -fno-test-coverage -o "$T/run_unit" \
	"$T"/unit/*.o tests/unit/core_test.c applet/nbd/wire.c applet/nbd/zeroes.c -lgcov
"$T/run_sim" "${SEEDS:-1000}" | tail -1
"$T/run_unit" | tail -1

# gcov's lines are "count: number: text"; "#####" has never run, "-" is no code.
for d in sim unit; do
	for o in "$T/$d"/*.o; do
		gcov -t -o "$T/$d" "${o%.o}.gcda" 2>/dev/null || gcov -t -o "$T/$d" "${o%.o}.gcno" 2>/dev/null
	done
done | awk '
	{
		split($0, part, ":")
		count = part[1]
		line = part[2] + 0
		gsub(/[ *]/, "", count)
	}
	line == 0 && part[3] == "Source" { file = part[4]; next }
	line == 0 || count == "-" || file !~ /^applet\/(core\/|storage\/store)/ { next }
	{
		id = sprintf("%s:%5d", file, line)
		text[id] = substr($0, index($0, part[2] ":") + length(part[2]) + 1)
		if (count !~ /^[#=]+$/)
			reached[id] = 1
	}
	END {
		for (id in text) {
			all++
			if (id in reached)
				continue
			missed++
			print id ": " text[id] | "sort"
		}
		close("sort")
		printf "%d of %d lines of core/ and of the start are not reached\n", missed, all
		exit all == 0
	}'
