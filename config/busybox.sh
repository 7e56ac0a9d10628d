#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# xnbd-bgctl inside BusyBox.
#
#   config/busybox.sh install DIR   puts the applet and its tests into a BusyBox source tree
#   config/busybox.sh patches [DIR] the same as patches, in DIR or in config/busybox
#   config/busybox.sh build         for the tests: Debian's BusyBox source, with the
#                                   applet and, to compare, without; in build/busybox
#   config/busybox.sh nbd_client FILE  for the tests, too: FILE is a BusyBox with its nbd-client
set -eu
cd "$(dirname "$0")/.."
dir=$PWD/build/busybox

# What BusyBox gets: a mode, the file there, and the file here. Its own build collects the //config:,
# //applet:, //kbuild: and //usage: lines.
files() {
	for file in applet/xnbd_bgctl*.[ch]; do
		[ "$file" != applet/xnbd_bgctl_all.c ] || continue # it needs xnbd-wrapper's database
		echo "644 networking/${file##*/} $file"
	done
	echo "755 testsuite/xnbd-bgctl.tests config/busybox/xnbd-bgctl.tests"
}

install() {
	[ -f "$1/networking/nbd-client.c" ] || {
		echo "'$1' is not a BusyBox source tree (1.35 or later)" >&2
		exit 1
	}
	files | while read -r mode to from; do
		cp "$from" "$1/$to"
		chmod "$mode" "$1/$to"
	done
}

# new_files FOLDER: what patch(1) and git make files of.
new_files() {
	files | while read -r mode to from; do
		case $to in "$1"/*) ;; *) continue ;; esac
		printf 'diff --git a/%s b/%s\nnew file mode 100%s\n--- /dev/null\n+++ b/%s\n' "$to" "$to" "$mode" "$to"
		echo "@@ -0,0 +1,$(wc -l <"$from") @@"
		sed 's/^/+/' "$from"
	done
}

patches() {
	{
		cat <<-'TEXT'
		xnbd-bgctl: new applet

		Controls a running xnbd-server of xnbdbox through its control socket.
		This patch is generated: "make busybox-patches" in the source of xnbdbox.

		TEXT
		new_files networking
	} >"$1/0001-xnbd-bgctl-new-applet.patch"
	{
		cat <<-'TEXT'
		xnbd-bgctl: testsuite

		Most of the tests are skipped if there is no xnbd-server in PATH.
		This patch is generated: "make busybox-patches" in the source of xnbdbox.

		TEXT
		new_files testsuite
	} >"$1/0002-xnbd-bgctl-testsuite.patch"
}

# Debian's source package, by the machine's own package sources.
fetch() {
	[ ! -d "$dir/tree" ] || return 0
	rm -rf "$dir"
	mkdir -p "$dir/lists"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
		[ -e "$file" ] || continue
		case $file in
		*.list) sed -n 's/^deb /deb-src /p' "$file" >"$dir/sources.list" ;;
		*.sources) sed 's/^Types:.*/Types: deb-src/' "$file" >"$dir/debian.sources" ;;
		*) continue ;;
		esac
		for source in "$dir"/sources.list "$dir"/debian.sources; do
			[ -s "$source" ] || continue
			(
				cd "$dir"
				set -- -o "Dir::Etc::sourcelist=$source" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$dir/lists"
				apt-get "$@" update && apt-get "$@" source --download-only busybox
			) >"$dir/log" 2>&1 && break 2
		done
	done
	tar -xjf "$dir"/busybox_*.orig.tar.bz2 -C "$dir"
	mv "$dir"/busybox-* "$dir/tree"
}

# musl-gcc finds no kernel headers by itself.
kernel_headers() {
	mkdir -p "$dir/headers"
	for name in linux asm-generic mtd; do
		ln -sfn "/usr/include/$name" "$dir/headers/$name"
	done
	ln -sfn "/usr/include/$(gcc -dumpmachine)/asm" "$dir/headers/asm"
}

run_make() {
	make -C "$dir/tree" -j2 CC="musl-gcc -idirafter $dir/headers -Wframe-larger-than=2048" "$@" >>"$dir/log" 2>&1
}

# configure SYMBOL...: what a rescue shell has, and these. So helpers of libbb and libc
# that such a BusyBox has anyway do not count as the applet's.
configure() {
	run_make allnoconfig
	for symbol in STATIC LFS BUSYBOX LONG_OPTS SHOW_USAGE FEATURE_VERBOSE_USAGE ASH LS CAT DD MOUNT UMOUNT SLEEP \
		WGET FEATURE_WGET_LONG_OPTIONS TAR FEATURE_TAR_CREATE FEATURE_TAR_LONG_OPTIONS BLOCKDEV IP IFCONFIG "$@"; do
		sed -i "/CONFIG_${symbol}[ =]/d" "$dir/tree/.config"
		echo "CONFIG_$symbol=y" >>"$dir/tree/.config"
	done
	yes "" | run_make oldconfig
}

build() {
	fetch
	kernel_headers
	: >"$dir/log"
	rm -f "$dir"/tree/networking/xnbd_bgctl*
	configure
	run_make busybox
	cp "$dir/tree/busybox" "$dir/without"
	install "$dir/tree"
	configure XNBD_BGCTL FEATURE_XNBD_BGCTL_CACHE_ALL2 FEATURE_XNBD_BGCTL_PROGRESS FEATURE_XNBD_BGCTL_RECONNECT FEATURE_XNBD_BGCTL_JOB \
		FEATURE_XNBD_BGCTL_EXPORTNAME
	run_make busybox
	cp "$dir/tree/busybox" "$dir/default"
	: >"$dir/log"
	configure XNBD_BGCTL FEATURE_XNBD_BGCTL_CACHE_ALL2 FEATURE_XNBD_BGCTL_PROGRESS FEATURE_XNBD_BGCTL_RECONNECT FEATURE_XNBD_BGCTL_JOB \
		FEATURE_XNBD_BGCTL_EXPORTNAME FEATURE_XNBD_BGCTL_BINARY
	rm -f "$dir"/tree/networking/xnbd_bgctl*.o
	run_make busybox
	cp "$dir/tree/busybox" "$dir/busybox"
	if grep -E 'xnbd_bgctl[a-z0-9_]*\.[ch]:.*warning|Config.in.*error' "$dir/log"; then
		exit 1
	fi
	size "$dir/without" "$dir/default" "$dir/busybox" | awk '{ bytes[NR] = $1 + $2 } END {
		print "the applet adds " bytes[3] - bytes[2] " bytes to BusyBox (text and data)"
		print "and the protocol of xNBD, off by default, " bytes[4] - bytes[3]
		exit bytes[3] - bytes[2] > 6144 }'
}

# The client of Debian's BusyBox source; its package has none.
nbd_client() {
	fetch
	kernel_headers
	: >"$dir/log"
	rm -f "$dir"/tree/networking/xnbd_bgctl*
	configure NBDCLIENT
	run_make busybox
	cp "$dir/tree/busybox" "$1"
}

case ${1-} in
nbd_client) nbd_client "$2" || { tail -20 "$dir/log" >&2; exit 1; } ;;
install) install "$2" ;;
patches) patches "${2:-config/busybox}" ;;
build) build || { tail -20 "$dir/log" >&2; exit 1; } ;;
*)
	echo "usage: config/busybox.sh install DIR|patches [DIR]|build|nbd_client FILE" >&2
	exit 1
	;;
esac
