# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# As a proxy: two clients use the disk of each origin before, while and after it moves here.
#
# shellcheck shell=sh

# in_front ROW LINKS COMMAND...: COMMAND serves far.sock, whose disk is content.img. Of the
# way there a relay sees how many connections are used: LINKS, "twice" for one that has to
# be begun twice, or "cut", see relay.py.
# $export, $errors, $tls and $deaf are for the rows that need them.
in_front() {
	row=$1 links=$2
	shift 2
	rm -f far.sock origin.sock count
	in_background "$@"
	far=$pid
	until_true 20 listens far.sock
	in_background "$PYTHON" "$HERE/relay.py" "$T/origin.sock" "$T/far.sock" count ${cut:+"$cut"}
	relay=$pid
	until_true 20 listens origin.sock
	cp content.img now.img
	if [ "$tls" ]; then
		in_background xnbd-server --proxy --lport 0 --unix proxy.sock "$(there origin.sock)" cache.img cache.bm ctl.sock
		proxy=$pid
		until_true 10 is_up proxy.sock
	else
		proxy ${export:+--target-exportname "$export"}
	fi
	cell "$row" "used and moved" moves
	cell "$row" connections links_are_right
	cell "$row" "origin the same" origin_is_the_same
	stop "$relay"
	if is_gone "$far"; then forget "$far"; else stop "$far"; fi
	fresh
}

# there SOCKET: its URI
there() {
	if [ "$tls" ]; then
		echo "nbds+unix://alice@/$export?socket=$T/$1&tls-psk-file=$T/keys"
	else
		echo "nbd+unix:///$export?socket=$1"
	fi
}

moves() {
	twice=
	[ "$links" != 2 ] || twice=twice
	told=$("$PYTHON" "$HERE/model.py" proxy.sock "" now.img move ${errors:+"$errors"} ${twice:+"$twice"} 2>&1)
	stop "$proxy"
	if [ "$told" = right ]; then right_if cmp -n "$(stat -c %s now.img)" cache.img now.img; else echo "$told"; fi
}

links_are_right() {
	read -r most total <count
	case $links in
	cut) if [ "$total" -gt 4 ]; then echo right; else echo "cut off, but only $total connections"; fi ;;
	twice) if [ "$total" = 2 ]; then echo right; else echo "$total connections"; fi ;;
	*) if [ "$most" = "$links" ]; then echo right; else echo "$most"; fi ;;
	esac
}

origin_is_the_same() {
	if [ "$errors$deaf" ] || is_gone "$far"; then # it cannot be asked: its file must do
		right_if cmp disk.img content.img
		return
	fi
	nbdcopy --request-size="$request" "$(there far.sock)" after.img && right_if cmp after.img content.img
}

kit() {
	row=$1 links=$2
	shift 2
	in_front "nbdkit $row" "$links" nbdkit -f -U "$T/far.sock" "$@"
}

# again COMMAND...: and again, when it has ended, as a service is.
again() {
	trap 'kill "$running" 2>/dev/null; exit' TERM INT
	while :; do
		"$@" &
		running=$!
		wait "$running"
		rm -f far.sock
	done
}

export="" errors="" cut="" deaf="" tls="" request=262144
head -c $(((6 << 20) + 4096 + 512)) /dev/urandom >disk.img
cp disk.img content.img
kit "file" 2 file disk.img
kit "file, read-only, without structured replies" 2 -r --no-sr file disk.img
kit "delay" 2 --filter=delay file disk.img rdelay=5ms
errors=errors; kit "error: a third of the reads fail" 2 --filter=error file disk.img error-pread=EIO error-pread-rate=33%
errors=
kit "multi-conn off" 1 --filter=multi-conn file disk.img multi-conn-mode=disable
kit "noparallel" 2 --filter=noparallel file disk.img serialize=all-requests
kit "cow" 2 --filter=cow file disk.img
kit "exitlast" 2 --filter=exitlast file disk.img
# One thread: nbdkit 1.32 may die when several of its threads answer one who has gone.
cut=700000; kit "cut off after 700 KB, again and again" cut -t 1 file disk.img
cut=
kit "oldstyle" 2 -o file disk.img
kit "plain newstyle" 2 --mask-handshake=0 file disk.img

# ---- block sizes ---------------------------------------------------------------------------

# Breaks of the rules are errors there, and the log has what was asked.
blocks() {
	min=$1 preferred=$2 max=$3
	request=$((min > 4096 ? min : 4096)) # of nbdcopy, when it looks at the origin afterwards
	rm -f kit.log
	kit "blocks of $min, $preferred preferred, $max at most" 2 --filter=log --filter=blocksize-policy file disk.img logfile=kit.log \
		blocksize-minimum="$min" blocksize-preferred="$preferred" blocksize-maximum="$max" blocksize-error-policy=error
	cell "$row" "sizes obeyed" "sizes_are_obeyed $min $max"
}

sizes_are_obeyed() {
	$PYTHON - "$@" <<-'END'
		import re, sys
		least, most = int(sys.argv[1]), int(sys.argv[2])
		asked = [(int(a, 16), int(n, 16)) for a, n in
		         re.findall(r" Read id=\S+ offset=(0x[0-9a-f]+) count=(0x[0-9a-f]+)", open("kit.log").read())]
		wrong = [(a, n) for a, n in asked if a % least or n % least or n > most]
		print("right" if len(asked) > 100 and not wrong else f"{len(asked)} reads, wrong: {wrong[:5]}")
	END
}

