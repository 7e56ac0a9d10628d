/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Paths that the process removes at its end: sockets, the pid file, and what a start has created that
 * then failed. path_own() and paths_disown(): any thread; the others: that of the start, later the loop's.
 */
#ifndef STORAGE_OWN_PATHS_H
#define STORAGE_OWN_PATHS_H

#include "reactor/handover.h"

#include <stdbool.h>

/* Registers this path (copied) of an existing file for removal at the server's exit, unless it is killed. owner: for
 * paths_disown(); NULL: the process. unless_ready: only if it ends before it serves, so that a failed start leaves
 * nothing. Dies when there is no memory. */
void path_own(const void *owner, const char *path, bool unless_ready);

/* Unregisters the paths of this owner. remove: they are removed now, unless another file has replaced them. Never those
 * of another owner, whatever their names. */
void paths_disown(const void *owner, bool remove);

/* At the end: removes them, where no other file has come in their place. ready: clients could connect. */
void paths_remove(bool ready);

/* For another program in this process, which then removes them at its end. There all belong to the process, until
 * paths_give() tells that one, an absolute path, is this owner's. */
void paths_handover(void);
void paths_give(const void *owner, const char *path);

#endif
