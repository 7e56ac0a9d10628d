/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Exports as devices of this machine's kernel, /dev/nbdN, by sockets of which the kernel has one end and
 * sessions of this server the other.
 *
 * A lost connection is replaced, so users of the device see no errors. The device outlives a server that is killed: its
 * requests wait until the next server with the same image takes it over. One thread: that of the start, later the
 * loop's; what may block is done by workers.
 */
#ifndef SERVER_DEVICE_H
#define SERVER_DEVICE_H

#include "export/export.h"
#include "reactor/handover.h"

/* A device of the options, and the export that it is to be; both names are kept. Dies with one line when the kernel has
 * no such device, before anything is changed. again: another program in this process has it already, and the path may
 * lead to nothing any more. */
void device_prepare(const char *name, const char *path, unsigned connections, bool again);
/* Connects them, or takes them over; to be followed by turns of the loop until devices_are_ready(). Dies with one line
 * when there is no such export. */
void devices_begin(void);
/* They are there, and so are their partitions, as far as they can be read within some seconds; or one has failed. */
bool devices_are_ready(void);
bool devices_have_failed(void);
/* Dies with one line, which says why that one has; the others are to be ended first. */
void devices_die(void) NORETURN;
/* Removes them, but for those in use, or all if keep is set: they wait for the next server. To be followed by
 * turns of the loop until devices_have_ended(), while sessions go on. */
void devices_end(bool keep);
bool devices_have_ended(void);

/* For another program in this process. There it replaces devices_begin(), behind sessions_handover(). */
void devices_handover(void);

/* ---- for the files of devices ------------------------------------------------------------------------ */

enum {
	DEVICE_TRY_MS = 100,    /* the kernel may not have noticed yet that a connection, or a server, is lost */
	DEVICE_BUSY_MS = 3000,  /* how long a start retries before it assumes that the device belongs to somebody else */
	DEVICE_SCAN_MS = 5000,  /* how long a start waits for partitions: their table may be at the origin, which may be away */
	DEVICE_IDENTIFIER_BYTES = 80,
};

/* device_export.c. The export of this name, held; dies with one line if there is none. */
struct export *device_export(const char *name, const char *path);
/* Of the logical blocks of a device. */
uint32_t device_block_bytes(const struct export *e);
/* An identifier of the image and of how it is served, unique while the machine runs. NULL: the image does not outlive
 * the server. to has room for DEVICE_IDENTIFIER_BYTES. */
const char *device_identify(const struct export *e, unsigned connections, char *to);

/* device_kernel.c, in a child of the server that may come to wait unkillably: fd becomes its descriptor 0, and it has
 * no other. */
void device_child_alone(int fd);

/* device_ublk.c: the same for /dev/ublkbN. */
void ublk_device_prepare(const char *name, const char *path);
void ublk_devices_begin(void);
bool ublk_devices_are_ready(void);
bool ublk_devices_have_failed(void);
void ublk_devices_die(void) NORETURN;
void ublk_devices_end(bool keep);
bool ublk_devices_have_ended(void);
void ublk_devices_handover(void);

#endif
