/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The switch of a disk from a proxy's to a target's: the core's port_switch(), and the steps that follow it. Between the
 * files of this room. The core's thread; nothing here blocks.
 */
#ifndef STORAGE_DISK_SWITCH_H
#define STORAGE_DISK_SWITCH_H

#include "storage/disk.h"

/* Records a switch, whose cover is gone and d->switching.complete set, in both copies of the header; then calls
 * disk_switch_end(). */
void disk_switch_record(struct disk *d);
/* For header.c: a header has been saved, or not (d->save.error). */
void disk_switch_saved(struct disk *d);
/* Tells the core of d->switching.error. */
void disk_switch_end(struct disk *d);

#endif
