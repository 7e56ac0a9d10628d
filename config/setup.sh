#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# config/setup.sh build|demo|lint|check|check_all|check_unit|check_vm|bench: what that needs is installed, on Debian
# and as root; anywhere else, the one line that would do it is printed.
set -eu

missing=

# need PACKAGE COMMAND...: the command tells whether the package is there.
need() {
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

has() {
	PATH=$PATH:/usr/sbin:/sbin command -v "$1"
}

# clang's libFuzzer
has_fuzzer() {
	test -e "$(clang -print-resource-dir)/lib/linux/libclang_rt.fuzzer-$(uname -m).a"
}

build() {
	need gcc has gcc
	need make has make
	need binutils has strip
	need musl-tools has musl-gcc
}

demo() {
	build
	need e2fsprogs has mkfs.ext4
	need libnbd-bin has nbdcopy
	need python3-libnbd /usr/bin/python3 -c 'import nbd'
}

lint() {
	build
	need clang-tidy has clang-tidy
	need cppcheck has cppcheck
	need libc6-dev test -e /usr/include/stdio.h
	need pyflakes3 has pyflakes3
	need shellcheck has shellcheck
}

check_unit() {
	build
	need libc6-dev test -e /usr/include/stdio.h
	need clang has clang
	need libclang-rt-14-dev has_fuzzer
	need mandoc has mandoc
	need shellcheck has shellcheck
}

check() {
	demo
	lint
	check_unit
	need busybox has busybox
	need ccache has ccache
	need diffutils has cmp
	need file has file # nbdinfo asks it
	need fio has fio
	need git has git
	need gnutls-bin has gnutls-serv
	need kconfig-frontends has kconfig-conf
	need python3-kconfiglib /usr/bin/python3 -c "import kconfiglib"
	need iproute2 has ip
	need nbd-client has nbd-client
	need nbd-server has nbd-server
	need nbdkit has nbdkit
	need openssl has openssl
	need procps has ps
	need prometheus has promtool
	need qemu-system-common has qemu-storage-daemon
	need qemu-utils has qemu-io
	need socat has socat
	need strace has strace
	need systemd has systemd-analyze
	need bsdutils has script
	need util-linux has setpriv
	need mount has losetup
	need valgrind test -e /usr/include/valgrind/memcheck.h
}

check_all() {
	check
	check_vm
	need debhelper has dh
	need dpkg-dev has dpkg-buildpackage
	need gnuplot-nox has gnuplot
	need gcc-arm-linux-gnueabihf has arm-linux-gnueabihf-gcc
	need libc6-dev-armhf-cross test -e /usr/arm-linux-gnueabihf/include/stdio.h
	need gcc-s390x-linux-gnu has s390x-linux-gnu-gcc
	need libc6-dev-s390x-cross test -e /usr/s390x-linux-gnu/include/stdio.h
	need gcc-powerpc-linux-gnu has powerpc-linux-gnu-gcc
	need libc6-dev-powerpc-cross test -e /usr/powerpc-linux-gnu/include/stdio.h
	need qemu-user has qemu-s390x
	need lintian has lintian
}

bench() {
	demo
	need fio has fio
	need gnuplot-nox has gnuplot
	need libc6-dev test -e /usr/include/stdio.h
	need nbd-server has nbd-server
	need nbdkit has nbdkit
	need qemu-utils has qemu-nbd
}

check_vm() {
	demo
	need bzip2 has bzip2 # BusyBox's source
	need cpio has cpio
	need debootstrap has debootstrap
	need dmsetup has dmsetup
	need dosfstools has mkfs.vfat
	need efibootmgr has efibootmgr
	need fio has fio
	need gdisk has sgdisk
	need grub-efi-amd64-bin test -e /usr/lib/grub/x86_64-efi
	need grub-pc-bin test -e /usr/lib/grub/i386-pc
	need grub2-common has grub-install
	need mtools has mdeltree
	need nbd-client has nbd-client
	need nbdkit has nbdkit
	need ovmf test -e /usr/share/OVMF/OVMF_CODE_4M.fd
	need qemu-system-x86 has qemu-system-x86_64
	need socat has socat
	need util-linux has setpriv
}

case ${1-} in
build | demo | lint | check | check_all | check_unit | check_vm | bench) "$1" ;;
*)
	echo "usage: config/setup.sh build|demo|lint|check|check_all|check_unit|check_vm|bench" >&2
	exit 1
	;;
esac
[ -n "$missing" ] || exit 0

line="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" != 0 ] || ! has apt-get >/dev/null; then
	echo "what is missing, as root: $line" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# Package lists may be absent, or too old to be of use.
$line >"$log" 2>&1 || { apt-get update && $line; } >"$log" 2>&1 || {
	tail -20 "$log" >&2
	echo "this failed: $line" >&2
	exit 1
}
rm -f "$log"
