/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The exports, for another program in this process. */
#include "libbb.h"
#include "export/export.h"
#include "storage/disk_handover.h"

const char *exports_put(struct handover *h)
{
	const struct export *e;

	if (export_config.cow)
		return "what --cow-target has written cannot be handed over";
	for (e = exports; e; e = e->next) {
		if (!e->users) /* it has ended, and is being closed */
			continue;
		handover_put(h, true);
		handover_put_string(h, e->nbd.name);
		handover_put(h, e->serial);
		handover_put(h, e->removed);
		disk_put(h, &e->disk);
	}
	handover_put(h, false);
	handover_put(h, export_next_serial);
	return NULL;
}

static void export_get(struct handover *h)
{
	char *name = handover_get_string(h);
	uint64_t serial = handover_get(h);
	bool removed = handover_get_number(h, true);
	struct export *e = export_new(name ? name : "");

	if (!e)
		bb_simple_error_msg_and_die("out of memory");
	free(name);
	export_enlist(e);
	e->serial = serial;
	e->removed = removed;
	disk_get(h, &e->disk);
	if (!h->trial && !h->bad && !export_begin(e, e->disk.header.size_bytes, true))
		bb_simple_error_msg_and_die("out of memory");
}

void exports_get(struct handover *h)
{
	while (handover_get_number(h, true))
		export_get(h);
	export_next_serial = handover_get(h);
}

void exports_got(void)
{
	struct export *e;

	for (e = exports; e; e = e->next)
		if (e->removed && e->users)
			export_drop(e);
}
