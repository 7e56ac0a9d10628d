/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The files of a disk, for another program in this process: their descriptors, with the locks on them. Paths may no
 * longer be valid, since the root file system may have changed since the start.
 *
 * The core's thread.
 */
#ifndef STORAGE_DISK_HANDOVER_H
#define STORAGE_DISK_HANDOVER_H

#include "reactor/handover.h"
#include "storage/disk.h"

/* Fills in r; nothing of d changes. */
void disk_put(struct handed_disk *r, const struct disk *d);
/* d: from export_new(), with its paths and header.size_bytes. Of a proxy also reads what is local, which is what a
 * start after kill -9 finds: may block. Dies when the files are not what they were. */
void disk_get(const struct handed_disk *r, struct disk *d);

#endif
