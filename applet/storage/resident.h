/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * --root-storage: files that need no memory while they are used.
 */
#ifndef STORAGE_RESIDENT_H
#define STORAGE_RESIDENT_H

#include "storage/disk.h"

/* As far as the kernel allows it; tells by a message where it does not. At the start, when the files of
 * d are open; may block. */
void resident_files(struct disk *d);

#endif
