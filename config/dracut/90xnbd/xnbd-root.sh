#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Sourced each time that udev has nothing to do, before the root file system is looked for: starts the server, once.
# It waits for devices and for the origin, and meanwhile nothing else of this queue is done, such as what sets up the
# network. Of that, systemd-networkd is no part, and never says that the network is there.
if getarg xnbd.origin= >/dev/null && [ ! -e /run/xnbd/root ]; then
	if [ -e /tmp/xnbd.online ] || getarg xnbd.ip= >/dev/null || command -v networkctl >/dev/null; then
		modprobe nbd
		/bin/xnbd-root || die "xnbd: the root file system cannot be had"
	fi
fi
