# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# For scripts that run tests, from the top of the tree: each test's result is counted in $TALLY, a
# file of the caller's or of our own.
# shellcheck shell=sh
if [ -z "${TALLY-}" ]; then
	TALLY=$(mktemp)
	export TALLY
	trap 'rm -f "$TALLY" "$TALLY.out"' EXIT
fi

# count NAME COMMAND...: a test that is one command.
count() {
	name=$1
	shift
	if "$@" >"$TALLY.out" 2>&1; then
		echo "PASS: $name"
		echo "1 0" >>"$TALLY"
	else
		echo "FAIL: $name"
		tail -40 "$TALLY.out"
		echo "0 1" >>"$TALLY"
	fi
}

# unit COMMAND: a program whose last line is "N passed, N failed". One that ends
# otherwise has failed, whatever it says.
unit() {
	"$1" >"$TALLY.out" 2>&1
	status=$?
	line=$(sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$TALLY.out")
	if [ -z "$line" ]; then
		line="0 1"
	elif [ $status != 0 ] && [ "${line#* }" = 0 ]; then
		line="${line% *} 1"
	fi
	echo "${1##*/}: ${line% *} passed, ${line#* } failed"
	[ "${line#* }" = 0 ] || {
		echo "FAIL: ${1##*/}"
		tail -20 "$TALLY.out"
	}
	echo "$line" >>"$TALLY"
}

# units: what needs no rights, no network and no server, but for the simulator.
units() {
	for t in build/unit/*_test; do
		unit "$t"
	done
	for t in tests/fuzz/corpus/*; do
		count "fuzzer $(basename "$t"), its corpus" sh tests/fuzz/run.sh corpus "$(basename "$t")"
	done
}

# simulator SEEDS
simulator() {
	count "simulator, $1 seeds" build/unit/sim "$1"
}

# The last line, and the status.
result() {
	awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }' "$TALLY"
}
