#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# run.sh: make check. run.sh --all: make check-all. run.sh NAME...: the parts of all tests whose names
# contain one of these. run.sh --list: the names. tests/parts tells what is in which, and what may run
# beside what. Five parts run at a time on two processors, as most of them wait most of the time (JOBS=n: n), and
# beside these two that only need a processor, at a low priority. The output of each is shown when it ends, and what
# failed once more in the end. The last line is "N passed, N failed".
# SHARE=0 to 3: that quarter of the tests in turn, instead of the one of this commit; SHARE=all: all.
set -u
cd "$(dirname "$0")/.." || exit 1

# parts: the names of all of them. Files of tests are found, so none can be forgotten.
parts() {
	printf '%s\n' bench busybox random simulator threads units
	for t in tests/doc/*.sh; do
		echo "doc/$(basename "$t" .sh)"
	done
	for t in tests/e2e/*.tests tests/interop/*.tests tests/vm/*.tests; do
		name=${t#tests/} name=${name%.tests}
		echo "$name"
		case $name in vm/*) continue ;; esac
		# Those that measure memory and rates say so: a sanitizer changes both.
		grep -q '^# not with sanitizers' "$t" || echo "sanitizers/$name"
	done
}

# table: of each part "SECONDS SIZE HOW NAME", as tests/parts has it. What is not in it is in
# make check if it is a file of tests for the plain program. With sanitizers it has its turn.
table() {
	parts | awk -v all="$([ "${SIZE-}" != all ] || echo 1)" '
	FNR == NR { if (!/^#/) { n = split($1, s, ","); row[$4] = s[all ? n : 1] " " $2 " " $3 }; next }
	$1 in row { print row[$1], $1; used[$1] = 1; next }
	sub(/^sanitizers\//, "") { split(($1 in row) ? row[$1] : "10 check beside", r); print int(r[1] * 1.5), "turn", r[3], "sanitizers/" $1; next }
	/^vm\// { print 150, "turn machines", $1; next }
	{ print 10, "check beside", $1 }
	END { for (name in row) if (!(name in used)) { print "tests/parts: there is no " name >"/dev/stderr"; exit 1 } }' tests/parts -
}

# chosen SIZE|NAME...: those lines of the table. NAME may end with .tests, where it is a part of another one.
chosen() {
	awk -v words="$*" '
	BEGIN { n = split(words, word, " ") }
	{ for (i = 1; i <= n; i++) if (word[i] == "--all" || (word[i] == "--check" ? $2 == "check" : index($4 ".tests", word[i]))) { print; next } }'
}

# shared: without those of the tests in turn that are not in $SHARE. They are dealt out by their length; the longest are first.
shared() {
	sort -rn | awk -v share="$SHARE" '$2 != "turn" || share == "all" || n++ % 4 == share'
}

[ $# != 0 ] || set -- --check
case $1 in
--list)
	table | sort -k 4
	exit
	;;
--all)
	export SIZE=all
	: "${SHARE:=$(($(git rev-parse --short=7 HEAD 2>/dev/null | sed 's/^/0x/') + 0 & 3))}"
	;;
--check) export SIZE=check ;;
-*)
	sed -n '4,8s/^# //p' "$0" >&2
	exit 1
	;;
*) export SIZE=all ;;
esac
# Mounts, loop devices, another user's rights: real ones.
[ "$(id -u)" = 0 ] || {
	echo "the tests need root" >&2
	exit 1
}
# They are for the program with everything in it; config.tests is for the others.
if [ -f .config ] && grep '=y$' config/full_defconfig | grep -qvxFf .config; then
	echo "something is left out in .config: make full_defconfig first" >&2
	exit 1
fi

T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd.XXXXXX")
chmod 755 "$T" # tests with another user's rights have theirs in it
TALLY=$T/tally
running= # GROUP:NUMBER of each part; $T/NUMBER is for its temporary files, $T/NUMBER.* is ours
n=0

# end: as Ctrl-C does it, or by force after ten seconds.
end() {
	trap '' INT TERM HUP
	for job in $running; do
		kill -INT "-${job%:*}" 2>/dev/null
	done
	tries=100
	for job in $running; do
		while kill -0 "-${job%:*}" 2>/dev/null && [ $tries -gt 0 ]; do
			sleep 0.1
			tries=$((tries - 1))
		done
		kill -KILL "-${job%:*}" 2>/dev/null
	done
	rm -rf "$T"
}
trap end EXIT
trap 'exit 1' INT TERM HUP

HANGS=3000 # seconds: so long takes nothing that goes on, on whatever machine

# start PART HOW: in a process group of its own, so that nothing of it is left afterwards, and with mounts
# of its own: nobody else holds a disk that it has unmounted.
start() {
	part=$1
	priority=0
	[ "$2" != anywhere ] || priority=10 # it has no clock
	n=$((n + 1))
	mkdir "$T/$n"
	echo "$part" >"$T/$n.name"
	echo "$2" >"$T/$n.how"
	date +%s >"$T/$n.begun"
	TMPDIR=$T/$n TALLY=$T/$n.tally setsid env --default-signal=INT,QUIT unshare -m \
		nice -n "$priority" timeout --foreground "$HANGS" sh -c 'sh tests/part.sh "$1"; status=$?; times >"$2"; exit $status' - "$part" "$T/$n.times" >"$T/$n.out" 2>&1 </dev/null 8<&- 9<&- &
	running="$running $!:$n"
}

# processors FILE: what times(1p) has written there of children, in seconds.
processors() {
	awk 'NR == 2 { split($1 "m" $2, t, /[ms]+/); printf "%.0f", t[1] * 60 + t[2] + t[3] * 60 + t[4] }' "$1" 2>/dev/null
}

# show NUMBER STATUS: a part has ended. One that failed without a test that did so has failed, too.
show() {
	name=$(cat "$T/$1.name") tally=$T/$1.tally
	echo "=== $name, $(($(date +%s) - $(cat "$T/$1.begun"))) s, $(processors "$T/$1.times") s of processors"
	cat "$T/$1.out"
	: >>"$tally"
	if ! grep -qv ' 0$' "$tally" && { [ "$2" != 0 ] || ! [ -s "$tally" ]; }; then
		echo "FAIL: status $2" | tee -a "$T/$1.out"
		echo "0 1" >>"$tally"
	fi
	cat "$tally" >>"$TALLY"
	awk -v name="$name" '
	/^FAIL: / { left = 12; sub(/^FAIL/, name); print; next }
	/^PASS: | passed, / { left = 0 }
	left { left--; print "\t" $0 }' "$T/$1.out" >>"$T/failed"
	rm -rf "${T:?}/$1" "$T/$1".*
}

# is_gone PID: or waits for nobody but us.
is_gone() {
	case $(cut -d' ' -f3 "/proc/$1/stat" 2>/dev/null) in
	'' | Z) return 0 ;;
	esac
	return 1
}

# reap: those that have ended.
reap() {
	jobs=$running
	running=
	for job in $jobs; do
		if is_gone "${job%:*}"; then
			wait "${job%:*}"
			status=$?
			kill -KILL "-${job%:*}" 2>/dev/null
			show "${job#*:}" $status
		else
			running="$running $job"
		fi
	done
}

# count [HOW]: how many parts run, or run so.
count() {
	cat "$T"/*.how 2>/dev/null | grep -c "^${1-}"
}

# begin HOW N: of the parts that run so, and have not begun, until N of them run. They are on standard input.
begin() {
	while [ "$(count "$1")" -lt "$2" ] && [ "$(count)" -lt $((JOBS + JOBS / 2)) ] && read -r part; do
		start "$part" "$1"
	done
}

# pool HOW N: the parts that run so, N at a time, and beside those that run "beside" the ones that only need a
# processor; those that take longest begin first. Until all have ended.
pool() {
	awk -v how="$1" '$3 == how { print $4 }' "$T/chosen" >"$T/first"
	awk -v how="$1" 'how == "beside" && $3 == "anywhere" { print $4 }' "$T/chosen" >"$T/second"
	exec 8<"$T/first" 9<"$T/second"
	while
		reap
		begin "$1" "$2" <&8
		begin anywhere $(((JOBS + 2) / 3)) <&9
		[ "$running" ]
	do
		sleep 0.2
	done
}

JOBS=${JOBS:-$(($(nproc) * 5 / 2))}
: "${SHARE:=all}"
table >"$T/table" && chosen "$@" <"$T/table" | shared >"$T/chosen" || exit 1
[ -s "$T/chosen" ] || {
	echo "no part has a name with: $*"
	exit 1
}
# What runs beside others needs a third of a processor. And a minute is for building.
awk -v jobs="$JOBS" -v "processors=$(nproc)" '
{ seconds[$3] += $1 }
END {
	s = seconds["beside"] / jobs
	busy = (seconds["anywhere"] + seconds["beside"] / 3) / processors
	s = (s > busy ? s : busy) + seconds["alone"] + seconds["machines"] / processors
	printf "%d parts, %d at a time; about %d minutes on %d idle processors\n", NR, jobs, s / 60 + 1.5, processors
}' "$T/chosen"
[ "$SHARE" = all ] || echo "of what has its turn, one of four: SHARE=$SHARE"
make -s "-j$(((JOBS + 1) / 2))" all unit-tests fuzzers || exit 1
! grep -q ' sanitizers/' "$T/chosen" || make -s "-j$(((JOBS + 1) / 2))" SANITIZE=1 all || exit 1
! grep -q ' vm/' "$T/chosen" || { sh tests/vm/build.sh && sh tests/vm/build_boot.sh; } || exit 1

pool beside "$JOBS"
pool alone 1
# Virtual machines are patient, and leave a processor idle now and then.
pool machines $(((JOBS * 2 + 2) / 3))

[ ! -s "$T/failed" ] || {
	echo "=== failed:"
	cat "$T/failed"
}
awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }' "$TALLY"
