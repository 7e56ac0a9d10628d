# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# As a server: each client against a target, a proxy with blocks missing, and an export of a
# wrapper. $uri, $sock and $name tell where; now.img is what is on the disk.
#
# shellcheck shell=sh

# over_tls COMMAND: what uses $uri does so with a key.
over_tls() {
	tls=tls plain=$uri
	uri="nbds+unix://alice@/$name?socket=$sock&tls-psk-file=$T/keys"
	"$@"
	tls="" uri=$plain
}

# The same commands on the disk and on a file: QEMU is its own model.
qemu_io() {
	set -- -d unmap -c 'write -P 0x5a 12345 100000' -c 'write -f -P 7 4095 2' -c 'write -z 1M 300k' \
		-c 'write -z -u 2M 1234567' -c 'discard 5M 64k' -c 'flush' -c 'aio_write -P 9 4M 65536' -c 'aio_flush'
	if [ "$tls" ]; then
		qemu-io "$@" --object "tls-creds-psk,id=t,endpoint=client,dir=$T/psk,username=alice" --image-opts \
			"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=$sock,file.export=$name,file.tls-creds=t"
	else
		qemu-io "$@" -f raw "$uri"
	fi >qemu.log 2>&1 || cat qemu.log
	qemu-io "$@" -f raw now.img >qemu.log 2>&1 || cat qemu.log
	[ "$tls" ] || qemu-img compare -q -f raw -F raw now.img "$uri"
	now_is_there
}

qemu_img_from() {
	qemu-img convert -f raw -O raw "$uri" out.img && right_if cmp out.img now.img
}

qemu_img_to() {
	random now.img 4
	truncate -s $SIZE now.img
	qemu-img convert -n -f raw -O raw now.img "$uri" && now_is_there
}

qemu_mirror() {
	random now.img 6
	truncate -s $SIZE now.img
	[ "$($PYTHON "$HERE/mirror.py" "$sock" "$name" now.img "$tls")" = right ] && now_is_there
}

libnbd_two() {
	right=$($PYTHON "$HERE/model.py" "$sock" "$name" now.img use "$tls")
	if [ "$right" = right ]; then now_is_there; else echo "$right"; fi
}

nbdcopy_four() {
	nbdcopy --connections=4 --requests=16 "$uri" out.img && cmp out.img now.img || return
	random now.img 5
	truncate -s $SIZE now.img
	nbdcopy --connections=4 --requests=16 --flush now.img "$uri" && now_is_there
}

# What is called zero has to be zero; half of the disk is a hole by now.
nbdinfo_map() {
	head -c $((SIZE / 2)) /dev/urandom >now.img
	truncate -s $SIZE now.img
	nbdcopy --destination-is-zero now.img "$uri" 2>log.map || cat log.map
	nbdsh -c "h.set_uri_allow_local_file(True); h.connect_uri('$uri'); h.zero($((SIZE - SIZE / 2)), $((SIZE / 2)))"
	nbdinfo --map "$uri" | $PYTHON -c '
import sys
disk, at, zero = open("now.img", "rb").read(), 0, 0
for line in sys.stdin:
    first, length, flags = (int(w) for w in line.split()[:3])
    assert first == at and length, line
    at += length
    if flags & 2:
        assert not any(disk[first:at]), line
        zero += length
assert at == len(disk) and zero > len(disk) // 3, (at, zero)' && now_is_there
}

fio_two_jobs() {
	fio --name=v --ioengine=nbd --uri="$uri" --rw=randrw --bsrange=512-64k --bs_unaligned --numjobs=2 --size=$((SIZE / 2)) \
		--offset_increment=$((SIZE / 2)) --iodepth=16 --verify=crc32c --randseed=1 --output=fio.log && echo right
	nbdcopy "$uri" now.img
}

nbdfuse_file() {
	mkdir -p mnt
	in_background nbdfuse mnt/disk "$uri"
	until_true 20 test -e mnt/disk
	cmp mnt/disk now.img && random piece 1 &&
		dd if=piece of=mnt/disk bs=100001 seek=7 conv=notrunc,fsync status=none &&
		dd if=piece of=now.img bs=100001 seek=7 conv=notrunc status=none && cmp mnt/disk now.img
	umount mnt || umount -l mnt
	until_true 20 is_gone "$pid"
	forget "$pid"
	now_is_there
}

