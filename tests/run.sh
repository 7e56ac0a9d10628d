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
. tests/tally.sh

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
	units "${SEEDS:-1000}"
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
result
