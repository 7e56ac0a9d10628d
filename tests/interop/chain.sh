# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A disk with a file system goes over two hops while files are written to it: from an
# oldstyle origin to a proxy, and from that to another. At each hop the origin is
# reconnected to, the rest is copied, and the switch is made. (With the kernel's client: tests/vm.)
#
# shellcheck shell=sh

# hop N ORIGIN: a proxy in front of ORIGIN, on hopN.sock; sets hop.
hop() {
	in_background xnbd-server --proxy --lport 0 --unix "hop$1.sock" --rate 30000000 "unix:$2" - "hop$1.img" "hop$1.bm" "hop$1.ctl"
	hop=$pid
	until_true 20 is_up "hop$1.sock"
}

# put N: file N into the file system behind the last hop, with a client of its own.
put() {
	head -c "$((200000 * $1))" /dev/urandom >"file$1"
	if [ ! -e /dev/fuse ]; then
		nbdcopy "nbd+unix:///?socket=hop2.sock" put.img
		debugfs -w -R "write file$1 file$1" put.img >>log 2>&1
		nbdcopy put.img "nbd+unix:///?socket=hop2.sock"
		return
	fi
	mkdir -p mnt
	in_background nbdfuse mnt/disk "nbd+unix:///?socket=hop2.sock"
	until_true 20 test -e mnt/disk
	debugfs -w -R "write file$1 file$1" mnt/disk >>log 2>&1
	umount mnt || umount -l mnt
	until_true 20 is_gone "$pid"
	forget "$pid"
}

# Each file is what was written, and the file system is clean.
files_are_right() {
	e2fsck -fn "$1" >>log 2>&1 || echo "e2fsck: $?"
	for n in 0 1 2 3 4; do
		debugfs -R "dump file$n dumped" "$1" >>log 2>&1
		cmp dumped "file$n" || return
	done
	echo right
}

# move N ORIGIN: files are written while hop N gets the rest and switches.
move() {
	xnbd-bgctl --reconnect "hop$1.ctl" "unix:$T/$2" - || return
	xnbd-bgctl --cache-all "hop$1.ctl" &
	copy=$!
	put "$1"
	wait $copy || return
	put "$(($1 + 2))"
	xnbd-bgctl --switch "hop$1.ctl"
}

old_origin() {
	in_background nbdkit -f -o -U "$T/$1" -r file ext4.img
	until_true 20 listens "$1"
}

over_two_hops() {
	rm -f hop*
	old_origin old1.sock
	first=$pid
	old_origin old2.sock # the origin, after it has moved to another address
	second=$pid
	hop 1 old1.sock
	hop1=$hop
	hop 2 hop1.sock
	hop2=$hop
	stop "$first" KILL
	move 1 old2.sock || return
	stop "$second" KILL
	move 2 hop1.sock || return
	stop "$hop1"
	nbdcopy "nbd+unix:///?socket=hop2.sock" moved.img
	stop "$hop2"
	cmp -n "$(stat -c %s moved.img)" hop2.img moved.img && files_are_right moved.img
}

random file0 3
truncate -s 24M ext4.img
mkfs.ext4 -q -F ext4.img
debugfs -w -R "write file0 file0" ext4.img >>log 2>&1
cp ext4.img content.img
cell "oldstyle -> proxy -> proxy -> ext4, in use" "bytes right" over_two_hops
cell "... and its origin is as it was" "bytes right" "right_if cmp ext4.img content.img"

# ---- the proxy in the middle is stopped and started again, while a read is under way ------------

restarted_in_the_middle() {
	rm -f hop* origin.sock
	random disk.img 2
	target disk.img
	hop 1 origin.sock
	hop1=$hop
	hop 2 hop1.sock
	hop2=$hop
	kill -STOP "$origin"
	nbdcopy "nbd+unix:///?socket=hop2.sock" read.img &
	reader=$!
	until_true 20 hop_waits 1
	stop "$hop1"
	kill -CONT "$origin"
	hop 1 origin.sock
	hop1=$hop
	wait $reader && right_if cmp read.img disk.img
	stop "$hop2"
	stop "$hop1"
	stop "$origin"
}

hop_waits() {
	[ "$(xnbd-bgctl --query "hop$1.ctl" | sed -n 's/^waiting //p')" -gt 0 ]
}

cell "a proxy in the middle restarts, in use" "bytes right" restarted_in_the_middle
