/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Paths as seen from the root: a daemon leaves its directory. */
#include "libbb.h"
#include "storage/paths.h"

char *path_absolute(const char *path)
{
	char *cwd, *full;

	if (*path == '/')
		return bb_asprintf("%s", path);
	cwd = getcwd(NULL, 0);
	full = cwd ? bb_asprintf("%s/%s", cwd, path) : NULL;
	free(cwd);
	return full;
}

char *xpath_absolute(const char *path)
{
	char *full = path_absolute(path);

	if (!full)
		bb_perror_msg_and_die("'%s'", path);
	return full;
}
