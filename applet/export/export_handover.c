/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The exports, for another program in this process. */
#include "libbb.h"
#include "export/export.h"
#include "storage/disk_handover.h"

static void disk_paths_handover(struct export *e)
{
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(e->disk.path); i++)
		handover_text(&e->disk.path[i]);
}

static void export_put(struct export *e)
{
	struct handed_export *r = handover_put(HANDED_EXPORT, e->nbd.name, strlen(e->nbd.name));

	disk_put(&r->disk, &e->disk);
	r->disk.removed = e->removed;
	r->size_bytes = core_size_bytes(e->disk.core);
	r->serial = e->nbd.serial;
	disk_paths_handover(e);
}

/* Those of one file have one open file: see renew.c. */
static void find_twin(struct export *e)
{
	struct export *other = exports;
	struct stat a, b;

	while (other != e && (strcmp(other->nbd.name, e->nbd.name) != 0 || fstat(other->disk.fd[FILE_IMAGE], &a) < 0 ||
			      fstat(e->disk.fd[FILE_IMAGE], &b) < 0 || !is_same_file(&a, &b)))
		other = other->next;
	if (other == e)
		return;
	e->disk.twin = other->disk.twin ? other->disk.twin : &other->disk;
	other->disk.twin = &e->disk;
}

static void export_get(const struct handed_export *r)
{
	struct export *e = export_new(handover.more);

	if (e) {
		export_enlist(e);
		e->nbd.serial = r->serial;
		e->removed = r->disk.removed;
		e->disk.header.size_bytes = r->size_bytes;
		disk_paths_handover(e);
		disk_get(&r->disk, &e->disk);
	}
	if (!e || !export_begin(e, r->size_bytes, true))
		bb_simple_error_msg_and_die("out of memory");
	if (ENABLE_FEATURE_XNBD_SERVER_RENEW)
		find_twin(e);
}

void exports_handover(void)
{
	const struct handed_export *r;
	struct export *e;

	for (e = handover.reads ? NULL : exports; e; e = e->next)
		if (e->users) /* else it has ended, and is being closed */
			export_put(e);
	while (handover.reads && (r = handover_get(HANDED_EXPORT)))
		export_get(r);
	handover_number(&export_next_serial);
}

void exports_got(void)
{
	struct export *e;

	for (e = exports; e; e = e->next)
		if (e->removed && e->users)
			export_drop(e);
}
