#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# tests/fuzz/run.sh SECONDS|corpus [NAME...]: each fuzzer (or those named) so many seconds,
# beginning with its corpus, or only over that. What it finds goes to build/fuzz/findings,
# and what is new of its inputs to build/fuzz/new/NAME. Status 1 when something was found.
set -u
cd "$(dirname "$0")/../.." || exit 1
how=$1
shift
make -s fuzzers || exit 1
[ $# != 0 ] || set -- tests/fuzz/corpus/*
FUZZ_TMP=$(mktemp -d "$(test -w /dev/shm && echo /dev/shm || echo /tmp)/xnbd-fuzz.XXXXXX")
export FUZZ_TMP
trap 'rm -rf "$FUZZ_TMP"' EXIT
trap 'exit 1' INT TERM HUP
mkdir -p build/fuzz/findings
log=build/fuzz/log

# What libFuzzer is told of every one of them: memory, and seconds for one input.
options="-rss_limit_mb=2048 -timeout=25 -artifact_prefix=build/fuzz/findings/"
status=0

# fuzz NAME ARGUMENTS...
fuzz() {
	name=$1
	shift
	# shellcheck disable=SC2086 # these are words
	if "build/fuzz/$name" $options "$@" >"$log" 2>&1; then
		sed -n 's/^#\([0-9]*\).*cov: \([0-9]*\).*corp: \([0-9]*\).*/\1 runs, \2 places reached, \3 inputs kept/p' "$log" | tail -1 |
			sed "s/^/$name: /"
		return
	fi
	status=1
	grep -v '^#' "$log" | tail -60
	echo "$name: found something. This shows it again, and what the program says:"
	found=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
	echo "FUZZ_VERBOSE=1 build/fuzz/$name ${found:-ARGUMENTS}"
}

for name; do
	name=$(basename "$name")
	corpus=tests/fuzz/corpus/$name
	if ! [ "$(ls "$corpus" 2>/dev/null)" ]; then
		echo "$name: there is no corpus for it" >&2
		exit 1
	fi
	dictionary=tests/fuzz/$name.dict
	[ -f "$dictionary" ] || dictionary=tests/fuzz/nbd.dict
	case $how in
	corpus) fuzz "$name" -runs=0 "$corpus" ;;
	*)
		mkdir -p "build/fuzz/new/$name"
		fuzz "$name" "-max_total_time=$how" -max_len=8192 "-dict=$dictionary" "build/fuzz/new/$name" "$corpus"
		;;
	esac
done
exit $status
