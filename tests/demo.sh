#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make demo: a disk moves to a new place while a client writes to it, and nobody
# notices that the old place dies twice on the way. Everything happens in one
# directory, over Unix sockets; it is removed at the end.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
XNBDBOX=${XNBDBOX:-$top/build/xnbdbox}
PATH=$PATH:/usr/sbin:/sbin
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-demo.XXXXXX")
cd "$T"
mkdir bin
ln -s "$XNBDBOX" bin/xnbd-server
ln -s "$XNBDBOX" bin/xnbd-bgctl
PATH=$T/bin:$PATH
pids=

finish() {
	code=$?
	for pid in $pids; do
		kill -9 "$pid" 2>/dev/null || :
	done
	cd / && rm -rf "$T"
	[ $code = 0 ] || echo "The demo failed." >&2
}
trap finish EXIT
trap 'exit 1' INT TERM

say() {
	printf '\n== %s\n' "$*"
}

# run COMMAND...: shows it, and does it.
run() {
	echo "# $*"
	"$@"
}

# serve COMMAND...: the same, in the background; sets pid.
serve() {
	echo "# $* &"
	"$@" &
	pid=$!
	pids="$pids $pid"
}

until_there() {
	for _ in $(seq 200); do
		[ ! -S "$1" ] || return 0
		sleep 0.05
	done
	echo "nobody listens at $1" >&2
	exit 1
}

say "A disk: 512 MiB, an ext4 file system with 200 MiB of files in it"
mkdir files
for i in $(seq 1 10); do
	head -c 20M /dev/urandom >"files/film-$i"
done
yes "An empty line." | head -c 1M >files/diary
truncate -s 512M disk.img
run mkfs.ext4 -q -b 4096 -d files disk.img
rm -r files
cp --sparse=always disk.img must-be.img
diary=$(($(debugfs -R "bmap /diary 0" disk.img 2>/dev/null) * 4096))

say "The old machine exports it: the origin"
serve xnbd-server --target --readonly --lport 0 --unix origin.sock disk.img
origin=$pid
until_there origin.sock

say "The new machine: a proxy, with an empty image to fill. From now on the disk is in use here"
serve xnbd-server --proxy --lport 0 --unix new.sock --rate 60000000 unix:origin.sock - cache.img cache.bm ctl.sock
proxy=$pid
until_there new.sock
run xnbd-bgctl --query ctl.sock

say "A client writes a diary, 20 lines a second, inside of a file of that file system"
cat >client.py <<'END'
import nbd, os, sys, time
disk = nbd.NBD()
disk.connect_unix("new.sock")
must_be = open("must-be.img", "r+b")
at, lines = int(sys.argv[1]), 0
while not os.path.exists("enough"):
    line = b"line %d: nothing happened.\n" % lines
    disk.pwrite(line, at)
    must_be.seek(at)
    must_be.write(line)
    if disk.pread(len(line), at) != line:
        sys.exit("the client read something else than it wrote")
    at, lines = at + len(line), lines + 1
    time.sleep(0.05)
disk.flush()
disk.shutdown()
must_be.close()
print(f"client: wrote {lines} lines, saw no error, was never disconnected")
END
serve /usr/bin/python3 client.py "$diary"
client=$pid

say "Copy the rest behind its back (60 MB/s, to have something to watch). After two seconds the origin is cut off"
(
	sleep 2
	kill -9 "$origin"
	printf '\n== The origin is gone. The client goes on; the copy waits\n'
	sleep 1.5
) &
killer=$!
serve xnbd-bgctl --progress --cache-all ctl.sock
copy=$pid
wait $killer
wait "$origin" 2>/dev/null || :
run xnbd-bgctl --query ctl.sock | grep -E '^#|^percent|^origin_state|^waiting'

say "It comes back, at another address. Tell the proxy where"
serve xnbd-server --target --readonly --lport 0 --unix elsewhere.sock disk.img
origin=$pid
until_there elsewhere.sock
run xnbd-bgctl --reconnect ctl.sock "unix:$T/elsewhere.sock" -
wait $copy

say "Every block is here. Switch: the proxy becomes a plain server of the copy"
run xnbd-bgctl --switch ctl.sock
run xnbd-bgctl --query ctl.sock | grep -E '^#|^mode|^percent|^sessions'

say "The origin dies for good. The client does not care"
run kill -9 "$origin"
wait "$origin" 2>/dev/null || :
sleep 0.5
touch enough
wait $client
kill "$proxy"
wait "$proxy"

say "Is the file system whole, and is every byte what it must be?"
run e2fsck -fn cache.img
run cmp cache.img must-be.img
debugfs -R "cat /diary" cache.img 2>/dev/null | grep -a '^line' | sed -n '1p;$p'
say "Yes: the disk has moved while it was in use."
