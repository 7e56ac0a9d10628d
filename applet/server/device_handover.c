/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Devices, for another program in the same process. */
#include "libbb.h"
#include "client/client.h"
#include "server/device_nbd.h"

static void device_put(const struct device *d)
{
	struct handed_device *r = handover_put(HANDED_DEVICE, NULL, 0);

	if (d->busy || !d->is_there)
		handover.why = handover_busy;
	r->is_new = d->is_new;
	r->is_scanned = d->is_scanned;
	r->pid = d->pid;
	r->index = d->device.index;
	r->export = d->is_ending ? NO_EXPORT : d->export->nbd.serial; /* not held any more: it was disconnected by somebody else */
}

static void device_get(struct device *d, const struct handed_device *r)
{
	struct export *e = export_by_serial(r->export);

	d->is_new = r->is_new;
	d->is_scanned = r->is_scanned;
	d->is_ending = d->has_ended = !e;
	d->pid = r->pid;
	d->device.index = r->index;
	if (!e)
		return;
	export_hold(e);
	device_describe(d, e);
	device_there(d); /* its partitions may not have been read to the end */
}

/* The process stays, and so do the numbers of its descriptors: they tell whose a session is. */
static void lines_handover(struct device *d)
{
	struct line *l;

	for (l = d->lines; l < d->lines + d->count; l++) {
		uint64_t fd = handover.reads || !l->session ? UINT64_MAX : (unsigned)session_fd(l->session);

		handover_number(&fd);
		if (handover.reads && !d->is_ending && (l->session = session_claim((int)fd)))
			session_tell(l->session, device_line_lost, l);
	}
	if (handover.reads)
		device_lines_fill(d);
}

void devices_handover(void)
{
	struct device *d;

	for (d = devices; d; d = d->next) {
		const struct handed_device *r = handover.reads ? handover_get(HANDED_DEVICE) : NULL;

		if (r)
			device_get(d, r);
		else if (!handover.reads)
			device_put(d);
		lines_handover(d);
	}
	if (ENABLE_FEATURE_XNBD_SERVER_UBLK)
		ublk_devices_handover();
}
