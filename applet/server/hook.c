/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* --exec: the hook, a program that is run when the disk is complete and switched. */
#include "libbb.h"
#include "reactor/descriptors.h"
#include "server/hook.h"
#include "server/init.h"
#include "server/server.h"

#include <signal.h>
#include <sys/select.h>

/* The child of vfork(2): it runs in the memory of its parent, one thread of which waits for it. So
 * nothing but system calls. */
static void hook_exec(struct hook *h)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (server_config->exports.root_storage)
		init_is_other();
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

void hook_init(struct hook *h, char *program, char *image)
{
	static struct serial_queue queue = { .most = SLOW_HOOKS }; /* programs that hang before they begin leave workers to others */
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

void hook_begin(struct hook *h)
{
	h->busy = true;
	pool_submit(&h->job);
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void hook_handover(struct hook *h)
{
	handover_text(&h->argv[0]);
	handover_text(&h->argv[1]);
	if (handover.reads && h->argv[0] && h->argv[1])
		hook_init(h, h->argv[0], h->argv[1]);
}
#endif
