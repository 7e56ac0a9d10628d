#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# config/kconfig.sh GOAL MENU: make menuconfig and the like, by the tools of kconfig-frontends or
# by Kconfiglib, whichever is there. $KCONFIG_CONFIG is the configuration; $CONF, $MCONF and $NCONF
# are other tools of the first kind, $PYTHON is another Python.
set -eu
goal=$1
menu=$2
: "${CONF:=kconfig-conf}" "${MCONF:=kconfig-mconf}" "${NCONF:=kconfig-nconf}"
defconfig=$(dirname "$KCONFIG_CONFIG")/defconfig

has() {
	command -v "$1" >/dev/null
}

case $goal in
menuconfig) has "$MCONF" && exec "$MCONF" "$menu" ;;
nconfig) has "$NCONF" && exec "$NCONF" "$menu" ;;
config) has "$CONF" && exec "$CONF" --oldaskconfig "$menu" ;;
savedefconfig) has "$CONF" && exec "$CONF" "--savedefconfig=$defconfig" "$menu" ;;
*) has "$CONF" && exec "$CONF" "--$goal" "$menu" ;;
esac

# The first python3 may be one that is not the distribution's.
for python in ${PYTHON:-python3 /usr/bin/python3}; do
	$python -c 'import kconfiglib' 2>/dev/null || continue
	case $goal in
	menuconfig | nconfig) exec $python -m menuconfig "$menu" ;;
	config | oldconfig) exec $python -m oldconfig "$menu" ;;
	savedefconfig) exec $python -m savedefconfig --kconfig "$menu" --out "$defconfig" ;;
	olddefconfig | allnoconfig | allyesconfig) exec $python -m "$goal" "$menu" ;;
	esac
	echo "make $goal: Kconfiglib has nothing of the kind: install kconfig-frontends" >&2
	exit 1
done
echo "make $goal: install kconfig-frontends or python3-kconfiglib" >&2
exit 1
