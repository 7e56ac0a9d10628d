# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# For whole_disk*.tests, disks*.tests and proxy_unit.tests.
. "$(dirname "$0")/../e2e/testing.sh"

# glue WHAT...: each is built (build_glue.sh).
glue() {
	for what; do
		sh "$HERE/build_glue.sh" "$what" >build.log 2>&1 || {
			tail -5 build.log
			exit 1
		}
	done
}

# moves INITRAMFS LAYOUT WHAT [WORD...]: see whole_disk.py.
moves() {
	initramfs=$1 layout=$2 contents=$3
	shift 3
	glue "$initramfs" systemd
	testing "$initramfs: a whole disk, $contents: boot, shutdown, copy, switch; then boots from the local disk, without the words and with them" \
		"$PYTHON $HERE/whole_disk.py $initramfs.initrd $layout $* >out 2>&1; tail -1 out" "ok\n"
	cat out
}

# power_cuts INITRAMFS LAYOUT WHAT: see whole_disk_power.py.
power_cuts() {
	glue "$1" systemd
	testing "$1: a whole disk, $3; ${CUTS:-ten} power cuts between boot and switch, and two of the next boots have no origin: what is here boots" \
		"$PYTHON $HERE/whole_disk_power.py $1.initrd $2 ${SEED:-1} >out 2>&1; tail -1 out" "ok\n"
	cat power.log out
}
