/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A copy of an image as it is at one moment, beside it: IMAGE.SECONDS. One at a time. Core's thread;
 * nothing here blocks, a worker copies.
 */
#ifndef STORAGE_SNAPSHOT_H
#define STORAGE_SNAPSHOT_H

#include "storage/disk.h"

/* Begins to copy the image of d; an error, now or later, is logged. Writes to d wait until it is complete, so d has to
 * stay until then. */
void snapshot_begin(struct disk *d);
bool snapshot_is_busy(void);

#endif
