#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced: the root file system, from the network or from the disk it has moved to.
if [ "$root" = xnbd ]; then
	modprobe nbd
	/bin/xnbd-root || die "xnbd: the root file system cannot be had"
	mount "$(cat /run/xnbd/root)" "$NEWROOT"
fi
