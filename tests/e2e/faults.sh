# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# What faults.tests and shortage.tests share. Each of their tests ends the same way: the
# fault is gone, the copy comes to its end, the image is right, and the server holds what
# it held before.
#
# shellcheck shell=sh disable=SC2154 # T, pid, origin: of testing.sh

PATH=$PATH:/usr/sbin:/sbin
need nbdsh mkfs.ext4 losetup mountpoint ps
export PYTHONPATH="$HERE"

uri="nbd+unix:///?socket=proxy.sock"
random disk.img 16
dev=

# What a test leaves behind when it breaks off. The mounts are still in use then.
drop_disks() {
	left=$?
	for dir in fs ram; do
		! mountpoint -q "$T/$dir" || umount -l "$T/$dir"
	done
	[ -z "$dev" ] || losetup -d "$dev"
	return $left
}
trap 'drop_disks; finish' EXIT

# What clients write goes to the model too: write(); error() tells how a request failed.
cat >client.py <<'END'
def write(byte, at, n=4096):
    h.pwrite(byte * n, at)
    with open("model.img", "r+b") as f:
        f.seek(at)
        f.write(byte * n)
def error(f, *args):
    try:
        f(*args)
        return "done"
    except nbd.Error as e:
        return e.errno
def right(at, n=4096):
    with open("model.img", "rb") as f:
        f.seek(at)
        return h.pread(n, at) == f.read(n)
END
sh_() { nbdsh -u "$uri" -c 'exec(open("client.py").read())' "$@"; }

# start IMAGE BITMAP [OPTION...]: a proxy, and what it holds. prefix is in front of its
# command, and its parent.
prefix=
start() {
	start_image=$1 start_bitmap=$2
	shift 2
	# shellcheck disable=SC2086 # a command and its arguments, or nothing
	in_background $prefix xnbd-server --proxy --lport 0 --unix proxy.sock "$@" unix:origin.sock - "$start_image" "$start_bitmap" ctl.sock
	proxy=$pid
	until_true 20 is_up proxy.sock
	if [ -n "$prefix" ]; then
		proxy=$(ps -o pid= --ppid "$proxy" | tr -d ' ')
		PIDS="$PIDS $proxy"
	fi
	until_true 20 no_sessions
	# Not with the connection that has just asked: it may not have noticed its end.
	held=$(for _ in 1 2 3 4 5; do descriptors && sleep 0.05; done | sort -n | head -1)
}

descriptors() {
	find "/proc/$proxy/fd" -type l | wc -l
}

no_sessions() {
	[ "$(query sessions)" = 0 ]
}

holds_as_before() {
	[ "$(descriptors)" = "$held" ]
}

# whole: the end of every test.
whole() {
	xnbd-bgctl --cache-all ctl.sock && cmp -n $((16 << 20)) "$start_image" model.img && echo whole
	query state
	until_true 20 no_sessions
	until_true 20 holds_as_before || ls -l "/proc/$proxy/fd"
	ps -o pid,stat,args --no-headers --ppid "$proxy"
	stop "$proxy"
}

# begin: an origin, and the model of its disk.
begin() {
	cp disk.img model.img
	target disk.img
}

end() {
	stop "$origin"
	! mountpoint -q fs || umount fs
	[ -z "$dev" ] || losetup -d "$dev"
	! mountpoint -q ram || umount ram
	dev=
	rm -f cache.img cache.bm* ctl.sock proxy.sock
}

# ext4 MIB: a file system on fs/.
ext4() {
	rm -f fs.img
	truncate -s "$1M" fs.img
	mkfs.ext4 -q -m 0 fs.img && mkdir -p fs && mount -o loop fs.img fs
}

# fill DIR: not a byte is left.
fill() {
	dd if=/dev/zero of="$1/filler" bs=64k status=none 2>/dev/null
	dd if=/dev/zero of="$1/filler" bs=512 oflag=append conv=notrunc status=none 2>/dev/null
	sync -f "$1/filler"
}

# device BACKING: a loop device of 16 MiB on this file.
device() {
	truncate -s 16M "$1"
	dev=$(losetup --find --show "$1")
}
