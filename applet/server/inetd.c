/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One client that is there already: on a socket, or behind two pipes. */
#include "libbb.h"
#include "server/server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { PIPE_BYTES = 1 << 20 }; /* at a time, or what there is */

/* A process of its own: until one of the two ends. Then `ours`, which is one of them, ends this way. */
static void copy_pipe(int from, int to, int ours, int how)
{
	struct pollfd ends[] = { { .fd = from, .events = POLLIN }, { .fd = to } };
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL); /* SIGPIPE is an error; who ends the server does not end us before its last replies */
	while (poll(ends, 2, -1) > 0 && !ends[1].revents && splice(from, NULL, to, NULL, PIPE_BYTES, 0) > 0)
		;
	shutdown(ours, how);
	_exit(EXIT_SUCCESS);
}

/* A session reads and writes one descriptor: standard input becomes a socket, and two processes
 * copy between its other end and the pipes. */
static void replace_pipes(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		bb_simple_perror_msg_and_die("socketpair");
	if (!xfork()) {
		close(pair[0]);
		copy_pipe(STDIN_FILENO, pair[1], pair[1], SHUT_WR);
	}
	if (!xfork()) {
		close(pair[0]);
		copy_pipe(pair[1], STDOUT_FILENO, pair[1], SHUT_RDWR);
	}
	dup2(pair[0], STDIN_FILENO);
	dup2(pair[0], STDOUT_FILENO);
	close(pair[0]);
	close(pair[1]);
}

void inetd_prepare(int fd)
{
	struct stat client, out, messages;
	int null;

	if (fstat(fd, &client) < 0 || fstat(STDOUT_FILENO, &out) < 0 || fstat(STDERR_FILENO, &messages) < 0)
		return;
	if (fd == STDIN_FILENO && S_ISFIFO(client.st_mode) && S_ISFIFO(out.st_mode)) {
		replace_pipes();
		client = out;
	}
	if ((!S_ISSOCK(client.st_mode) && !S_ISFIFO(client.st_mode)) || client.st_dev != messages.st_dev || client.st_ino != messages.st_ino)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDERR_FILENO);
	close(null);
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
