#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Workers, the loop and who takes it over, with ThreadSanitizer: no report. FILES: of tests/e2e.
set -u
cd "$(dirname "$0")/.." || exit 1
make -s SANITIZE=thread all || exit 1
reports=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-threads.XXXXXX")
trap 'rm -rf "$reports"' EXIT
export TSAN_OPTIONS="log_path=$reports/report"
for file in ${FILES:-proxy hangs}; do
	XNBDBOX=$PWD/build/sanitize/thread/xnbdbox sh "tests/e2e/$file.tests" >"$reports/out" || {
		cat "$reports/out"
		exit 1
	}
done
cat "$reports"/report.* 2>/dev/null && exit 1
exit 0
