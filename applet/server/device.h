/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The export as a device of this machine's kernel, /dev/nbdN, by sockets of which the kernel has one
 * end and sessions of this server the other.
 *
 * A connection that is lost is replaced, so the device has no errors. It outlives a server that is
 * killed: what it asks for waits until the next one, with the same image, takes it over. One thread: that of
 * the start, later the loop's; what may block is done by workers.
 */
#ifndef SERVER_DEVICE_H
#define SERVER_DEVICE_H

#include "export/export.h"

/* The device of the options. Dies with one line when the kernel has none such, before anything is changed. */
void device_prepare(const char *path, unsigned connections);
/* Connects it, or takes it over; to be followed by turns of the loop until device_is_ready(). e must not be
 * removed. Dies with one line, later, when that cannot be. */
void device_begin(struct export *e);
/* It is there, and so are its partitions, as far as they can be read within some seconds. */
bool device_is_ready(void);
/* Removes it, unless it is in use or keep is set: then it waits for the next server. To be followed by turns of
 * the loop until device_has_ended(), while sessions go on. */
void device_end(bool keep);
bool device_has_ended(void);

#endif
