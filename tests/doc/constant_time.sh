# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# No branch and no index of tls/ depends on a secret: valgrind on tests/unit/constant_time.c. Built with the
# program's flags, as those decide what becomes a branch, and with -O2.
set -u
cd "$(dirname "$0")/../.." || exit 1
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-time.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
flags=$(make -s CC=gcc print-cflags) && [ "$flags" ] || exit 1
for optimize in "$flags" "-O2" "$flags -DTLS_LIMB_BITS=32"; do
	# shellcheck disable=SC2086 # these are words
	gcc -std=gnu11 -Wall -Wextra $optimize -no-pie -g -include tests/unit/constant_time.h -Iapplet -Itests/unit \
		-o "$T/test" tests/unit/constant_time.c applet/tls/*.c || exit 1
	valgrind -q --error-exitcode=9 "$T/test" || exit 1
	if valgrind -q --error-exitcode=9 "$T/test" leak >/dev/null 2>&1; then
		echo "valgrind does not see a branch on a secret"
		exit 1
	fi
done
