/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Where a file has holes. One policy for all callers: what is unknown or unreliable counts as data. Any thread; all of
 * it may block.
 *
 * ext4 before Linux 4.12 could report data that was not written back yet as a hole: callers that can wait sync first.
 */
#ifndef STORAGE_HOLES_H
#define STORAGE_HOLES_H

#include <stdbool.h>
#include <stdint.h>

/* Whether the file system is believed: to be asked once per descriptor, and passed below as `known`. */
bool holes_known(int fd);
/* The first byte of data at or behind the offset; UINT64_MAX: only a hole is left. */
uint64_t holes_data(int fd, bool known, uint64_t offset);
/* The end of the data at the offset: at or behind it; UINT64_MAX: nobody knows. */
uint64_t holes_data_end(int fd, bool known, uint64_t offset);

#endif
