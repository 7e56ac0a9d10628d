#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# make bench: the background copy against nbdcopy, from the same origin to the same
# disk, in turns. What counts is the ratio.
#
# BENCH_DIR (where the files are; /tmp), BENCH_MIB (2048), BENCH_TURNS (3).
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
XNBDBOX=$top/build/xnbdbox
MIB=${BENCH_MIB:-2048}
TURNS=${BENCH_TURNS:-3}
T=$(mktemp -d "${BENCH_DIR:-/tmp}/xnbd-bench.XXXXXX")
pids=

finish() {
	for pid in $pids; do
		kill -9 "$pid" 2>/dev/null || :
	done
	rm -rf "$T"
}
trap finish EXIT
trap 'exit 1' INT TERM
cd "$T"

until_up() {
	tries=200
	until nbdinfo --size "nbd+unix:///?socket=$1" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || {
			echo "no server at $1" >&2
			exit 1
		}
		sleep 0.05
	done
}

serve() {
	nbdkit -f -r -U "$PWD/$1" file "$2" &
	pids="$pids $!"
	until_up "$1"
}

milliseconds() {
	date +%s%N | cut -b 1-13
}

# time_of COMMAND...: milliseconds
time_of() {
	start=$(milliseconds)
	"$@" >&2
	echo $(($(milliseconds) - start))
}

copy_with_nbdcopy() {
	rm -f out.img
	sync
	time_of nbdcopy "nbd+unix:///?socket=$1" out.img
	cmp out.img "$2" >&2
	rm -f out.img
}

copy_with_us() {
	rm -f cache.img cache.bm cache.bm.commit
	sync
	"$XNBDBOX" xnbd-server --proxy --lport 0 --unix proxy.sock "unix:$1" - cache.img cache.bm ctl.sock &
	proxy=$!
	pids="$pids $proxy"
	until_up proxy.sock
	time_of "$XNBDBOX" xnbd-bgctl --cache-all ctl.sock
	kill $proxy
	wait $proxy || :
	cmp cache.img "$2" >&2
	rm -f cache.img cache.bm cache.bm.commit
}

# The best of the turns: what disturbs a run makes it slower, never faster.
best() {
	sort -n "$1" | head -1
}

ratio() {
	echo "$1 $2" | awk '{ printf "%.2f", $1 / $2 }'
}

turns() {
	rm -f them us
	for turn in $(seq "$TURNS"); do
		copy_with_nbdcopy "$1" "$2" >>them
		copy_with_us "$1" "$2" >>us
	done
}

head -c "${MIB}M" /dev/urandom >full.img
serve full.sock full.img
turns full.sock full.img
them=$(best them)
us=$(best us)
echo "$MIB MiB of random bytes: nbdcopy $them ms, --cache-all $us ms, ratio $(ratio "$us" "$them") (at most 1.5)"

truncate -s "${MIB}M" sparse.img
for i in $(seq 0 63); do # a MiB here and there
	dd if=full.img of=sparse.img bs=1M count=1 seek=$((i * MIB / 64)) skip=$i conv=notrunc status=none
done
serve sparse.sock sparse.img
turns sparse.sock sparse.img
sparse=$(best us)
echo "$MIB MiB with 64 MiB of data: nbdcopy $(best them) ms, --cache-all $sparse ms, ratio to the full copy $(ratio "$sparse" "$us") (less than 0.1)"
[ $((us * 10)) -le $((them * 15)) ] && [ $((sparse * 10)) -lt "$us" ]
