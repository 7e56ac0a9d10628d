/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What a device of the kernel, of either kind, has of its export: size, sectors, identity. */
#include "libbb.h"
#include "server/device.h"
#include "storage/identity.h"

struct export *device_export(const char *name, const char *path)
{
	struct export *e = export_find(name, strlen(name));
	unsigned rest;

	if (!e)
		bb_error_msg_and_die("'%s' cannot be the device of '%s': there is no such export", path, name);
	rest = (unsigned)(e->nbd.size_bytes % 512);
	if (rest)
		bb_error_msg("'%s' lacks the last %u bytes of the disk: a device has 512-byte sectors", path, rest);
	export_hold(e); /* it may be removed, and its session's last connection lost */
	return e;
}

/* The smallest that the kernel has, or --sector-size. */
uint32_t device_block_bytes(const struct export *e)
{
	return ENABLE_FEATURE_XNBD_SERVER_SECTORS && e->nbd.min_block > 512 ? e->nbd.min_block : 512;
}

/* What --cow-target serves is gone with its server. */
const char *device_identify(const struct export *e, unsigned connections, char *to)
{
	if (e->disk.base_fd >= 0)
		return NULL;
	snprintf(to, DEVICE_IDENTIFIER_BYTES, "xnbd %llx %llu %s%s%s%u", (unsigned long long)identity_now(e->disk.fd[FILE_IMAGE]),
		 (unsigned long long)e->nbd.size_bytes, e->disk.words ? "proxy " : "",
		 e->nbd.transmission_flags & NBD_FLAG_READ_ONLY ? "readonly " : "",
		 device_block_bytes(e) > 512 ? "sectors " : "", connections);
	return to;
}
