#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The machine of the tests, into build/vm: Debian's kernel (vmlinuz), and an initramfs
# (initrd) of Debian's BusyBox, some modules, our program, dmsetup, flock and nbd-client; and the
# same with Debian's youngest kernel 6.12, of its updates (vmlinuz-6.12, initrd-6.12); and fio.img.
# Nothing of it is installed on this machine.
set -eu
cd "$(dirname "$0")/../.."
dir=$PWD/build/vm
# Those that a kernel has not as modules are part of it.
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk
	failover net_failover virtio_net loop dm-mod dm-log-writes nbd ublk_drv
	libcrc32c dm-bufio dm-persistent-data dm-bio-prison dm-thin-pool
	libchacha chacha-x86_64 libpoly1305 poly1305-x86_64 chacha_generic poly1305_generic chacha20poly1305 tls"

# fetch DIRECTORY KERNEL PACKAGE...: the packages, and that which KERNEL stands for, unpacked there.
fetch() {
	to=$dir/$1
	[ ! -d "$to" ] || return 0
	kernel=$(apt-cache depends "$2" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
	shift 2
	rm -rf "$dir/new"
	mkdir -p "$dir/new"
	(cd "$dir/new" && apt-get download "$kernel" "$@") || return 1
	for package in "$dir"/new/*.deb; do
		dpkg-deb -x "$package" "$dir/new" || return 1
	done
	mv "$dir/new" "$to"
}

fetch_all() {
	fetch debian linux-image-cloud-amd64 busybox-static && fetch debian-6.12 linux-image-6.12-cloud-amd64
}

# program TREE FILE: with the libraries it wants, at their own paths.
program() {
	for file in "$2" $(ldd "$2" | grep -o '/[^ ]*'); do
		mkdir -p "$dir/$1$(dirname "$file")"
		cp -L "$file" "$dir/$1$file"
	done
}

# A disk with fio, whose libraries are too much for an initramfs: /mnt/fio, if it is mounted at /mnt.
fio_disk() {
	rm -rf "$dir/fio"
	mkdir "$dir/fio"
	program fio "$(command -v fio)"
	libraries=$(cd "$dir/fio" && find . -name '*.so*' -exec dirname {} + | sort -u | sed 's|^\.|/mnt|' | paste -sd :)
	loader=$(cd "$dir/fio" && find lib64 lib -name 'ld-linux*' | head -1)
	printf '#!/bin/sh\nexec /mnt/%s --library-path %s /mnt%s "$@"\n' "$loader" "$libraries" "$(command -v fio)" >"$dir/fio/fio"
	chmod +x "$dir/fio/fio"
	rm -f "$dir/fio.img"
	truncate -s "$(($(du -sm "$dir/fio" | cut -f1) * 5 / 4 + 8))M" "$dir/fio.img"
	mkfs.ext4 -q -F -O ^has_journal -d "$dir/fio" "$dir/fio.img"
	rm -rf "$dir/fio"
}

# pack KERNEL INITRD: root with the modules of that kernel.
pack() {
	rm -rf "$dir/root/modules"
	mkdir "$dir/root/modules"
	list=
	for module in $modules; do
		find "$dir/$1/lib/modules" -name "$module.ko*" -exec cp {} "$dir/root/modules" ';'
		case $(echo "$dir/root/modules/$module".ko*) in
		*'*') continue ;;
		*.xz) xz -d "$dir/root/modules/$module.ko.xz" ;;
		esac
		list="$list $module"
	done
	echo "$list" >"$dir/root/modules/list"
	(cd "$dir/root" && find . | cpio -o -H newc --quiet) >"$dir/$2"
}

root() {
	rm -rf "$dir/root"
	mkdir -p "$dir/root/bin" "$dir/root/dev" "$dir/root/proc" "$dir/root/sys" "$dir/root/run"
	cp tests/vm/init "$dir/root/init"
	cp "$dir/debian/bin/busybox" "$dir/root/bin/busybox"
	cp "$XNBDBOX" "$dir/root/bin/xnbdbox"
	for load in hog fsload; do
		musl-gcc -Os -Wall -Wextra -static -s -o "$dir/root/bin/$load" tests/vm/$load.c
	done
	for tool in dmsetup flock nbd-client mkfs.ext4 blkdiscard; do
		program root "$(PATH=$PATH:/usr/sbin:/sbin command -v $tool)"
	done
	mkdir -p "$dir/root/bin/bb" # of the same name as Debian's
	cp "$dir/nbd-client" "$dir/root/bin/bb/nbd-client"
}

: "${XNBDBOX:=$PWD/build/xnbdbox}"
fetch_all >"$dir.log" 2>&1 || { apt-get update && fetch_all; } >"$dir.log" 2>&1 || {
	tail -5 "$dir.log" >&2
	echo "Debian's packages linux-image-cloud-amd64, linux-image-6.12-cloud-amd64 and busybox-static could not be had" >&2
	exit 1
}
[ -e "$dir/nbd-client" ] || config/busybox.sh nbd_client "$dir/nbd-client"
cp "$dir"/debian/boot/vmlinuz-* "$dir/vmlinuz"
cp "$dir"/debian-6.12/boot/vmlinuz-* "$dir/vmlinuz-6.12"
[ -e "$dir/fio.img" ] || fio_disk
root
pack debian-6.12 initrd-6.12
pack debian initrd
