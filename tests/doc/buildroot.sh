# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# config/buildroot: its menu can be read, and its package builds and installs for another
# machine. Buildroot is not here: below is what the package uses of it. And those rules of
# its check-package that are easily broken.
set -eu
cd "$(dirname "$0")/../.."
. tests/clone.sh
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
external=$PWD/config/buildroot

cat >"$T/Config.in" <<END
mainmenu "Buildroot"
config BR2_USE_MMU
	def_bool y
config BR2_TOOLCHAIN_HAS_THREADS
	def_bool y
config BR2_TARGET_ROOTFS_CPIO
	def_bool y
config BR2_EXTERNAL_XNBDBOX_PATH
	string
	default "$external"
source "$external/Config.in"
END
cat >"$T/Makefile" <<'END'
include .config
qstrip = $(strip $(subst ",,$(1)))
BR2_EXTERNAL_XNBDBOX_PATH := $(call qstrip,$(BR2_EXTERNAL_XNBDBOX_PATH))
TARGET_DIR = $(CURDIR)/target
TARGET_CC = arm-linux-gnueabihf-gcc
TARGET_STRIP = arm-linux-gnueabihf-strip
TARGET_CFLAGS = -Os
KCONFIG_ENABLE_OPT = echo $(1)=y >>kernel
generic-package =
include $(BR2_EXTERNAL_XNBDBOX_PATH)/external.mk
xnbdbox/.stamp_installed:
	mkdir -p $(@D)
	tar -C $(XNBDBOX_SITE) --exclude=./.git $(patsubst --exclude=/%,--exclude=./%,$(XNBDBOX_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS)) -cf - . | tar -C $(@D) -xf -
	test ! -e $(@D)/build && test -e $(@D)/$(XNBDBOX_LICENSE_FILES)
	mkdir -p $(@D)/build/obj
	touch -d tomorrow $(@D)/build/obj/main.o
	$(XNBDBOX_CONFIGURE_CMDS)
	$(XNBDBOX_BUILD_CMDS)
	$(XNBDBOX_INSTALL_TARGET_CMDS)
	$(foreach hook,$(XNBDBOX_POST_INSTALL_TARGET_HOOKS),$($(hook)))
	$(XNBDBOX_LINUX_CONFIG_FIXUPS)
END

# package LINE...: builds with these lines in Buildroot's configuration.
package() {
	rm -rf "$T/xnbdbox" "$T/target" "$T/kernel"
	printf '%s\n' BR2_PACKAGE_XNBDBOX=y "$@" >"$T/.config"
	(cd "$T" && CONFIG_='' kconfig-conf --olddefconfig Config.in >log 2>&1)
	! grep -i warning "$T/log" || exit 1
	for line; do
		grep -xF "$line" "$T/.config"
	done
	make -s -C "$T" xnbdbox/.stamp_installed >"$T/log" 2>&1 || {
		tail -5 "$T/log"
		exit 1
	}
	readelf -h "$T/target/usr/bin/xnbdbox" | grep 'Machine:.*ARM'
}

package BR2_PACKAGE_XNBDBOX_INITRAMFS=y BR2_PACKAGE_XNBDBOX_INIT=y
cmp config/initramfs_defconfig "$T/xnbdbox/.config"
test -x "$T/target/init"
[ "$(readlink "$T/target/init")" = usr/share/xnbdbox/init ]
grep -x CONFIG_BLK_DEV_NBD=y "$T/kernel"
qemu-arm "$T/target/usr/sbin/xnbd-server" --help 2>&1 | grep -e --root-storage

package BR2_PACKAGE_XNBDBOX_CUSTOM=y "BR2_PACKAGE_XNBDBOX_CONFIG=\"$PWD/config/bgctl_defconfig\""
cmp config/bgctl_defconfig "$T/xnbdbox/.config"
test ! -e "$T/target/usr/sbin/xnbd-server"
test ! -e "$T/kernel"

# make recipes: the same package, of the tarball. Of its mk file, other lines say where the source is.
version=$(sed -n 's/^VERSION := //p' Makefile)
clone "$T/clone"
make -s -C "$T/clone" "O=$T/out" recipes >"$T/log" 2>&1 || {
	tail -20 "$T/log"
	exit 1
}
recipe=$T/out/recipes/buildroot/package/xnbdbox
diff config/buildroot/package/xnbdbox/xnbdbox.mk "$recipe/xnbdbox.mk" | grep '^[<>] [^#]' >"$T/differ"
diff - "$T/differ" <<END
< XNBDBOX_SITE = \$(BR2_EXTERNAL_XNBDBOX_PATH)/../..
< XNBDBOX_SITE_METHOD = local
> XNBDBOX_VERSION = $version
> XNBDBOX_SITE = file://$T/out
END
(
	cp LICENSE "$T/out/"
	cd "$T/out"
	! grep -v '^#' "$recipe/xnbdbox.hash" | grep -vE '^sha256  [0-9a-f]{64}  [^ ]+$' || exit 1
	sed -n 's/^sha256  //p' "$recipe/xnbdbox.hash" | sha256sum -c
	grep -c " xnbdbox-$version.tar.gz\$\| LICENSE\$" "$recipe/xnbdbox.hash" | grep -x 2
)

cd config/buildroot/package/xnbdbox
sed -n 's|^XNBDBOX_DEFCONFIG_.* = \(config.*\)|../../../../\1|p' xnbdbox.mk | xargs ls
sed -n 's|^sha256  \([0-9a-f]*\)  LICENSE$|\1  ../../../../LICENSE|p' xnbdbox.hash | sha256sum -c
! grep -nE '[[:space:]]$' ./* || exit 1
! grep -nE '^	  .{63}' Config.in || exit 1
! grep -nE '^(bool|string|default|depends|select|help|prompt)' Config.in || exit 1
head -1 xnbdbox.mk | grep -E '^#{80}$'
test -z "$(sed -n 6p xnbdbox.mk)"
