/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The file of the boot trace (core/trace.h): written while a disk is used, read at a start. Core's thread;
 * record_open() and prefetch_begin() may block, and are for the start.
 */
#ifndef STORAGE_TRACE_FILE_H
#define STORAGE_TRACE_FILE_H

#include "storage/disk.h"

struct recording;

/* Opens the directory that it is to be written to; path is copied. Dies when it cannot. The result lives to the end. */
struct recording *record_open(const char *path);
/* To be called when the core of d exists: records the requests of clients from now on, behind these runs, as core_record().
 * Dies when there is no memory. */
void record_begin(struct recording *r, struct disk *d, const struct trace_run *run, unsigned runs);
/* To be called when the core of d exists: fetches the blocks of the trace at this path; an error is logged. */
void prefetch_begin(struct disk *d, const char *path);
/* Begins to write what is not written yet; the caller decides how long to wait for that. */
void record_end(struct recording *r);
bool record_is_busy(const struct recording *r);
/* For another program in this process, or from it: what *r records of d (NULL: nothing), and what is prefetched for it. path:
 * as for record_open(), of which the directory is handed over; NULL: nothing is recorded. */
void trace_handover(struct recording **r, struct disk *d, const char *path);

#endif
