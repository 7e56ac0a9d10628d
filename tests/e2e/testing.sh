# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The way tests are written here, after BusyBox's testsuite:
#
#   testing "what must be true" "command" "expected output\n"
#
# The command runs in this shell, in a directory $T that only this file uses, with
# stdout and stderr caught together; its exit status is appended as "exit N" when
# it is not 0.
# $XNBDBOX is the binary under test. Servers are started with the functions below
# and are gone, by pid, when the file ends.
#
# shellcheck shell=sh

set -u
# Mounts of its own: what others clone of this machine's meanwhile (mmdebstrap does) would keep a device in use that was unmounted here.
[ "$(id -u)" != 0 ] || [ "${OWN_MOUNTS:-}" ] || OWN_MOUNTS=1 exec unshare -m sh "$0" "$@"
unset OWN_MOUNTS
: "${XNBDBOX:=$(cd "$(dirname "$0")/../.." && pwd)/build/xnbdbox}"
HERE=$(cd "$(dirname "$0")" && pwd)
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd.XXXXXX")
PIDS=
passed=0
failed=0
cd "$T" || exit 1
mkdir bin
ln -s /usr/bin/python3 bin/python3 # nbdsh takes the first one it finds
ln -s "$XNBDBOX" bin/xnbd-server
ln -s "${BGCTL:-$XNBDBOX}" bin/xnbd-bgctl # the control tool may be another program: BusyBox
PATH=$T/bin:$PATH
PYTHON=/usr/bin/python3 # Debian's, which has libnbd's module

# is_ours PID: in these mounts, or a child that has others. What ended by itself may have left its number to another test.
is_ours() {
	[ "$(readlink "/proc/$1/ns/mnt")" = "$(readlink /proc/self/ns/mnt)" ] || grep -qsx "PPid:[[:space:]]*$$" "/proc/$1/status"
}

finish() {
	code=$?
	if [ $code != 0 ]; then # the file itself broke off
		failed=$((failed + 1))
		echo "FAIL: $(basename "$0") ended early, status $code"
		[ -s actual ] && tail -5 actual
	fi
	for pid in $PIDS; do
		is_ours "$pid" || continue
		kill -CONT "$pid" 2>/dev/null
		kill -9 "$pid" 2>/dev/null
	done
	cd / && rm -rf "$T"
	echo "$(basename "$0"): $passed passed, $failed failed"
	[ -z "${TALLY-}" ] || echo "$passed $failed" >>"$TALLY"
	[ "$failed" = 0 ] && exit 0
	exit 1
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

testing() {
	printf "$3" >expected
	eval "$2" >actual 2>&1
	status=$?
	[ $status = 0 ] || echo "exit $status" >>actual
	# musl and glibc have not the same words for all errors
	sed -i 's/Address already in use/Address in use/; s/Socket operation on non-socket/Not a socket/; s|Input/output error|I/O error|; s/Socket operation on non-socket/Not a socket/' actual
	if cmp -s expected actual; then
		passed=$((passed + 1))
		echo "PASS: $1"
	else
		failed=$((failed + 1))
		echo "FAIL: $1"
		diff -u expected actual | head "-${DIFF_LINES:-40}"
		[ ! -s log ] || tail -5 log
	fi
}

# need TOOL...: a tool that is missing is a failure, and says what would help.
need() {
	for tool; do
		command -v "$tool" >/dev/null && continue
		echo "$tool is missing: run config/setup.sh check_all"
		exit 1
	done
}

# until_true SECONDS COMMAND...
until_true() {
	tries=$(($1 * 20))
	shift
	while [ $tries -gt 0 ]; do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.05
		tries=$((tries - 1))
	done
	echo "timed out: $*"
	return 1
}

forget() {
	left=
	for pid in $PIDS; do
		[ "$pid" = "$1" ] || left="$left $pid"
	done
	PIDS=$left
}

# is_gone PID: or waits for nobody but us.
is_gone() {
	case $(cut -d' ' -f3 "/proc/$1/stat" 2>/dev/null) in
	'' | Z) return 0 ;;
	esac
	return 1
}

# stop PID [SIGNAL]: and wait until it is gone.
stop() {
	kill "-${2:-TERM}" "$1" 2>/dev/null
	tries=3000
	while ! is_gone "$1"; do
		sleep 0.01
		tries=$((tries - 1))
		[ $tries != 0 ] || {
			echo "$1 does not end"
			kill -9 "$1"
		}
	done
	wait "$1" 2>/dev/null
	code=$?
	forget "$1"
	return $code
}

free_port() {
	$PYTHON "$HERE/../free_port.py"
}

# in_background COMMAND...: sets pid.
in_background() {
	"$@" >>log 2>&1 &
	pid=$!
	PIDS="$PIDS $pid"
}

# listens SOCKET: somebody listens there. Its file says less: bind(2) makes it, and until listen(2) who
# connects is refused.
listens() {
	test -S "$1" && ss -xlHe | grep -q " ino:$(stat -c %i "$1") "
}

# is_up SOCKET: somebody listens there and greets.
is_up() {
	nbdinfo --size "nbd+unix:///?socket=$1" >/dev/null 2>&1
}

# target IMAGE [OPTION...]: serves it on origin.sock; sets origin.
target() {
	image=$1
	shift
	in_background xnbd-server --target --lport 0 --unix origin.sock "$@" "$image"
	origin=$pid
	until_true 10 is_up origin.sock
}

# proxy [OPTION...]: cache.img, cache.bm, ctl.sock, on proxy.sock; sets proxy.
proxy() {
	in_background xnbd-server --proxy --lport 0 --unix proxy.sock "$@" unix:origin.sock - cache.img cache.bm ctl.sock
	proxy=$pid
	until_true 10 is_up proxy.sock
}

# Removes what a proxy has left.
fresh() {
	rm -f cache.img cache.bm cache.bm.commit ctl.sock proxy.sock
}

# job_is STATE; is_at_least KEY N
job_is() {
	[ "$(query job)" = "$1" ]
}

is_at_least() {
	[ "$(query "$1")" -ge "$2" ]
}

query() {
	xnbd-bgctl --query ctl.sock | sed -n "s/^$1 //p"
}

# random FILE MIB
random() {
	head -c "$2M" /dev/urandom >"$1"
}

same() {
	cmp "$1" "$2" && echo same
}
