/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Exports as devices of this machine's kernel, /dev/nbdN, by sockets of which the kernel has one end and
 * sessions of this server the other.
 *
 * A connection that is lost is replaced, so a device has no errors. It outlives a server that is
 * killed: what it asks for waits until the next one, with the same image, takes it over. One thread: that of
 * the start, later the loop's; what may block is done by workers.
 */
#ifndef SERVER_DEVICE_H
#define SERVER_DEVICE_H

#include "export/export.h"

/* A device of the options, and the export that it is to be; both names are kept. Dies with one line when the kernel
 * has no such device, before anything is changed. */
void device_prepare(const char *name, const char *path, unsigned connections);
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

#endif
