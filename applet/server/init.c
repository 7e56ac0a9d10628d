/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* --root-storage and --exec. */
//config:config FEATURE_XNBD_SERVER_INIT
//config:	bool "--root-storage, and sockets and readiness of systemd (2.3 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	For a server that the root file system depends on; LISTEN_FDS and
//config:	NOTIFY_SOCKET are understood.
#include "libbb.h"
#include "core/ports.h"
#include "reactor/descriptors.h"
#include "reactor/pool.h"
#include "server/init.h"
#include "server/server.h"

#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/un.h>

enum {
	HEAP_PIECES = 1024, /* of each size; half of them are free */
	EXTENTS_PIECES = 32,
	X_PR_SET_IO_FLUSHER = 57, /* linux/prctl.h, of Linux 5.6 */
};

static bool set_oom_score(const char *text)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	size_t n = strlen(text);
	bool well = fd >= 0 && full_write(fd, text, n) == (ssize_t)n;

	if (fd >= 0)
		close(fd);
	return well;
}

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

void init_root_storage(bool again)
{
	/* systemd leaves a process alone whose name begins so, also when it is about to
	 * unmount everything ("Storage Daemons for the Root File System"). */
	program_invocation_name[0] = '@';
	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		bb_simple_perror_msg_and_die("cannot lock the memory: be root, or raise RLIMIT_MEMLOCK");
	grow_heap();
	if (again) /* all else belongs to the process, not to its program */
		return;
	/* The kernel then makes no memory for us by writing to our own disk; a setting of each
	 * thread. A failure of this or the next one is no reason to end: it works without, only
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

/* The child of vfork(2): it runs in the memory of its parent, one thread of which waits for it. So
 * nothing but system calls. */
static void hook_exec(struct hook *h)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (server_config->exports.root_storage) { /* that was for us */
		set_oom_score("0");
		prctl(X_PR_SET_IO_FLUSHER, 0, 0, 0, 0);
		set_scheduler(SCHED_OTHER, 0);
	}
	close(STDIN_FILENO); /* which may be a client */
	(void)open("/dev/null", O_RDWR);
	descriptors_limit(FD_SETSIZE); /* it may use select(2) */
	execve(h->argv[0], h->argv, h->envp);
	h->error = errno;
}

/* On a worker. After a fork(2) each page that we touch would be copied, which takes memory that
 * there may not be, and locks nothing of it. vfork(2) waits until the program has been read,
 * perhaps from the disk that we serve: so a worker does the waiting. */
static void hook_run(struct job *j)
{
	struct hook *h = (struct hook *)j;
	pid_t pid;

	h->error = 0;
	pid = vfork();
	if (pid == 0) {
		hook_exec(h);
		_exit(127);
	}
	if (pid < 0)
		h->error = errno;
}

static void hook_done(struct job *j)
{
	struct hook *h = (struct hook *)j;

	h->busy = false;
	errno = h->error;
	if (errno)
		bb_perror_msg("cannot run '%s'", h->argv[0]);
}

void init_hook(struct hook *h, char *program, char *image)
{
	static struct serial_queue queue = { .most = 4 }; /* programs that hang before they begin leave workers to others */
	static const char name[] = "XNBD_IMAGE=";
	char **e;
	size_t n;

	for (n = 0; environ[n]; n++)
		;
	h->envp = xzalloc((n + 2) * sizeof(*h->envp));
	for (e = environ, n = 0; *e; e++)
		if (strncmp(*e, name, sizeof(name) - 1) != 0)
			h->envp[n++] = *e;
	h->envp[n] = xasprintf("%s%s", name, image);
	h->argv[0] = program;
	h->argv[1] = image;
	h->job.run = hook_run;
	h->job.done = hook_done;
	h->job.class = JOB_SLOW;
	h->job.queue = &queue;
}

void init_run_hook(struct hook *h)
{
	h->busy = true;
	pool_submit(&h->job);
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void init_handover(struct hook *h)
{
	handover_text(&h->argv[0]);
	handover_text(&h->argv[1]);
	if (handover.reads && h->argv[0])
		init_hook(h, h->argv[0], h->argv[1]);
}
#endif
