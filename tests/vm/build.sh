#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The machine of the tests, into build/vm: Debian's kernel (vmlinuz), and an initramfs
# (initrd) of Debian's BusyBox, some modules, our program, dmsetup, flock and nbd-client.
# Nothing of it is installed on this machine.
set -eu
cd "$(dirname "$0")/../.."
dir=$PWD/build/vm
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk
	failover net_failover virtio_net dm-mod dm-log-writes nbd"

# fetch: the two packages, unpacked in build/vm/debian.
fetch() {
	[ ! -d "$dir/debian" ] || return 0
	rm -rf "$dir/new"
	mkdir -p "$dir/new"
	kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
	(cd "$dir/new" && apt-get download busybox-static "$kernel")
	for package in "$dir"/new/*.deb; do
		dpkg-deb -x "$package" "$dir/new"
	done
	mv "$dir/new" "$dir/debian"
}

# program FILE: with the libraries it wants, at their own paths.
program() {
	for file in "$1" $(ldd "$1" | grep -o '/[^ ]*'); do
		mkdir -p "$dir/root$(dirname "$file")"
		cp -L "$file" "$dir/root$file"
	done
}

initrd() {
	rm -rf "$dir/root"
	mkdir -p "$dir/root/bin" "$dir/root/modules" "$dir/root/dev" "$dir/root/proc" "$dir/root/sys" "$dir/root/run"
	cp tests/vm/init "$dir/root/init"
	cp "$dir/debian/bin/busybox" "$dir/root/bin/busybox"
	cp "$XNBDBOX" "$dir/root/bin/xnbdbox"
	for load in hog fsload; do
		musl-gcc -Os -Wall -Wextra -static -s -o "$dir/root/bin/$load" tests/vm/$load.c
	done
	for module in $modules; do
		find "$dir/debian/lib/modules" -name "$module.ko" -exec cp {} "$dir/root/modules" ';'
	done
	# shellcheck disable=SC2086 # on one line
	echo $modules >"$dir/root/modules/list"
	for tool in dmsetup flock nbd-client mkfs.ext4; do
		program "$(PATH=$PATH:/usr/sbin:/sbin command -v $tool)"
	done
	mkdir -p "$dir/root/bin/bb" # of the same name as Debian's
	cp "$dir/nbd-client" "$dir/root/bin/bb/nbd-client"
	(cd "$dir/root" && find . | cpio -o -H newc --quiet) >"$dir/initrd"
}

: "${XNBDBOX:=$PWD/build/xnbdbox}"
fetch >"$dir.log" 2>&1 || { apt-get update && fetch; } >"$dir.log" 2>&1 || {
	tail -5 "$dir.log" >&2
	echo "Debian's packages linux-image-cloud-amd64 and busybox-static could not be had" >&2
	exit 1
}
[ -e "$dir/nbd-client" ] || config/busybox.sh nbd_client "$dir/nbd-client"
cp "$dir"/debian/boot/vmlinuz-* "$dir/vmlinuz"
initrd
