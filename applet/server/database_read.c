/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* xnbd-wrapper's database, read from its file: by the server, and by xnbd-bgctl --all. */
#include "libbb.h"
#include "server/database_text.h"

char *database_xread(int fd, const char *path, size_t *bytes)
{
	struct stat st;
	char *text;

	if (fstat(fd, &st) < 0)
		bb_perror_msg_and_die("'%s'", path);
	if (!S_ISREG(st.st_mode))
		bb_error_msg_and_die("'%s' is not a regular file", path);
	if (st.st_size > DATABASE_BYTES_MAX)
		bb_error_msg_and_die("'%s' is not a database of xnbd-wrapper: it is larger than 16 MiB", path);
	*bytes = (size_t)st.st_size;
	text = xzalloc(*bytes + 1);
	if (full_read(fd, text, *bytes) != (ssize_t)*bytes)
		bb_perror_msg_and_die("cannot read '%s'", path);
	return text;
}

struct database_image *database_xparse(char *text, size_t n, const char *path)
{
	struct database_error error;
	struct database_image *list;

	if (!n)
		return NULL;
	list = database_parse(text, n, &error);
	if (error.what)
		bb_error_msg_and_die("'%s', line %u, byte %llu: %s", path, error.line, (unsigned long long)error.at, error.what);
	return list;
}
