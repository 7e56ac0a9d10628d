#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make check-vm: tests in a machine of their own. The last line is "N passed, N failed".
# With an argument: only the files whose names contain it.
set -u
cd "$(dirname "$0")/../.." || exit 1
make -s all || exit 1
export VM="$PWD/build/vm" XNBDBOX="$PWD/build/xnbdbox"
{ sh tests/vm/build.sh && sh tests/vm/build_boot.sh; } || {
	echo "0 passed, 1 failed"
	exit 1
}
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-vm.XXXXXX")
export "TALLY=${TALLY:-$T/tally}"
pids=
trap 'kill $pids 2>/dev/null; wait; rm -rf "$T"' EXIT
trap 'exit 1' INT TERM HUP

# Swap over TCP, for which the kernel gives no promise either, only when it is asked for.
[ -n "${1-}" ] || export PRESSURE_KINDS="unix nbd ublk"
# All at once: a machine that boots, or waits for its disk, leaves a processor idle.
for t in tests/vm/*.tests; do
	case $t in *"${1-}"*) ;; *) continue ;; esac
	sh "$t" >"$T/$(basename "$t")" 2>&1 &
	pids="$pids $!"
done
wait
pids=
cat "$T"/*.tests
awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }' "$TALLY"
