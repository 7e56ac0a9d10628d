# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Shell scripts are clean.
set -u
cd "$(dirname "$0")/../.." || exit 1
# 2034, 2154: variables shared between testing.sh and the test files; 2016, 2059:
# commands and formats are handed to testing() as text; 1091: sourced by path.
# dracut's and mkinitcpio's are for bash or ash, and use their variables.
shellcheck -s bash -e SC2034,SC2154 config/dracut/*/*.sh config/mkinitcpio/install/* || exit 1
shellcheck -s dash -e SC2034,SC2154 config/mkinitcpio/hooks/* config/alpine/init || exit 1
exec shellcheck -s sh -e SC1091,SC2016,SC2034,SC2059,SC2154 config/*.sh config/busybox/*.tests tests/*.sh tests/*/*.sh tests/e2e/*.tests tests/interop/*.tests tests/vm/*.tests tests/vm/init tests/vm/userland/etc/line tests/vm/userland/etc/down \
	config/xnbd-migrate config/initramfs/* config/initramfs-tools/hooks/* config/initramfs-tools/scripts/*/* .ci/run
