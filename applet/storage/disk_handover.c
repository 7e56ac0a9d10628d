/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The files of a disk, handed over. */
#include "libbb.h"
#include "storage/disk_handover.h"
#include "storage/store.h"

enum { HANDED = offsetof(struct disk, direct_unit) + sizeof(uint32_t) - offsetof(struct disk, fd) };

_Static_assert(HANDED == offsetof(struct handed_disk, commit_base) && offsetof(struct disk, header_fd) - offsetof(struct disk, fd) == offsetof(struct handed_disk, header_fd) &&
	       offsetof(struct disk, direct_fd) - offsetof(struct disk, fd) == offsetof(struct handed_disk, direct_fd) &&
	       offsetof(struct disk, cover_fd) - offsetof(struct disk, fd) == offsetof(struct handed_disk, cover_fd) &&
	       offsetof(struct disk, is_device) - offsetof(struct disk, fd) == offsetof(struct handed_disk, is_device) &&
	       offsetof(struct disk, switched) - offsetof(struct disk, fd) == offsetof(struct handed_disk, switched), "as struct handed_disk");

void disk_put(struct handed_disk *r, const struct disk *d)
{
	memcpy(r, (const char *)d + offsetof(struct disk, fd), HANDED);
	r->switched = !core_is_proxy(d->core);
	r->commit_base = d->commit_base;
}

void disk_get(const struct handed_disk *r, struct disk *d)
{
	unsigned i;

	memcpy((char *)d + offsetof(struct disk, fd), r, HANDED);
	d->commit_base = r->commit_base;
	for (i = 0; i < ARRAY_SIZE(d->path); i++)
		if (!d->path[i] && (i == FILE_IMAGE || d->fd[FILE_BITMAP] >= 0))
			handover_die();
	if (d->direct_fd >= 0 && !d->direct_unit)
		handover_die();
	if (d->fd[FILE_BITMAP] >= 0)
		store_resume(d);
}
