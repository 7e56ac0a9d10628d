/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* --root-storage: a server that the root file system depends on. */
//config:config FEATURE_XNBD_SERVER_INIT
//config:	bool "--root-storage, and sockets and readiness of systemd (3.0 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	For a server that the root file system depends on; LISTEN_FDS and
//config:	NOTIFY_SOCKET are understood.
#include "libbb.h"
#include "core/ports.h"
#include "server/init.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum {
	HEAP_PIECES = 1024, /* of each size; half of them are free */
	EXTENTS_PIECES = 32,
};

static long set_scheduler(int policy, int priority)
{
	struct sched_param p = { .sched_priority = priority };

	return syscall(SYS_sched_setscheduler, 0, policy, &p); /* musl's does nothing */
}

/* Memory for requests and fetches comes from libc's heap and goes back to it. This makes the heap
 * large enough, and leaves every second piece in use, so that libc gives nothing back to the
 * kernel: to get it again, we might have to wait. */
static void keep_room(size_t bytes, unsigned pieces)
{
	void *piece[HEAP_PIECES];
	unsigned i;

	for (i = 0; i < pieces; i++)
		piece[i] = malloc(bytes);
	for (i = 0; i < pieces; i += 2)
		free(piece[i]);
}

static void grow_heap(void)
{
	unsigned bytes;

	for (bytes = 64; bytes <= 512; bytes += bytes / 4)
		keep_room(bytes, HEAP_PIECES);
	keep_room(sizeof(struct extents) + 512, EXTENTS_PIECES); /* what an origin is asked about extents */
}

void init_root_process(void)
{
	name_storage_daemon();
	xlock_memory();
	/* The kernel then makes no memory for us by writing to our own disk; a setting of each
	 * thread. A failure of this or the next one does not end the server: it works without, only
	 * less safely. */
	if (prctl(X_PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		bb_simple_perror_msg("PR_SET_IO_FLUSHER");
	if (!set_oom_score("-1000"))
		bb_simple_perror_msg("oom_score_adj");
	/* For threads of this kind, the kernel takes what it needs for our sockets and files from a
	 * part of vm.min_free_kbytes that it gives to nobody else. */
	if (set_scheduler(SCHED_RR, 1) < 0)
		bb_simple_perror_msg("SCHED_RR");
}

void init_root_storage(bool again)
{
	if (again) { /* all else belongs to the process, not to its program */
		name_storage_daemon();
		xlock_memory();
	} else {
		init_root_process();
	}
	grow_heap();
}

void init_is_other(void)
{
	set_oom_score("0");
	prctl(X_PR_SET_IO_FLUSHER, 0, 0, 0, 0);
	set_scheduler(SCHED_OTHER, 0);
}
