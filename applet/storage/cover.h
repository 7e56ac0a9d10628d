/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * --cover: until the switch, nothing that looks for disks finds the one that is half copied.
 *
 * Everything that identifies a disk is at its ends: partition tables, and the superblocks, labels and headers of file
 * systems, LVM, RAID, encryption and swap. So the ends of a disk that is covered are in the commit file (core/state.h
 * has the places), and those of the image are zeroes, but for a mark of one sector. The commit file also says which
 * blocks are local, so the two cannot be separated: state_header.cover has the number of the cover, and the mark has
 * the same number. The header is also what the switch changes: the image has its ends, durably, before that record says
 * so.
 *
 * Of all signatures that libblkid (util-linux 2.41) knows, those furthest from the beginning are the last possible
 * second header of LUKS2, at 4 MiB with up to 4 MiB of JSON, and VMFS and bcachefs at 2 MiB; and the furthest from the
 * end are Promise's RAID with 3087 sectors, and ZFS and bcachefs with 1 MiB. Partitions inside are not found without
 * their table.
 *
 * So the data of the image may be in either file: all reads and writes of the image must ask these functions. Offsets
 * and lengths are bytes.
 */
#ifndef STORAGE_COVER_H
#define STORAGE_COVER_H

#include "storage/disk.h"

/* Any thread. False after a switch, and then for good. */
static inline bool cover_is_on(const struct disk *d)
{
	return ENABLE_FEATURE_XNBD_SERVER_COVER && d->covered;
}

/* As cover_place(), of the disk as it is now, and in the descriptor of cover_fd(): where it is not covered, all is in the image.
 * Any thread; but who asks of bytes that may be written has to hold a range of them, for the answer to last. */
uint64_t cover_part(const struct disk *d, uint64_t offset, uint64_t *n);
bool cover_touches(const struct disk *d, uint64_t offset, uint64_t n);
/* The descriptor for n bytes at `offset` of the commit file, which are of the cover. Any thread. */
int cover_fd(const struct disk *d, const void *buf, uint64_t n, uint64_t offset);

/* The number of the mark on the image, or 0. At a start; may block. */
uint64_t cover_mark(const struct disk *d);
/* At a start: copies the ends of an image of have_bytes into the commit file, and syncs it. The image is not covered
 * yet. 0 or errno; may block. */
int cover_copy(struct disk *d, uint64_t size_bytes, uint64_t have_bytes);
/* At a start: writes the whole cover again, as it is read: after a sync that failed, and was told to a server that is no more,
 * it may not be on the disk, and never would be. It is synced with the header. 0 or errno; may block. */
int cover_rewrite(struct disk *d);
/* Memory for the next one, and for the switch. At a start, also after an upgrade. False: there is none. */
bool cover_reserve(struct disk *d);
/* When the header says, durably, that the image is covered: zeroes its ends, and marks it. known: unless they are so;
 * else a sync may have failed, and they look so in memory only. 0 or errno. A start, or a worker; may block. */
int cover_hide(struct disk *d, bool known);
/* Before a new header that has another number, or none: no mark, durably. 0 or errno. At a start; may block. */
int cover_unmark(struct disk *d);
/* For disk_switch.c: has a worker copy the ends into the image, then calls disk_switch_record(), or disk_switch_end() with
 * d->switching.error, after cover_again(). Core's thread. */
void cover_lift(struct disk *d);
/* ... hide them again, as the header says, durably, that there is a cover; then calls disk_switch_end(). */
void cover_again(struct disk *d);

#endif
