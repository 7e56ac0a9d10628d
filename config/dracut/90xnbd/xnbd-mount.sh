#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Sourced, more than once if need be: mounts the root file system, from the network or from
# the disk that it has moved to.
if getarg xnbd.origin= >/dev/null; then
	modprobe nbd
	[ -s /run/xnbd/root ] || /bin/xnbd-root || die "xnbd: the root file system cannot be had"
	[ -n "$(cat /run/xnbd/root)" ] || die "xnbd: a whole disk, and root= on it: that needs initramfs-tools or mkinitcpio"
	mount -o "${rflags:-defaults}" "$(cat /run/xnbd/root)" "$NEWROOT"
fi
