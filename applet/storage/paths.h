/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Paths as seen from the root: a daemon leaves its directory. Any thread.
 */
#ifndef STORAGE_PATHS_H
#define STORAGE_PATHS_H

/* path, made absolute; the caller frees it. NULL with errno: no memory, or no current
 * directory; xpath_absolute() dies instead. */
char *path_absolute(const char *path);
char *xpath_absolute(const char *path);

#endif
