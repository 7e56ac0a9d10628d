#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# All tests: make check. The last line is "N passed, N failed".
# With arguments: only the files of tests/e2e whose names contain one of them.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
# Mounts, loop devices, another user's rights: real ones.
[ "$(id -u)" = 0 ] || {
	echo "the tests need root" >&2
	exit 1
}
# They are for the program with everything in it; config.tests is for the others.
if [ -f .config ] && grep '=y$' config/full_defconfig | grep -qvxFf .config; then
	echo "something is left out in .config: make full_defconfig first" >&2
	exit 1
fi
make -s all unit-tests fuzzers && make -s SANITIZE=1 all || exit 1
TALLY=$(mktemp)
export TALLY
trap 'rm -f "$TALLY" "$TALLY.out"' EXIT

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
	[ "${line#* }" = 0 ] || tail -20 "$TALLY.out"
	echo "$line" >>"$TALLY"
}

# wanted FILE WORD...: there is no word, or one of them is in the name.
wanted() {
	file=$1
	shift
	[ $# != 0 ] || return 0
	for word; do
		case $file in *"$word"*) return 0 ;; esac
	done
	return 1
}

if [ $# = 0 ]; then
	for t in build/unit/*_test; do
		unit "$t"
	done
	for t in tests/fuzz/corpus/*; do
		count "fuzzer $(basename "$t"), its corpus" sh tests/fuzz/run.sh corpus "$(basename "$t")"
	done
	count "simulator, ${SEEDS:-1000} seeds" build/unit/sim "${SEEDS:-1000}"
	for t in tests/doc/*.sh; do
		count "$(basename "$t" .sh)" sh "$t"
	done
	count "make bench, in miniature" sh tests/bench/smoke.sh
	count "no data race (ThreadSanitizer)" sh tests/threads.sh
fi
for binary in build/xnbdbox build/sanitize/xnbdbox; do
	echo "=== $binary"
	for t in tests/e2e/*.tests tests/interop/*.tests; do
		wanted "$(basename "$t")" "$@" || continue
		# Those that measure memory and rates say so: a sanitizer changes both.
		case $binary in build/sanitize/*) grep -q '^# not with sanitizers' "$t" && continue ;; esac
		XNBDBOX=$top/$binary sh "$t"
	done
done


if [ $# = 0 ] || wanted random "$@"; then
	count "random configurations" env N=4 sh tests/random.sh
fi

# xnbd-bgctl in BusyBox: builds without a warning, is small, and does the same.
if [ $# = 0 ] || wanted busybox "$@"; then
	echo "=== xnbd-bgctl in BusyBox"
	count "busybox" config/busybox.sh build
	for t in e2e/failures e2e/proxy e2e/restart interop/xnbd04; do
		BGCTL=$top/build/busybox/busybox XNBDBOX=$top/build/xnbdbox sh tests/$t.tests
	done
fi

[ -s "$TALLY" ] || echo "no test has a name with: $*"
awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }' "$TALLY"
