#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make random N=60: so many random configurations, and allnoconfig and allyesconfig,
# build without a warning with gcc and with clang, and pass the tests of what is in them
# (tests/e2e/config.tests). SEED=n begins with another one; else the commit says it, so that a run
# of its tests can be had again, and each commit tries others.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
N=${N:-4}
SEED=${SEED:-$(($(git rev-parse --short=7 HEAD 2>/dev/null | sed 's/^/0x/') + 0))}
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-random.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
passed=0
failed=0
cp -r applet config Kconfig Makefile man "$T"

# try NAME: the configuration in $T/.config
try() {
	for cc in clang musl-gcc; do
		if ! make -s -j2 -C "$T" "CC=$cc" WERROR=-Werror clean >/dev/null || ! make -s -j2 -C "$T" "CC=$cc" WERROR=-Werror >"$T/log" 2>&1; then
			echo "FAIL: $1 does not build with $cc:"
			grep -E 'error|warning' "$T/log" | head -5
			cp "$T/.config" "build/failed_config"
			failed=$((failed + 1))
			return
		fi
	done
	if CONFIG=$T/.config XNBDBOX=$T/build/xnbdbox FULL=$top/build/xnbdbox TALLY='' sh tests/e2e/config.tests >"$T/log" 2>&1; then
		passed=$((passed + 1))
	else
		echo "FAIL: $1 (its .config is now build/failed_config):"
		grep -v ^PASS "$T/log"
		cp "$T/.config" "build/failed_config"
		failed=$((failed + 1))
	fi
}

for kind in allnoconfig allyesconfig; do
	make -s -C "$T" $kind >/dev/null 2>&1
	try $kind
done
i=0
while [ $i -lt "$N" ]; do
	export KCONFIG_SEED=$((SEED + i))
	make -s -C "$T" randconfig >/dev/null 2>&1
	try "randconfig, KCONFIG_SEED=$KCONFIG_SEED"
	i=$((i + 1))
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
