#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# make check-vm: tests in a machine of their own. The last line is "N passed, N failed".
# With an argument: only the files whose names contain it.
set -u
cd "$(dirname "$0")/../.." || exit 1
make -s all || exit 1
export VM="$PWD/build/vm" XNBDBOX="$PWD/build/xnbdbox"
sh tests/vm/build.sh || {
	echo "0 passed, 1 failed"
	exit 1
}
TALLY=$(mktemp)
export TALLY
trap 'rm -f "$TALLY"' EXIT

for t in tests/vm/*.tests; do
	case $t in *"${1-}"*) sh "$t" ;; esac
done
awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }' "$TALLY"
