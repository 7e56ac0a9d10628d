/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The limit of descriptors, and its shares. */
#include "libbb.h"
#include "reactor/descriptors.h"

#include <limits.h>
#include <sys/resource.h>

static struct rlimit limit = { INT_MAX, INT_MAX };

/* prlimit(2), as musl's setrlimit(2) is 2 KB. */
void descriptors_limit(unsigned most)
{
	limit.rlim_cur = limit.rlim_max < most ? limit.rlim_max : most;
	(void)prlimit(0, RLIMIT_NOFILE, &limit, NULL);
}

void descriptors_begin(void)
{
	(void)prlimit(0, RLIMIT_NOFILE, NULL, &limit);
	descriptors_limit(INT_MAX);
}

bool fd_is_kept(int fd, enum fd_share share)
{
	return (unsigned)fd >= limit.rlim_max / 8 * share;
}

int fd_within(int fd, enum fd_share share)
{
	if (fd < 0 || !fd_is_kept(fd, share))
		return fd;
	close(fd);
	errno = EMFILE;
	return -1;
}
