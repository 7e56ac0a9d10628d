################################################################################
#
# xnbdbox
#
################################################################################

# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The external tree is a part of the source.
XNBDBOX_SITE = $(BR2_EXTERNAL_XNBDBOX_PATH)/../..
XNBDBOX_SITE_METHOD = local
XNBDBOX_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude=/build
XNBDBOX_LICENSE = GPL-2.0-or-later
XNBDBOX_LICENSE_FILES = LICENSE

XNBDBOX_DEFCONFIG_$(BR2_PACKAGE_XNBDBOX_FULL) = $(@D)/config/full_defconfig
XNBDBOX_DEFCONFIG_$(BR2_PACKAGE_XNBDBOX_INITRAMFS) = $(@D)/config/initramfs_defconfig
XNBDBOX_DEFCONFIG_$(BR2_PACKAGE_XNBDBOX_RESCUE) = $(@D)/config/rescue_defconfig
XNBDBOX_DEFCONFIG_$(BR2_PACKAGE_XNBDBOX_BGCTL) = $(@D)/config/bgctl_defconfig
XNBDBOX_DEFCONFIG_$(BR2_PACKAGE_XNBDBOX_BGCTL_MIN) = $(@D)/config/bgctl-min_defconfig
XNBDBOX_DEFCONFIG_$(BR2_PACKAGE_XNBDBOX_CUSTOM) = $(call qstrip,$(BR2_PACKAGE_XNBDBOX_CONFIG))

# Without BR2_SHARED_LIBS there is a static libc.
XNBDBOX_LDFLAGS = $(TARGET_LDFLAGS) -Wl,--gc-sections -lpthread
ifeq ($(BR2_SHARED_LIBS),)
XNBDBOX_LDFLAGS += -static
endif

XNBDBOX_MAKE_OPTS = \
	CC="$(TARGET_CC)" \
	STRIP="$(TARGET_STRIP)" \
	CPPFLAGS="$(TARGET_CPPFLAGS)" \
	CFLAGS="$(TARGET_CFLAGS)" \
	LDFLAGS="$(XNBDBOX_LDFLAGS)"

# A build that was in the source is for another machine.
define XNBDBOX_CONFIGURE_CMDS
	rm -rf $(@D)/build && cp $(XNBDBOX_DEFCONFIG_y) $(@D)/.config
endef

define XNBDBOX_BUILD_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D) $(XNBDBOX_MAKE_OPTS) all
endef

define XNBDBOX_INSTALL_TARGET_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D) $(XNBDBOX_MAKE_OPTS) \
		DESTDIR="$(TARGET_DIR)" install
endef

ifeq ($(BR2_PACKAGE_XNBDBOX_INIT),y)
define XNBDBOX_INSTALL_INIT
	ln -sf usr/share/xnbdbox/init $(TARGET_DIR)/init
endef
XNBDBOX_POST_INSTALL_TARGET_HOOKS += XNBDBOX_INSTALL_INIT
endif

# For --device, xnbd-client and the init.
ifneq ($(BR2_PACKAGE_XNBDBOX_FULL)$(BR2_PACKAGE_XNBDBOX_INITRAMFS),)
define XNBDBOX_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_BLK_DEV)
	$(call KCONFIG_ENABLE_OPT,CONFIG_BLK_DEV_NBD)
endef
endif

$(eval $(generic-package))
