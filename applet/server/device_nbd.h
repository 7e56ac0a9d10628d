/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A device /dev/nbdN, for its files: device.c has its start and its connections, device_kernel.c the calls that may
 * block, device_end.c its end, device_handover.c the handover to another program.
 *
 * The core's thread, but for what a worker runs.
 */
#ifndef SERVER_DEVICE_NBD_H
#define SERVER_DEVICE_NBD_H

#include "device/kernel_nbd.h"
#include "device/ublk.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/device.h"

/* A connection of a device. */
struct line {
	struct device *owner;
	struct session *session; /* NULL: lost */
	int ours, kernels;       /* the ends of a socket pair, while they are handed over; else -1 */
};

struct device {
	const char *name, *path; /* of the export, of the device */
	struct device *next;
	struct kernel_nbd_device device;
	char identifier[DEVICE_IDENTIFIER_BYTES];
	struct export *export;
	unsigned count; /* of lines */
	struct line lines[KERNEL_NBD_CONNECTIONS_MAX];
	struct timer again;
	struct event child; /* a process that has the device open; fd -1: there is none */
	uint64_t begun_ms;
	unsigned pid; /* whoever has connected it, as the kernel says: another one has another device */
	bool is_there, is_scanned, is_ending, has_ended;
	bool is_disconnected; /* disconnected by somebody else, although it may still be open */
	bool is_new; /* it was not taken over: whoever opens it waits for the scan */

	struct job job;
	bool busy; /* job is under way */
	int error; /* of job */
};

extern struct device *devices;
extern struct kernel_nbd device_kernel; /* for one job at a time */

static inline struct device *device_of_job(struct job *j)
{
	return container_of(j, struct device, job);
}

static inline struct device *device_of_child(struct event *e)
{
	return container_of(e, struct device, child);
}

static inline struct device *device_of_timer(struct timer *t)
{
	return container_of(t, struct device, again);
}

/* ---- device.c ---------------------------------------------------------------------------------- */

/* Has a worker run it. */
void device_submit(struct device *d, void (*run)(struct job *), void (*done)(struct job *));
/* What d is to be: of the export e, which is held. */
void device_describe(struct device *d, struct export *e);
/* A new pair of sockets for each line that is lost. */
void device_lines_fill(struct device *d);
/* To be called at the end of the session of this line. */
void device_line_lost(void *line);
/* It is connected: waits for its partitions. */
void device_there(struct device *d);

/* ---- device_kernel.c ----------------------------------------------------------------------------- */

/* Whether the device that is connected already serves what we serve. May block. */
bool device_is_ours(const struct device *d);
/* Whether the device is still connected, and by us. */
bool device_has_stayed(const struct device *d);
/* Jobs; d->error tells what has come of them. */
void device_connect_run(struct job *j);
void device_end_run(struct job *j);
void device_disconnect_run(struct job *j);
/* ready() is called when the process that opens the device has reported, or ended. False: there is none. */
bool device_child_begin(struct device *d, void (*ready)(struct event *e, uint32_t events));
void device_child_forget(struct device *d);

/* ---- device_end.c -------------------------------------------------------------------------------- */

/* With no job under way. */
void device_end_begin(struct device *d);

#endif
