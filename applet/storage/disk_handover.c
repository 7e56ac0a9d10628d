/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The files of a disk, handed over. */
#include "libbb.h"
#include "storage/disk_handover.h"
#include "storage/files.h"
#include "storage/holes.h"
#include "storage/store.h"

void disk_put(struct handover *h, const struct disk *d)
{
	unsigned i;

	handover_put(h, d->words != NULL);
	handover_put(h, d->words && !core_is_proxy(d->core));
	handover_put(h, core_size_bytes(d->core));
	for (i = 0; i < ARRAY_SIZE(d->fd); i++) {
		handover_put_fd(h, d->fd[i]);
		handover_put_string(h, d->path[i]);
	}
	handover_put_fd(h, d->header_fd);
	handover_put_fd(h, d->direct_fd);
	handover_put(h, d->direct_unit);
}

void disk_get(struct handover *h, struct disk *d)
{
	bool proxy = handover_get_number(h, true);
	unsigned i;

	d->switched = handover_get_number(h, true);
	d->header.size_bytes = handover_get(h);
	for (i = 0; i < ARRAY_SIZE(d->fd); i++) {
		d->fd[i] = handover_get_fd(h);
		d->path[i] = handover_get_string(h);
	}
	d->header_fd = handover_get_fd(h);
	d->direct_fd = handover_get_fd(h);
	d->direct_unit = handover_get_number(h, UINT32_MAX);
	h->bad |= d->fd[FILE_IMAGE] < 0 || (proxy && (d->fd[FILE_BITMAP] < 0 || d->fd[FILE_COMMIT] < 0 || d->header_fd < 0));
	if (h->trial || h->bad)
		return;
	file_is_regular(d, FILE_IMAGE); /* finds out whether it is a device */
	d->holes_known = holes_known(d->fd[FILE_IMAGE]);
	if (proxy)
		store_resume(d);
}
