#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# All tests: make check. Ends with "N passed, N failed".
# With arguments: only the files of tests/e2e whose names contain one of them.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
TALLY=$(mktemp)
export TALLY
trap 'rm -f "$TALLY"' EXIT

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
	rm -f "$TALLY.out"
}

# unit NAME COMMAND...: a program that ends with "N passed, N failed".
unit() {
	name=$1
	shift
	"$@" >"$TALLY.out" 2>&1
	status=$?
	grep -E '^not ok|ERROR|runtime error' "$TALLY.out"
	line=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$TALLY.out" | tail -1)
	if [ -z "$line" ] || { [ $status != 0 ] && [ "${line#* }" = 0 ]; }; then
		tail -20 "$TALLY.out"
		line="${line%% *} 1"
		[ "${line# }" = "$line" ] || line="0 1"
	fi
	echo "unit $name: ${line% *} passed, ${line#* } failed"
	echo "$line" >>"$TALLY"
	rm -f "$TALLY.out"
}

wanted() {
	[ $# = 1 ] && return 0
	file=$1
	shift
	for word; do
		case $file in *"$word"*) return 0 ;; esac
	done
	return 1
}

if [ $# = 0 ]; then
	for t in build/unit/*_test; do
		unit "$(basename "$t")" "$t"
	done
	[ ! -x build/unit/sim ] || count "simulator: ${SEEDS:-2000} seeds" build/unit/sim "${SEEDS:-2000}"
	for t in tests/doc/*.sh; do
		count "$(basename "$t" .sh)" sh "$t"
	done
fi
for binary in build/xnbdbox build/sanitize/xnbdbox; do
	echo "=== $binary"
	for t in tests/e2e/*.tests; do
		wanted "$(basename "$t")" "$@" || continue
		# Those that measure say so: sanitizers have nothing to add but time.
		case $binary in build/sanitize/*) grep -q '^# once' "$t" && continue ;; esac
		XNBDBOX=$top/$binary sh "$t" || :
	done
done

awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }' "$TALLY"