head -c 6M /dev/urandom >disk.img
cp disk.img content.img
blocks 1 512 4096
blocks 512 4096 28672
blocks 4096 32768 1048576
blocks 65536 65536 196608
request=262144

# ---- nbdkit's other plugins ------------------------------------------------------------------

$PYTHON -c 'import sys; sys.stdout.buffer.write(b"".join(i.to_bytes(8, "big") for i in range(0, 6 << 20, 8)))' >content.img
kit "pattern" 2 pattern 6M
random content.img 4
truncate -s 6M content.img
in_background nbdkit -f -U "$T/memory.sock" memory 6M
memory=$pid
until_true 20 listens memory.sock
nbdcopy content.img "nbd+unix:///?socket=memory.sock"
kit "memory, behind nbdkit's nbd plugin" 2 nbd socket="$T/memory.sock"
stop "$memory"
random content.img 6
cp content.img disk.img
random first.img 1
kit "second partition of a disk" 2 --filter=partition partitioning first.img disk.img partition=2

# ---- others -----------------------------------------------------------------------------------

in_front "qemu-nbd, raw, one connection" 1 qemu-nbd -t -r -f raw -k "$T/far.sock" disk.img
in_front "qemu-nbd, raw, shared by 4" 2 qemu-nbd -t -r -e 4 -f raw -k "$T/far.sock" disk.img
cp disk.img base.img
qemu-img create -q -f qcow2 -b base.img -F raw middle.qcow2
qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2
qemu-io -f qcow2 -c 'write -P 1 100k 300k' -c 'write -P 2 3M 65536' middle.qcow2 >>log
qemu-img bitmap --add --enable -f qcow2 top.qcow2 since
qemu-io -f qcow2 -c 'write -P 3 350k 100k' -c 'write -z 2M 200k' top.qcow2 >>log
qemu-img convert -O raw top.qcow2 content.img
in_front "qemu-nbd, qcow2 over two others" 2 qemu-nbd -t -r -e 4 -f qcow2 -k "$T/far.sock" top.qcow2
in_front "qemu-nbd, with a bitmap and allocation depth" 2 qemu-nbd -t -r -e 4 -A -B since -f qcow2 -k "$T/far.sock" top.qcow2

# reference ROW LINKS SETTING...: nbd-server with an export "disk" of these settings.
reference() {
	row=$1 links=$2
	shift 2
	{
		printf '[generic]\nunixsock=%s\nallowlist=true\n[disk]\nexportname=%s\n' "$T/far.sock" "$T/disk.img"
		printf '%s\n' "$@"
	} >nbd.conf
	export=disk
	in_front "nbd-server, $row" "$links" nbd-server -d -C "$T/nbd.conf"
	export=
}

cp disk.img content.img
reference "one client, though it says several" 2 maxconnections=1
reference "flush, FUA" 2 flush=true fua=true
reference "flush, FUA, read-only, rotational" 2 flush=true fua=true readonly=true rotational=true
reference "copy on write" 1 copyonwrite=true

in_front "our target" 2 xnbd-server --target --lport 0 --unix "$T/far.sock" disk.img
in_front "our target, oldstyle" 2 xnbd-server --target --oldstyle --lport 0 --unix "$T/far.sock" disk.img
export=disk.img
in_front "our wrapper, by name" 2 xnbd-wrapper --lport 0 --unix "$T/far.sock" --imgfile first.img --imgfile disk.img
export=
in_front "oldstyle by hand" 1 "$PYTHON" "$HERE/old.py" serve oldstyle "$T/far.sock" disk.img
in_front "plain newstyle by hand" 1 "$PYTHON" "$HERE/old.py" serve newstyle "$T/far.sock" disk.img
deaf=deaf # to libnbd
in_front "nbd-server 3.8 to 3.14, by hand" twice "$PYTHON" "$HERE/old.py" serve tripping "$T/far.sock" disk.img
deaf=

target disk.img
mv origin.sock first.sock
in_background xnbd-server --proxy --lport 0 --unix second.sock unix:first.sock - two.img two.bm two.ctl
second=$pid
until_true 10 is_up second.sock
in_front "our proxy, before another one, before a target" 2 \
	xnbd-server --proxy --lport 0 --unix "$T/far.sock" unix:second.sock - three.img three.bm three.ctl
stop "$second"
stop "$origin"

# ---- over TLS ---------------------------------------------------------------------------------

tls=tls
kit "file, TLS" 2 --tls=require --tls-psk="$T/keys" file disk.img
cut=700000
# Of nbdkit 1.32, an assertion fails now and then when a client with TLS is cut off.
in_front "nbdkit TLS, cut off after 700 KB, again and again" cut again nbdkit -f -U "$T/far.sock" --tls=require --tls-psk="$T/keys" \
	file disk.img
cut=
in_front "qemu-nbd, TLS" 2 qemu-nbd --object "tls-creds-psk,id=t,endpoint=server,dir=$T/psk" --tls-creds t -t -r -e 4 -f raw \
	-k "$T/far.sock" disk.img
in_front "our target, TLS" 2 xnbd-server --target --lport 0 --unix "$T/far.sock" --tls require --tls-psk keys disk.img
export=disk.img
in_front "our wrapper, by name, TLS" 2 xnbd-wrapper --lport 0 --unix "$T/far.sock" --tls require --tls-psk keys \
	--imgfile first.img --imgfile disk.img
export="" tls=""