by_hand() {
	$PYTHON "$HERE/old.py" use "$1" "$sock" "$name" now.img
}

nbd_client_list() {
	nbd-client -l 127.0.0.1 "$port" >list 2>&1
	printf 'Negotiation: ..\n%s\n' "${name:+other.img
}$name" >wanted
	diff wanted list && echo right
}

nbdkit_nbd() {
	nbdkit -U - nbd socket="$sock" export="$name" ${tls:+tls=require "tls-psk=$T/keys" tls-username=alice} --run 'nbdcopy "$uri" out.img' && right_if cmp out.img now.img
}

# Nothing is local yet.
new_proxy() {
	cp disk.img now.img
	in_background xnbd-server --proxy "$@" --unix proxy.sock unix:origin.sock - cache.img cache.bm ctl.sock
	proxy=$pid
	until_true 10 is_up proxy.sock
}

client() {
	[ -z "$anew" ] || eval "$anew"
	cell "$@"
	[ -z "$anew" ] || { stop "$proxy" && fresh; }
}

each_client() {
	client "qemu-io: write, zero, discard, FUA" "$1" qemu_io
	client "qemu-img convert from it" "$1" qemu_img_from
	client "qemu-img convert to it" "$1" qemu_img_to
	client "QEMU blockdev-mirror to it, in use" "$1" qemu_mirror
	client "libnbd: two clients and a model" "$1" libnbd_two
	client "nbdcopy, 4 connections, both ways" "$1" nbdcopy_four
	client "nbdinfo --map" "$1" nbdinfo_map
	client "fio, two jobs, verify" "$1" fio_two_jobs
	if [ -e /dev/fuse ]; then
		client "nbdfuse" "$1" nbdfuse_file
	else
		none "nbdfuse" "$1" # and the table is not the one of the README
	fi
	client "nbdkit's nbd plugin" "$1" nbdkit_nbd
	client "nbd-client -l" "$1" nbd_client_list
	client "plain newstyle by hand" "$1" "by_hand newstyle"
	client "newstyle as nbd-client 3.3 to 3.9.1" "$1" "by_hand ored"
	client "TLS: qemu-io" "$1" "over_tls qemu_io"
	client "TLS: QEMU blockdev-mirror" "$1" "over_tls qemu_mirror"
	client "TLS: libnbd, two clients and a model" "$1" "over_tls libnbd_two"
	client "TLS: nbdcopy, 4 connections" "$1" "over_tls nbdcopy_four"
	client "TLS: nbdinfo --map" "$1" "over_tls nbdinfo_map"
	client "TLS: nbdkit's nbd plugin" "$1" "over_tls nbdkit_nbd"
}

anew="" tls=""
SIZE=$(((6 << 20) + 512))
where() {
	sock=$1 name=$2
	uri="nbd+unix:///$2?socket=$1"
}
fill() {
	head -c $SIZE /dev/urandom >"$1"
	cp "$1" now.img
}

port=$(free_port)
fill disk.img
in_background xnbd-server --target --laddr 127.0.0.1 --lport "$port" --unix direct.sock --tls-psk keys disk.img
server=$pid
until_true 10 is_up direct.sock
where direct.sock ""
each_client target
stop "$server"

port=$(free_port)
fill disk.img
target disk.img
cp disk.img model.img
where proxy.sock ""
anew='new_proxy --laddr 127.0.0.1 --lport $port --tls-psk keys'
each_client proxy
anew=
testing "the clients of the proxy did not touch its origin" "same disk.img model.img" "same\n"
stop "$origin"

port=$(free_port)
fill disk.img
random other.img 1
in_background xnbd-wrapper --laddr 127.0.0.1 --lport "$port" --unix w.sock --socket w.ctl --tls-psk keys --imgfile other.img
server=$pid
until_true 10 listens w.ctl
echo "add disk-b disk.img" | socat -t 10 - UNIX-CONNECT:w.ctl >>log
where w.sock disk-b
each_client wrapper
stop "$server"

fill disk.img
target disk.img --oldstyle
where origin.sock ""
cell "oldstyle by hand" target "by_hand oldstyle"
cp disk.img now.img
cp disk.img model.img
proxy --oldstyle
where proxy.sock ""
cell "oldstyle by hand" proxy "by_hand oldstyle"
none "oldstyle by hand" wrapper
stop "$proxy"
fresh
stop "$origin"
rm -f origin.sock
