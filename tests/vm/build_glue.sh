#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# build_glue.sh initramfs-tools|initramfs-tools-luks|dracut|dracut-systemd|dracut-systemd-luks: an initramfs as Debian's own tool
# makes it with what is in config/, into build/vm/NAME.initrd; luks: with a key, and with a crypttab where the tool reads that of
# this machine. After build.sh and build_boot.sh.
# dracut: and what a shutdown needs of such an initramfs, into build/vm/NAME-shutdown.initrd.
# build_glue.sh udev: that of build.sh, with Debian's udev and LVM in /d.
# build_glue.sh systemd: no initramfs but a root file system of Debian's systemd, systemd.img.
# build_glue.sh network-manager: the same with NetworkManager, network-manager.img.
# The tools are in a small Debian in build/vm/bookworm; nothing is installed on this machine.
set -eu
cd "$(dirname "$0")/../.."
dir=$PWD/build/vm
system=$dir/bookworm
packages=initramfs-tools-core,busybox,dracut-core,dracut-network,systemd,systemd-sysv,udev,dbus,lvm2,cryptsetup-initramfs,iproute2,procps,zstd,ifupdown,isc-dhcp-client
name=$1

# small_debian: once, until another package is wanted; from where this machine has its packages.
small_debian() {
	[ "$(cat "$system/var/packages" 2>/dev/null)" != "$packages" ] || return 0
	rm -rf --one-file-system "$system" "$system.new"
	mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | head -1)
	debootstrap --variant=minbase --include=$packages bookworm "$system.new" "$mirror" || return 1
	cp -r "$dir/debian/lib/modules" "$system.new/lib"
	cp "$dir"/debian/boot/config-* "$system.new/boot"
	chroot "$system.new" depmod "$version"
	echo "$packages" >"$system.new/var/packages"
	mv "$system.new" "$system"
}

exec 9>"$dir/bookworm.lock"
flock 9 # one at a time
version=$(basename "$dir"/debian/lib/modules/*)
small_debian >"$dir/bookworm.log" 2>&1 || {
	tail -5 "$dir/bookworm.log" >&2
	echo "debootstrap has not made a small Debian with: $packages" >&2
	exit 1
}
# debian_program FILE: with the libraries it wants. In the small Debian, /bin and /lib are links into /usr.
debian_program() {
	for file in "$1" $(chroot "$system" ldd "$1" | grep -o '/[^ ]*'); do
		cp -L --parents ".$(chroot "$system" readlink -f "$(dirname "$file")")/${file##*/}" "$dir/udev/d"
	done
}

# network_manager: its packages, and those that it needs and the small Debian has not; once.
network_manager() {
	[ ! -d "$dir/network-manager" ] || return 0
	rm -rf "$dir/packages"
	mkdir -p "$dir/packages/partial"
	apt-get -y -qq --download-only --no-install-recommends -o Debug::NoLocking=1 -o Dir::State::status="$system/var/lib/dpkg/status" \
		-o Dir::Cache::archives="$dir/packages" install network-manager && mv "$dir/packages" "$dir/network-manager"
}

