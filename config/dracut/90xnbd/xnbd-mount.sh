#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Sourced, more than once if need be: mounts the root file system, from the network or from the disk that it
# has moved to. What root= names on a whole disk is left to dracut, or to systemd.
if [ -s /run/xnbd/root ] && [ -n "$(cat /run/xnbd/root)" ]; then
	mount -o "${rflags:-defaults}" "$(cat /run/xnbd/root)" "$NEWROOT"
fi
