# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# xnbdbox for Buildroot: make BR2_EXTERNAL=.../config/buildroot menuconfig, "External options".
include $(sort $(wildcard $(BR2_EXTERNAL_XNBDBOX_PATH)/package/*/*.mk))
