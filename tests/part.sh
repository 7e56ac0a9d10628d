#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# part.sh PART: one part of the tests (tests/parts), counted in $TALLY. run.sh has built what it needs.
# SIZE=all: in full; of two parts make check takes less.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/tally.sh

# busybox: xnbd-bgctl in BusyBox builds without a warning, is small, and does the same.
busybox() {
	count "busybox" config/busybox.sh build
	for t in e2e/failures e2e/proxy e2e/restart interop/xnbd04; do
		BGCTL=$PWD/build/busybox/busybox XNBDBOX=$PWD/build/xnbdbox sh tests/$t.tests
	done
}

all=
[ "${SIZE-}" != all ] || all=1
case $1 in
units) units ;;
simulator) simulator "${SEEDS:-$([ "$all" ] && echo 1000 || echo 300)}" ;;
bench) count "make bench, in miniature" sh tests/bench/smoke.sh ;;
busybox) busybox ;;
random) count "random configurations" env N=2 sh tests/random.sh ;;
threads) count "no data race (ThreadSanitizer)" sh tests/threads.sh ;;
vm/*) XNBDBOX=$PWD/build/xnbdbox VM=$PWD/build/vm exec sh "tests/$1.tests" ;;
doc/lint) count lint sh tests/doc/lint.sh "$([ "$all" ] || echo quick)" ;;
doc/*) count "${1#doc/}" sh "tests/$1.sh" ;;
sanitizers/*) XNBDBOX=$PWD/build/sanitize/xnbdbox exec sh "tests/${1#sanitizers/}.tests" ;;
*) XNBDBOX=$PWD/build/xnbdbox exec sh "tests/$1.tests" ;;
esac
result >/dev/null
