# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# kconfig-frontends and Kconfiglib make the same of every configuration; without either, what to
# install is told.
set -eu
cd "$(dirname "$0")/../.."
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-kconfig.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM

config/generate kconfig "$T"

# both GOAL: on a copy of $T/start.
both() {
	for tool in kconfig-conf no-such-tool; do
		mkdir -p "$T/$tool"
		cp "$T/start" "$T/$tool/.config"
		yes '' | CONF=$tool KCONFIG_CONFIG=$T/$tool/.config config/kconfig.sh "$1" "$T/Config.in" >"$T/log" 2>&1 || {
			cat "$T/log"
			exit 1
		}
		! grep -i warning "$T/log" || exit 1
		grep CONFIG_ "$T/$tool/.config" >"$T/$tool.txt"
	done
	diff "$T/kconfig-conf.txt" "$T/no-such-tool.txt"
}

for start in full bgctl-min; do
	cp config/${start}_defconfig "$T/start"
	for goal in oldconfig olddefconfig allnoconfig allyesconfig savedefconfig; do
		both $goal
	done
	diff "$T/kconfig-conf/defconfig" "$T/no-such-tool/defconfig"
	# All that is in the file is in the configuration.
	both olddefconfig
	! grep '=y$' config/${start}_defconfig | grep -vxFf "$T/kconfig-conf.txt" || exit 1
done

# make hands over where the configuration is.
make -s "O=$T/out" CONF=no-such-tool allnoconfig >"$T/log"
! grep '=y$' "$T/out/.config" || exit 1

mkdir "$T/bin"
for tool in python3 kconfig-conf; do
	printf '#!/bin/sh\nexit 127\n' >"$T/bin/$tool"
	chmod +x "$T/bin/$tool"
done
ln -s "$(command -v dirname)" "$(command -v sh)" "$T/bin/"
! PYTHON=python3 CONF=no-such-tool PATH=$T/bin KCONFIG_CONFIG=$T/config config/kconfig.sh olddefconfig Kconfig 2>"$T/log" || exit 1
grep -x 'make olddefconfig: install kconfig-frontends or python3-kconfiglib' "$T/log"
