/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The switch of a disk: its ends go to the image, if they are covered (cover.c), then the switch is recorded.
 *
 * It is recorded in both copies of the header, so that the older one does not say otherwise if the newer one is damaged
 * later. If the first record failed, it may be on the disk or not. Nothing is written to the image or the cover before
 * another header says that there was no switch, or has failed, too.
 */
#include "libbb.h"
#include "storage/cover.h"
#include "storage/disk_switch.h"
#include "storage/header.h"

/* Behind the disk's end the space is its owner's from now on: nobody writes there any more. Only if the older header still says
 * that the disk is covered, the end of the server overwrites it. */
static void leave_commit_file(struct disk *d)
{
	if (!commit_is_behind(d) || !d->header.switched || d->save.error)
		return;
	close(d->header_fd);
	d->header_fd = -1;
}

void disk_switch_end(struct disk *d)
{
	d->switching.step = SWITCH_NONE;
	core_switched(d->core, d->switching.error);
}

void disk_switch_record(struct disk *d)
{
	d->switching.step = SWITCH_RECORDS;
	d->switching.error = 0;
	d->switching.cover = d->header.cover;
	d->header.cover = 0;
	d->header.switched = d->switching.complete;
	header_save(d);
}

void disk_switch_saved(struct disk *d)
{
	if (d->save.header.cover != d->header.cover || d->save.header.switched != d->header.switched)
		return; /* that was one from before */
	if (d->switching.step == SWITCH_RECORDS && d->save.error) {
		d->switching.step = SWITCH_REVERTS;
		d->switching.error = d->save.error;
		d->header.cover = d->switching.cover;
		d->header.switched = 0;
		d->header.boot_id[0] = '\0'; /* as header_tick() */
		header_save(d);
	} else if (d->switching.step == SWITCH_RECORDS) {
		d->switching.step = SWITCH_REPEATS;
		header_save(d);
	} else if (d->switching.step == SWITCH_REPEATS) { /* even if that failed: the first says so */
		d->covered = false;
		leave_commit_file(d);
		disk_switch_end(d);
	} else if (d->switching.step == SWITCH_REVERTS) {
		/* If that failed, the next start may find that there is none: then the image has to have its ends. */
		if (cover_is_on(d) && !d->save.error)
			cover_again(d);
		else
			disk_switch_end(d);
	}
}

void port_switch(struct core *c, bool complete)
{
	struct disk *d = disk_of(c);

	d->switching.complete = complete;
	if (cover_is_on(d))
		cover_lift(d);
	else
		disk_switch_record(d);
}
