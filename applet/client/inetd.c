/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A single client that is already connected, by a socket or by two pipes. */
//config:config FEATURE_XNBD_SERVER_INETD
//config:	bool "--inetd and --connected-fd (1.6 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Serves one client that is connected already, by a socket or by pipes.
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
	PIPE_BYTES = 64 << 10, /* at a time, or what there is */
	DRAIN_MS = 30000,      /* for the last replies to be read */
	POLL_MS = 10,
};

/* Whoever has opened the pipe may have made it one that does not wait. */
static bool write_all(int to, const char *p, ssize_t n)
{
	struct pollfd end = { .fd = to, .events = POLLOUT };

	while (n > 0) {
		ssize_t done = safe_write(to, p, (size_t)n);

		if (done < 0 && errno == EAGAIN)
			done = poll(&end, 1, -1) < 0 ? -1 : 0;
		if (done < 0)
			return false;
		p += done;
		n -= done;
	}
	return true;
}

/* In a process of its own, which forgets the keys: copies until one of the two ends, then shuts down `ours`, which is one
 * of them, as `how` says. Not by splice(2): that keeps a pipe locked while it waits for the other
 * side, so the pipe's other user, who may have to do something about that, cannot be woken. */
static void copy_pipe(int from, int to, int ours, int how, const struct psk *one)
{
	struct pollfd ends[] = { { .fd = from, .events = POLLIN }, { .fd = to } };
	char buf[PIPE_BYTES];
	sigset_t set;
	ssize_t n;

	if (ENABLE_FEATURE_XNBD_TLS)
		psk_forget(one);
	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL); /* SIGPIPE is an error; who ends the server does not end us before its last replies */
	while (poll(ends, 2, -1) > 0 && !ends[1].revents && (n = safe_read(from, buf, sizeof(buf))) > 0 && write_all(to, buf, n))
		;
	shutdown(ours, how);
	_exit(EXIT_SUCCESS);
}

static pid_t to_client; /* the process that copies replies; 0: none */

/* A session reads and writes one descriptor: standard input becomes a socket, and two processes
 * copy between its other end and the pipes. */
static void replace_pipes(const struct psk *one)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		bb_simple_perror_msg_and_die("socketpair");
	if (!xfork()) {
		close(pair[0]);
		copy_pipe(STDIN_FILENO, pair[1], pair[1], SHUT_WR, one);
	}
	to_client = xfork();
	if (!to_client) {
		close(pair[0]);
		copy_pipe(pair[1], STDOUT_FILENO, pair[1], SHUT_RDWR, one);
	}
	dup2(pair[0], STDIN_FILENO);
	close(pair[0]);
	close(pair[1]);
}

void inetd_prepare(int fd, const struct psk *one)
{
	struct stat client, st;
	int i;

	if (fstat(fd, &client) < 0)
		return;
	if (fd == STDIN_FILENO && S_ISFIFO(client.st_mode) && fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode)) {
		replace_pipes(one);
		client = st;
	} else if (!S_ISSOCK(client.st_mode)) {
		return;
	}
	(void)ioctl(fd, FIOCLEX); /* the end of a session is the end of the connection, whatever --exec runs */
	for (i = STDOUT_FILENO; i <= STDERR_FILENO; i++)
		if (fstat(i, &st) == 0 && is_same_file(&client, &st))
			null_fd(i);
}

void inetd_end(void)
{
	const struct timespec step = { .tv_nsec = POLL_MS * 1000000L };
	unsigned tries = DRAIN_MS / POLL_MS;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	while (to_client && getpid() == 1 && tries-- && waitpid(to_client, NULL, WNOHANG) == 0)
		if (sigtimedwait(&set, NULL, &step) > 0) /* blocked: the loop has taken them by signalfd(2) */
			return;
}

void inetd_begin(int fd, struct export *past_handshake)
{
	int type;
	socklen_t n = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0)
		bb_perror_msg_and_die("descriptor %d", fd);
	if (!session_begin(fd, past_handshake))
		bb_error_msg_and_die("descriptor %d cannot be served", fd);
	sessions_turn(); /* greets */
}
