/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Paths as seen from the root: a daemon leaves its directory. Any thread.
 */
#ifndef STORAGE_PATHS_H
#define STORAGE_PATHS_H

/* path as seen from the root; to be freed. NULL with errno: no memory, or no current
 * directory; x: dies then. */
char *path_absolute(const char *path);
char *xpath_absolute(const char *path);

#endif