# add_network_manager ROOT: not enabled. With a connection that would take the device and give it another address.
add_network_manager() {
	for package in "$dir"/network-manager/*.deb; do
		dpkg-deb --fsys-tarfile "$package" | tar -C "$1" -x --keep-directory-symlink --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale
	done
	printf '[connection]\nid=other\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=manual\naddress1=10.0.2.77/24\n' >"$1/etc/NetworkManager/system-connections/other.nmconnection"
	chmod 600 "$1/etc/NetworkManager/system-connections/other.nmconnection"
}

# systemd_root IMAGE: small enough to be looked through after each test.
systemd_root() {
	root=$dir/systemd
	rm -rf "$root"
	for d in dev proc sys run tmp root var/log var/lib/dhcp; do
		mkdir -p "$root/$d"
	done
	tar -C "$system" -c --exclude=usr/lib/modules --exclude=usr/lib/udev/hwdb\* --exclude=perl\* --exclude=gconv \
		bin sbin lib lib64 etc usr/bin usr/sbin usr/lib usr/lib64 usr/share/dbus-1 | tar -C "$root" -x
	mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
	touch "$root/var/lib/dpkg/status"
	cp "$dir/boot/tree/build/xnbdbox" "$root/usr/bin"
	ln -sf xnbdbox "$root/usr/bin/xnbd-bgctl"
	cp tests/vm/userland/etc/line "$root/etc"
	cat >"$root/etc/systemd/system/line.service" <<-'END'
		[Unit]
		After=xnbd-parts.service xnbd-journal.service multi-user.target
		[Service]
		ExecStart=/bin/sh /etc/line
		StandardInput=tty
		StandardOutput=tty
		TTYPath=/dev/hvc0
	END
	# A busy host is no error (PATIENCE of machine.py): the kernel's command line cannot tell this one.
	mkdir -p "$root/etc/systemd/system.conf.d"
	printf '[Manager]\nDefaultDeviceTimeoutSec=900\n' >"$root/etc/systemd/system.conf.d/patience.conf"
	# For shutdown.py network and phases.py: systemd-networkd with DHCP, and ifupdown. Each is started only if the kernel's command line wants it.
	printf '[Match]\nName=e*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/dhcp.network"
	rm -f "$root"/etc/systemd/system/*.wants/networking.service
	printf 'auto lo\niface lo inet loopback\n' >"$root/etc/network/interfaces"
	chmod 644 "$root/etc/network/interfaces"
	ln -s ../line.service "$root/etc/systemd/system/multi-user.target.wants"
	ln -s /dev/null "$root/etc/systemd/system/serial-getty@hvc0.service"
	[ "$1" != network-manager ] || add_network_manager "$root"
	rm -f "$dir/$1.img"
	mkfs.ext4 -q -F -b 4096 -J size=4 -d "$root" "$dir/$1.img" 160M
	rm -rf "$root"
}

if [ "$name" = network-manager ]; then
	network_manager >"$dir/network-manager.log" 2>&1 || {
		tail -5 "$dir/network-manager.log" >&2
		echo "the package network-manager could not be had" >&2
		exit 1
	}
fi
case $name in
systemd | network-manager)
	systemd_root "$name"
	exit
	;;
esac
if [ "$name" = udev ]; then
	rm -rf "$dir/udev"
	for d in dev proc sys run mnt tmp etc; do
		mkdir -p "$dir/udev/d/$d"
	done
	cd "$system"
	cp -a bin sbin lib lib64 "$dir/udev/d"
	for program in usr/bin/udevadm usr/sbin/lvm usr/sbin/mkfs.ext4; do
		debian_program "/$program"
	done
	mkdir -p "$dir/udev/d/usr/lib/systemd"
	ln -s /bin/udevadm "$dir/udev/d/usr/lib/systemd/systemd-udevd"
	ln -s lvm "$dir/udev/d/usr/sbin/pvcreate"
	cp -a --parents usr/lib/udev/rules.d etc/passwd etc/group etc/mke2fs.conf etc/lvm/lvm.conf "$dir/udev/d"
	cd "$dir/udev"
	find . | cpio -o -H newc --quiet | cat "$dir/initrd" - >"$dir/udev.initrd"
	exit
fi
# Not again when it would become the same.
tree=$dir/boot/tree # of build_boot.sh: what is installed
sum=$(cat "$0" "$tree"/config/initramfs/* "$tree"/config/initramfs-tools/*/* "$tree"/config/initramfs-tools/*/*/* \
	"$tree"/config/dracut/*/* tests/vm/userland/luks/* \
	"$tree/build/xnbdbox" 2>/dev/null | sha256sum)
[ ! -e "$dir/$name.initrd" ] || [ "$sum" != "$(cat "$dir/$name.sum" 2>/dev/null)" ] || exit 0
rm -f "$dir/$name.sum"
make -s -C "$dir/boot/tree" install DESTDIR="$system"
rm -f "$system/etc/crypttab"
mkdir -p "$system/etc/keys"
cp tests/vm/userland/luks/root.key "$system/etc/keys"
case $name in
initramfs-tools | initramfs-tools-luks)
	if [ "$name" = initramfs-tools-luks ]; then
		cp tests/vm/userland/luks/crypttab "$system/etc"
		echo 'KEYFILE_PATTERN="/etc/keys/*.key"' >"$system/etc/cryptsetup-initramfs/conf-hook"
	fi
	cp -r config/initramfs-tools/* "$system/etc/initramfs-tools"
	echo virtio_console >"$system/etc/initramfs-tools/modules"
	make="mkinitramfs -o /tmp/initrd $version"
	;;
dracut | dracut-systemd | dracut-systemd-luks)
	rm -rf "$system/usr/lib/dracut/modules.d/90xnbd"
	cp -r config/dracut/90xnbd "$system/usr/lib/dracut/modules.d"
	make="dracut --no-hostonly --compress \"zstd -q -1\" --kver $version --add-drivers virtio_console --add xnbd"
	[ "$name" != dracut ] || make="$make --add network-legacy --omit systemd"
	[ "$name" != dracut-systemd-luks ] || make="$make --install /etc/keys/root.key"
	make="$make --force /tmp/initrd"
	;;
*)
	echo "usage: build_glue.sh initramfs-tools|initramfs-tools-luks|dracut|dracut-systemd|dracut-systemd-luks|udev|systemd|network-manager" >&2
	exit 1
	;;
esac
# It looks at /proc, of a machine that has nothing to do with it.
unshare --mount --pid --fork sh -ec "
	mount -t proc proc '$system/proc'
	mount -t tmpfs tmpfs '$system/tmp'
	run() { chroot '$system' env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \"\$@\"; }
	run $make
	mv '$system/tmp/initrd' '$dir/$name.initrd'
	case $name in dracut*)
		run dracut --no-hostonly --no-kernel --no-early-microcode --modules 'base dm shutdown' --kver $version --force /tmp/initrd
		mv '$system/tmp/initrd' '$dir/$name-shutdown.initrd' ;;
	esac"
echo "$sum" >"$dir/$name.sum"
