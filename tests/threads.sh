#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Workers, the loop and who takes it over, and what threads read of the core, with ThreadSanitizer: no
# report. FILES: of tests/e2e.
set -u
cd "$(dirname "$0")/.." || exit 1
make -s SANITIZE=thread all || exit 1
reports=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-threads.XXXXXX")
trap 'rm -rf "$reports"' EXIT
export TSAN_OPTIONS="log_path=$reports/report"
for file in ${FILES:-proxy hangs threads upgrade}; do
	XNBDBOX=$PWD/build/sanitize/thread/xnbdbox sh "tests/e2e/$file.tests" >"$reports/out" || {
		cat "$reports/out"
		exit 1
	}
done
make -s build/unit/include/autoconf.h && gcc -std=gnu11 -g -O1 -fsanitize=thread -Iapplet -Iapplet/libbb -Ibuild/unit/include \
	-Itests/unit -o "$reports/core_test" tests/unit/core_test.c applet/core/*.c applet/nbd/wire.c applet/nbd/zeroes.c && "$reports/core_test" threads || exit 1
cat "$reports"/report.* 2>/dev/null && exit 1
exit 0
