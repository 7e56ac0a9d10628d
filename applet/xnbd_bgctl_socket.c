/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* xnbd-bgctl: the control socket. */
//kbuild:lib-$(CONFIG_XNBD_BGCTL) += xnbd_bgctl_socket.o
#include "libbb.h"
#include "xnbd_bgctl.h"

#include <sys/time.h>
#include <sys/un.h>

static void NORETURN die_silent(const char *path)
{
	if (errno == EAGAIN)
		errno = ETIMEDOUT;
	bb_perror_msg_and_die("%s: no answer", path);
}

/* What a failed connect means for the one who called. */
static void NORETURN die_unreachable(const char *path)
{
	struct stat st;

	if (ENABLE_FEATURE_XNBD_BGCTL_ALL && bgctl_row.kept)
		bb_error_msg_and_die("it is kept: %s", bgctl_row.kept);
	if (errno == ECONNREFUSED) {
		/* Linux says this of any file that nobody listens on. */
		if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
			bb_error_msg_and_die("%s: not a socket", path);
		bb_error_msg_and_die("%s: the server has ended: start it again", path);
	}
	if (errno == EAGAIN)
		die_silent(path);
	if (errno == EACCES || errno == EPERM)
		bb_error_msg_and_die("%s: permission denied: be root, or the user of the server", path);
	if (errno == ENOENT)
		bb_error_msg_and_die("%s: no such socket: is the proxy running?", path);
	bb_perror_msg_and_die("%s", path);
}

int bgctl_connect(const char *path)
{
	struct sockaddr_un a;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memset(&a, 0, sizeof(a));
	a.sun_family = AF_UNIX;
	if (!*path || strlen(path) >= sizeof(a.sun_path))
		bb_error_msg_and_die("'%s' cannot be the path of a socket: it has 1 to 107 bytes", path);
	strcpy(a.sun_path, path);
	if (fd < 0)
		bb_simple_perror_msg_and_die("socket");
	bgctl_set_timeout(fd, QUERY_TIMEOUT_S); /* as many wait as may */
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die_unreachable(path);
	bgctl_set_timeout(fd, 0);
	return fd;
}

void bgctl_set_timeout(int fd, unsigned seconds)
{
	struct timeval timeout = { .tv_sec = seconds };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)); /* also of connect(2) */
}

void bgctl_send_fd(int to, const char *p, size_t n, int fd)
{
	struct iovec v = { .iov_base = (char *)p, .iov_len = n };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} u;
	struct msghdr m;

	memset(&u, 0, sizeof(u));
	memset(&m, 0, sizeof(m));
	m.msg_iov = &v;
	m.msg_iovlen = 1;
	m.msg_control = &u;
	m.msg_controllen = sizeof(u.room);
	u.head.cmsg_level = SOL_SOCKET;
	u.head.cmsg_type = SCM_RIGHTS;
	u.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&u.head), &fd, sizeof(int));
	if (sendmsg(to, &m, MSG_NOSIGNAL) < 0)
		bb_simple_perror_msg_and_die("sendmsg");
	close(fd);
}

/* As bb_make_printable() of libbb/messages.c, of which the linker makes one; BusyBox has none. */
void bgctl_make_printable(char *p, size_t n)
{
	for (; n; n--, p++) {
		unsigned char b = (unsigned char)*p;

		if (b == 0xc2 && (n == 1 || (p[1] & 0xe0) == 0x80)) { /* n == 1: the rest may come later */
			b = 0;
			if (n > 1)
				p[1] = 0;
		}
		if (b < ' ' || b == 0x7f)
			*p = '?';
	}
}

char *bgctl_read_line(struct control *c)
{
	for (;;) {
		char *line = c->in + c->first;
		char *end = memchr(line, '\n', c->end - c->first);
		ssize_t n;

		if (end) {
			*end = '\0';
			bgctl_make_printable(line, (size_t)(end - line));
			c->first = (unsigned)(end - c->in) + 1;
			return line;
		}
		c->end -= c->first;
		memmove(c->in, line, c->end);
		c->first = 0;
		if (c->end == REPLY_BYTES)
			bb_error_msg_and_die("%s: the answer is not one of xnbd-server", c->path);
		n = safe_read(c->fd, c->in + c->end, REPLY_BYTES - c->end);
		if (ENABLE_FEATURE_XNBD_BGCTL_BINARY && !c->answered && (n == 0 || (n < 0 && errno == ECONNRESET)))
			return NULL;
		if (n < 0)
			die_silent(c->path);
		if (n == 0)
			bb_error_msg_and_die("%s: the server hung up before its answer was complete", c->path);
		c->end += (unsigned)n;
		c->answered = true;
	}
}
