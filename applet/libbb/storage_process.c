/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A process that the root file system or swap space depends on. */
#include "libbb.h"

#include <sys/mman.h>

void xlock_memory(void)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		bb_simple_perror_msg_and_die("cannot lock the memory: be root, or raise RLIMIT_MEMLOCK");
}

bool set_oom_score(const char *text)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	size_t n = strlen(text);
	bool well = fd >= 0 && full_write(fd, text, n) == (ssize_t)n;

	if (fd >= 0)
		close(fd);
	return well;
}

void name_storage_daemon(void)
{
	program_invocation_name[0] = '@';
}
