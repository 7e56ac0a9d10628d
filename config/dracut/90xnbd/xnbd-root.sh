#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Sourced each time that udev has nothing to do, before the root file system is looked for: starts the server, once.
# It waits for devices and for the origin, and meanwhile nothing else of this queue is done, such as what sets up the
# network, a logical volume or LUKS.
# xnbd_is_due: nothing of this is missing any more, or the boot has waited long enough. That the network is there,
# systemd-networkd never says, and NetworkManager only if it is.
xnbd_is_due() {
	[ ! -e /tmp/xnbd.late ] || return 0
	[ -e /tmp/xnbd.online ] || [ -e /tmp/nm.done ] || getarg xnbd.ip= >/dev/null || command -v networkctl >/dev/null || return 1
	for _name in cache bitmap; do
		# shellcheck disable=SC1091
		[ -n "$(. /usr/share/xnbdbox/devices && find_device "$(getarg xnbd.$_name=)")" ] || return 1
	done
}
if getarg xnbd.origin= >/dev/null && [ ! -e /run/xnbd/root ] && xnbd_is_due; then
	modprobe nbd
	xnbd_cmdline=$(getcmdline) /bin/xnbd-root || die "xnbd: the root file system is not available"
	if [ -n "$(ls /run/systemd/generator/*.device.d/xnbd.conf 2>/dev/null)" ]; then # of xnbd-generator.sh
		udevadm settle
		systemctl daemon-reload
	fi
	# What root= names is what dracut, or systemd, mounts.
	_root=$(cat /run/xnbd/root)
	if [ -n "$_root" ] && _name=$(getarg root=); then
		udevadm trigger --name-match="$_root"
		udevadm settle
		[ "$(readlink -f "$(label_uuid_to_dev "$_name")")" = "$(readlink -f "$_root")" ] ||
			die "xnbd: root=$_name is not $_root, the file system that moves and is the root itself: remove root="
	fi
fi
