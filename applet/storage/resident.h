/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * --root-storage: files that need no memory while they are used.
 */
#ifndef STORAGE_RESIDENT_H
#define STORAGE_RESIDENT_H

#include "storage/disk.h"

/* As far as the kernel allows it; tells by a message where it does not. When the files of d have been opened; may block.
 * Any thread. */
void resident_files(struct disk *d);
/* d is closed: nothing of its files stays in memory for it. The same. */
void resident_end(struct disk *d);

#endif
