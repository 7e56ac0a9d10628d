# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Static analysis finds nothing. make check-all takes this as one test, make check ("quick") what is
# quickest; make lint ("all") adds what costs minutes, the paths that clang's analyzer follows, and
# tests/doc/shell.sh. Compilers' warnings are warnings.sh's.
set -u
cd "$(dirname "$0")/../.." || exit 1
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-lint.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
all=
quick=
tidy='--checks=-clang-analyzer-*'
[ "${1-}" != quick ] || quick=1
if [ "${1-}" = all ]; then
	all=1
	tidy=--checks=
fi
passed=0
failed=0

# clean WHAT COMMAND...
clean() {
	what=$1
	shift
	if "$@" >"$T/out" 2>&1; then
		passed=$((passed + 1))
		echo "PASS: $what"
	else
		failed=$((failed + 1))
		echo "FAIL: $what"
		grep -vE '^[0-9]+ warnings? (generated|treated)' "$T/out"
	fi
}

# Each source by itself: clang-tidy 14 takes what it learned of one for true in the next.
each() {
	printf '%s\n' applet/*.c applet/*/*.c | xargs -P2 -I{} "$@"
}

# check NAME PLATFORM OPTION...
check() {
	name=$1 platform=$2
	shift 2
	clean "$name, cppcheck, $platform" cppcheck -q -j2 --error-exitcode=1 --inline-suppr --std=c11 \
		--enable=warning,performance,portability --library=posix "--platform=$platform" "$@" applet
}

# configuration NAME
configuration() {
	config/generate headers "config/$1_defconfig" "$T/$1" || exit 1
	name=$1
	set -- -D_FILE_OFFSET_BITS=64 -Iapplet -Iapplet/libbb "-I$T/$name/include"

	clean "$name, clang-tidy" each clang-tidy --quiet "$tidy" {} -- -std=gnu11 "$@"
	check "$name" unix64 "$@"
	[ -z "$quick" ] || return
	check "$name" unix32 "$@"
	# It takes a vector for one of its numbers.
	vectors=-Wno-analyzer-shift-count-overflow
	# As it is shipped, and with nothing inlined: they find different things.
	clean "$name, gcc -fanalyzer" each musl-gcc -std=gnu11 "$@" -Os -fanalyzer "$vectors" -Werror -c {} -o /dev/null
	clean "$name, gcc -fanalyzer -O0" each gcc -std=gnu11 "$@" -O0 -fanalyzer "$vectors" -Werror -c {} -o /dev/null
}

configuration full
[ "$quick" ] || configuration initramfs
clean "rooms use only rooms below them" sh tests/doc/rooms.sh
clean "the field's terms are used" sh tests/doc/words.sh
clean "mutants change something" env CHECK=1 sh tests/sim/mutants.sh
clean "Python of the tests, pyflakes" pyflakes3 tests
[ -z "$all" ] || clean "shellcheck" sh tests/doc/shell.sh
echo "$passed passed, $failed failed"
[ $failed = 0 ]
