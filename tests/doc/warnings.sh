# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# gcc and clang, musl and the host's libc: no warning.
set -u
cd "$(dirname "$0")/../.." || exit 1
status=0

# clean OUT VARIABLE...: builds into a directory of its own, warnings are errors.
clean() {
	out=build/warnings/$1
	shift
	rm -rf "$out"
	make -s "out=$out" WERROR=-Werror "$@" "$out/xnbdbox" || status=1
}

clean musl-gcc CC=musl-gcc
clean clang CC=clang
clean gcc SANITIZE=1 CC=gcc
exit $status
