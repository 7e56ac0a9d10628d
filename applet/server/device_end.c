/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The end of a device: removed if nobody uses it, otherwise left. */
#include "libbb.h"
#include "reactor/loop.h"
#include "server/device_nbd.h"

enum { LATE_MS = 10000 }; /* how long an end waits for its child */

static void end_done(struct job *j)
{
	struct device *d = device_of_job(j);

	d->busy = false;
	d->has_ended = true;
	if (d->error)
		bb_error_msg("'%s' cannot be disconnected: %s", d->path, strerror(d->error));
}

static void stay(struct device *d)
{
	timer_clear(&d->again);
	device_child_forget(d);
	d->has_ended = true;
	bb_error_msg("'%s' is in use and is kept: %s", d->path, device_is_ours(d) ? "a server with the same options takes it over" : "disconnect it when it is unused");
}

static void child_late(struct timer *t)
{
	stay(device_of_timer(t));
}

static void child_ended(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct device *d = device_of_child(e);
	char in_use;

	if (safe_read(e->fd, &in_use, 1) == 1) {
		stay(d);
		return;
	}
	timer_clear(&d->again);
	device_child_forget(d);
	device_submit(d, device_disconnect_run, end_done); /* if it is still there, it could not be opened */
}

static void end_child(struct job *j)
{
	struct device *d = device_of_job(j);

	if (d->error) {
		end_done(j);
	} else if (d->is_new && !d->is_scanned) { /* nobody has read anything, and the scan may have no end */
		device_submit(d, device_disconnect_run, end_done);
	} else if (device_child_begin(d, child_ended)) {
		d->busy = false;
		d->again.fire = child_late;
		timer_set(&d->again, loop_now_ms() + LATE_MS);
	} else {
		stay(d);
	}
}

void device_end_begin(struct device *d)
{
	if (d->has_ended)
		return;
	if (d->is_there)
		device_submit(d, device_end_run, end_child);
	else
		d->has_ended = true;
}

void devices_end(bool keep)
{
	struct device *d;

	if (ENABLE_FEATURE_XNBD_SERVER_UBLK)
		ublk_devices_end(keep);

	for (d = devices; d; d = d->next) {
		d->is_ending = true;
		timer_clear(&d->again);
		d->has_ended |= keep;
		if (!d->busy)
			device_end_begin(d);
	}
}

bool devices_have_ended(void)
{
	const struct device *d = devices;

	while (d && d->has_ended)
		d = d->next;
	return !d && (!ENABLE_FEATURE_XNBD_SERVER_UBLK || ublk_devices_have_ended());
}
