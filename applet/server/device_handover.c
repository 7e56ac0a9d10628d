/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Devices, for another program in the same process. */
#include "libbb.h"
#include "client/client.h"
#include "server/device_nbd.h"

static void device_put(const struct device *d)
{
	struct handed_device *r = handover_put(HANDED_DEVICE, NULL, 0);
	const struct device *other;

	if (d->busy || !d->is_there)
		handover.why = handover_busy;
	for (other = d->next; other; other = other->next) /* sessions are found by their export */
		if (other->export == d->export)
			handover.why = "one export has two devices";
	r->is_new = d->is_new;
	r->is_scanned = d->is_scanned;
	r->pid = d->pid;
	r->index = d->device.index;
	r->export = d->is_ending ? NO_EXPORT : d->export->nbd.serial; /* not held any more: it was disconnected by somebody else */
}

static void device_get(struct device *d, const struct handed_device *r)
{
	struct export *e = export_by_serial(r->export);
	struct line *l;

	d->is_new = r->is_new;
	d->is_scanned = r->is_scanned;
	d->is_ending = d->has_ended = !e;
	d->pid = r->pid;
	d->device.index = r->index;
	if (!e)
		return;
	for (l = d->lines; l < d->lines + d->count && (l->session = session_claim(e)); l++)
		session_tell(l->session, device_line_lost, l);
	export_hold(e);
	device_describe(d, e);
	device_there(d); /* its partitions may not have been read to the end */
	device_lines_fill(d);
}

void devices_handover(void)
{
	struct device *d;

	if (ENABLE_FEATURE_XNBD_SERVER_UBLK && ublk_devices_are_there())
		handover.why = "/dev/ublkbN cannot be handed over: see --keep-device";
	for (d = devices; d; d = d->next) {
		const struct handed_device *r = handover.reads ? handover_get(HANDED_DEVICE) : NULL;

		if (r)
			device_get(d, r);
		else if (!handover.reads)
			device_put(d);
	}
}
