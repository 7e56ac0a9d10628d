# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The times of tls/ do not tell secrets: tests/unit/timing.c, with the program's flags.
set -u
cd "$(dirname "$0")/../.." || exit 1
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-timing.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
flags=$(make -s CC=gcc print-cflags) && [ "$flags" ] || exit 1
for optimize in "$flags" "-O2 -fno-pie -DTLS_LIMB_BITS=32"; do
	rm -f "$T"/*.o
	for file in applet/tls/*.c tests/unit/timing.c; do
		case $file in tests/*) optimize=-O2 ;; esac # statistics need numbers that the program does without
		# shellcheck disable=SC2086 # these are words
		gcc -std=gnu11 -Wall -Wextra $optimize -fno-lto -Iapplet -Itests/unit -c -o "$T/$(basename "$file" .c).o" "$file" || exit 1
	done
	gcc -no-pie -o "$T/test" "$T"/*.o -lm || exit 1
	"$T/test" || exit 1
	if "$T/test" leak; then
		echo "a leak is not found"
		exit 1
	fi
done
