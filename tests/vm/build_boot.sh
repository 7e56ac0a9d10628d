#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# What boot.py boots, into build/vm/boot: an initramfs of BusyBox, our configuration
# "initramfs" and config/initramfs/init; and a small system of BusyBox (root) that the origin
# has. After build.sh.
set -eu
cd "$(dirname "$0")/../.."
dir=$PWD/build/vm/boot
debian=$PWD/build/vm/debian
modules="virtio_pci virtio_blk virtio_net virtio_console"

# Our program, in a build directory of its own.
program() {
	mkdir -p "$dir/tree"
	rm -rf "$dir/tree/applet" # files that are no more
	cp -pr applet config Kconfig Makefile man "$dir/tree"
	cp config/initramfs_defconfig "$dir/tree/.config"
	make -s -j2 -C "$dir/tree" all
}

# busybox DIRECTORY: with a link for each of its names.
busybox() {
	for d in bin dev etc proc sys run root; do
		mkdir -p "$1/$d"
	done
	cp "$debian/bin/busybox" "$1/bin"
	"$1/bin/busybox" --list | while read -r name; do
		[ "$name" = busybox ] || ln -s busybox "$1/bin/$name"
	done
	cp "$dir/tree/build/xnbdbox" "$1/bin"
	ln -s xnbdbox "$1/bin/xnbd-server"
	ln -s xnbdbox "$1/bin/xnbd-bgctl"
	ln -s bin "$1/sbin"
}

initramfs() {
	busybox "$dir/initramfs"
	install -m 755 config/initramfs/init "$dir/initramfs/init"
	install -D -m 644 config/initramfs/devices "$dir/initramfs/usr/share/xnbdbox/devices"
	# shellcheck disable=SC2086 # on one line
	echo $modules >"$dir/initramfs/etc/modules"
	version=$(basename "$debian"/lib/modules/*)
	to=$dir/initramfs/lib/modules/$version
	mkdir -p "$to"
	cp "$debian/lib/modules/$version"/modules.* "$to"
	for module in $modules nbd virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev net_failover failover; do
		find "$debian/lib/modules/$version" -name "$module.ko" -exec cp {} "$to" ';'
	done
	(cd "$dir/initramfs" && bin/busybox depmod -b . "$version")
	(cd "$dir/initramfs" && find . | cpio -o -H newc --quiet) >"$dir/initrd"
}

rm -rf "$dir/initramfs" "$dir/root"
program
initramfs
busybox "$dir/root"
cp -r tests/vm/userland/etc "$dir/root"
