# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make recipes: the Makefile for OpenWrt names the tarball, builds it and installs it for another machine.
# OpenWrt is not here: below is what the Makefile uses of it.
set -eu
cd "$(dirname "$0")/../.."
. tests/clone.sh
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-openwrt.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
clone "$T/clone"
make -s -C "$T/clone" "O=$T/out" recipes >"$T/log" 2>&1 || {
	tail -20 "$T/log"
	exit 1
}
mkdir "$T/openwrt" "$T/build" "$T/root"
cp "$T/out/recipes/openwrt"/* "$T/openwrt/"
cat >"$T/rules.mk" <<'END'
TARGET_CC = arm-linux-gnueabihf-gcc
TARGET_CFLAGS = -Os -pipe
TARGET_CPPFLAGS = -I/nowhere
TARGET_LDFLAGS = -L/nowhere -znow -zrelro
CP := cp -fpR
PKG_JOBS = -j2
END
cat >"$T/package.mk" <<'END'
PKG_BUILD_DIR := $(TOPDIR)/build/$(PKG_NAME)-$(PKG_VERSION)
# As Build/Prepare does of a PKG_SOURCE, which it looks for in all directories there: it takes one, but not one of several.
define BuildPackage
$(eval $(Package/$(1)))
.PHONY: compile install
compile:
	find $(patsubst file://%,%,$(PKG_SOURCE_URL)) -follow -name $(PKG_SOURCE) >$(TOPDIR)/found
	test $$$$(wc -l <$(TOPDIR)/found) = 1 && cp $$$$(cat $(TOPDIR)/found) $(TOPDIR)/build/
	echo '$(PKG_HASH)  $(TOPDIR)/build/$(PKG_SOURCE)' | sha256sum -c
	tar -C $(TOPDIR)/build -xf $(TOPDIR)/build/$(PKG_SOURCE)
	test -e $(PKG_BUILD_DIR)/$(PKG_LICENSE_FILES)
$(call Build/Configure)
$(call Build/Compile)
install:
$(call Package/$(1)/install,$(TOPDIR)/root)
show:
	@echo '$(SECTION) $(CATEGORY) $(DEPENDS)'
endef
END
for goal in compile install; do
	make -s -C "$T/openwrt" "TOPDIR=$T" "INCLUDE_DIR=$T" $goal >"$T/log" 2>&1 || {
		tail -20 "$T/log"
		exit 1
	}
done
make -s -C "$T/openwrt" "TOPDIR=$T" "INCLUDE_DIR=$T" show | grep -x 'net Network +libpthread'
! grep -E '@[A-Z0-9]*@|[[:space:]]$' "$T/openwrt/Makefile" || exit 1
cd "$T/root"
find . ! -type d | sort >"$T/list"
diff - "$T/list" <<'END'
./usr/bin/xnbd-bgctl
./usr/bin/xnbdbox
./usr/sbin/xnbd-client
./usr/sbin/xnbd-server
./usr/sbin/xnbd-watchdog
./usr/sbin/xnbd-wrapper
./usr/sbin/xnbd-wrapper-ctl
END
readelf -hl usr/bin/xnbdbox >"$T/elf"
grep 'Machine:.*ARM' "$T/elf"
grep INTERP "$T/elf"
qemu-arm -L /usr/arm-linux-gnueabihf usr/bin/xnbdbox xnbd-server --version
