/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Listening sockets. */
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"
#include "client/session.h"
#include "origin/endpoint.h"
#include "reactor/descriptors.h"
#include "reactor/lock.h"
#include "reactor/loop.h"
#include "storage/own_paths.h"
#include "storage/paths.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

enum {
	FIRST_SOCKET = 3, /* sd_listen_fds(3) */
	LISTENERS_MAX = ENDPOINTS_MAX + 1, /* addresses, and a Unix socket */
	BACKLOG = 128,
	TELL_MS = 60000, /* so seldom this is told */
	PAUSE_MS = 200, /* after accept failed for lack of descriptors */
	LOCK_TRIES = 100, LOCK_TRY_MS = 10, /* a process that locks a directory for longer is not a starting server */
};

static struct listener listeners[LISTENERS_MAX];
static unsigned count;
static pid_t listen_pid; /* LISTEN_PID is compared with that */
static const char *unix_path; /* of a socket that is made when clients are served */

/* ---- binding ------------------------------------------------------------------ */

static void bind_address(const struct endpoint *e, const char *laddr, const char *lport)
{
	const int on = 1;
	int fd = endpoint_socket(e);

	/* A kernel without IPv6 is not a reason to fail while IPv4 works. */
	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (e->address.any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	/* listen() is what tells that another socket listens on this port. But who
	 * connects now is only answered after listen_begin(). */
	if (bind(fd, &e->address.any, e->bytes) < 0 || listen(fd, BACKLOG) < 0)
		bb_perror_msg_and_die("cannot listen on port %s%s%s", lport, laddr ? " of " : "", laddr ? laddr : "");
	listeners[count++].event.fd = fd;
}

static void bind_tcp(const char *laddr, const char *lport)
{
	struct endpoints found;
	unsigned i;

	if (!endpoints_find(&found, laddr, lport))
		bb_error_msg_and_die("cannot listen on '%s': no such address", laddr ? laddr : lport);
	for (i = 0; i < found.count; i++)
		bind_address(&found.at[i], laddr, lport);
	if (!count)
		bb_perror_msg_and_die("cannot listen on port %s", lport);
}

enum obstacle { NOTHING, STALE, NO_SOCKET, IN_USE };

/* What is in the way of a socket. STALE: one of a server that has died. */
static enum obstacle find_obstacle(const struct endpoint *e)
{
	const char *path = e->address.local.sun_path;
	struct stat st;
	int fd, connected;

	if (lstat(path, &st) < 0)
		return NOTHING;
	if (!S_ISSOCK(st.st_mode))
		return NO_SOCKET;
	fd = endpoint_socket(e);
	if (fd < 0) /* the next one that is wanted, for the socket itself, tells it */
		return NOTHING;
	connected = connect(fd, &e->address.any, e->bytes) == 0 || errno != ECONNREFUSED;
	close(fd);
	return connected ? IN_USE : STALE;
}

static void refuse(enum obstacle o, const char *path)
{
	if (o == NO_SOCKET)
		bb_error_msg_and_die("'%s' exists and is not a socket: are the arguments in the right order?", path);
	if (o == IN_USE)
		bb_error_msg_and_die("'%s' is in use by another server: stop that one first", path);
}

/* Locks the directory of path: one server at a time creates a socket there, so that a new one is
 * not taken for stale. Returns a descriptor; closing it unlocks. If the lock cannot be had, goes on
 * without. */
static int lock_directory(const char *path)
{
	char *dir = xpath_absolute(path);
	char *slash = strrchr(dir, '/');
	unsigned tries = 0;
	int fd;

	slash[slash == dir] = '\0';
	fd = access(dir, W_OK | X_OK) < 0 ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (fd < 0)
		bb_perror_msg_and_die("cannot listen on '%s'", path);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK && tries++ < LOCK_TRIES)
		(void)poll(NULL, 0, LOCK_TRY_MS);
	return fd;
}

void listen_check(const char *path)
{
	struct endpoint e;

	if (!endpoint_unix(&e, path))
		bb_error_msg_and_die("'%s' cannot be the path of a socket: it has 1 to 107 bytes", path);
	refuse(find_obstacle(&e), path);
	close(lock_directory(path));
}

/* -1 with errno. */
static int bind_private(const struct endpoint *e)
{
	static struct mutex lock; /* of the mask, which all threads share */
	int fd = endpoint_socket(e), error = 0;
	mode_t mask;

	mutex_lock(&lock);
	mask = umask(0177); /* mode 0600 from the first moment */
	if (fd < 0 || bind(fd, &e->address.any, e->bytes) < 0 || listen(fd, BACKLOG) < 0)
		error = errno;
	umask(mask);
	mutex_unlock(&lock);
	if (!error)
		return fd;
	close(fd);
	errno = error;
	return -1;
}

int listen_unix(const char *path, const void *owner)
{
	int dir = lock_directory(path), fd = -1, error;
	struct endpoint e;
	enum obstacle o;

	endpoint_unix(&e, path);
	o = find_obstacle(&e);
	if (o == STALE)
		unlink(path);
	if (o <= STALE)
		fd = bind_private(&e);
	error = errno;
	close(dir); /* before anything dies: the process may survive it */
	refuse(o, path);
	errno = error;
	if (fd < 0)
		bb_perror_msg_and_die("cannot listen on '%s'", path);
	path_own(owner, path, false);
	return fd;
}

/* The i-th socket that systemd has opened for us (LISTEN_FDS, sd_listen_fds(3)), or -1. */
static int socket_inherited(unsigned i)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	int on = 1;

	if (!pid || !fds || strtoul(pid, NULL, 10) != (unsigned long)listen_pid || i >= strtoul(fds, NULL, 10))
		return -1;
	(void)ioctl(FIRST_SOCKET + (int)i, FIOCLEX); /* fcntl(2) is 0.4 KB of libc */
	(void)ioctl(FIRST_SOCKET + (int)i, FIONBIO, &on);
	return FIRST_SOCKET + (int)i;
}

/* Those that the service manager has opened, if there are any. */
static bool bind_inherited(void)
{
	while (count < LISTENERS_MAX && (listeners[count].event.fd = socket_inherited(count)) >= 0)
		count++;
	return count;
}

bool listen_is_passed(void)
{
	listen_pid = getpid();
	return ENABLE_FEATURE_XNBD_SERVER_INIT && socket_inherited(0) >= 0;
}

void listen_bind(const char *laddr, const char *lport, const char *unix_socket)
{
	if (ENABLE_FEATURE_XNBD_SERVER_INIT && bind_inherited())
		return;
	if (lport)
		bind_tcp(laddr, lport);
	unix_path = unix_socket;
	if (unix_path)
		listen_check(unix_path);
}

/* ---- accepting ------------------------------------------------------------------ */

static void pause_over(struct timer *t)
{
	struct listener *l = container_of(t, struct listener, pause);

	event_set(&l->event, EPOLLIN);
}

void listener_begin(struct listener *l, void (*ready)(struct event *e, uint32_t events))
{
	l->event.ready = ready;
	l->pause.fire = pause_over;
	if (!event_add(&l->event, EPOLLIN))
		bb_simple_perror_msg_and_die("epoll_ctl");
}

void listener_end(struct listener *l)
{
	timer_clear(&l->pause);
	event_remove(&l->event);
	close(l->event.fd);
}

int listener_accept(struct event *e, struct endpoint *from)
{
	static uint64_t tell_ms; /* not before */
	struct listener *l = (struct listener *)e;
	int fd;

	from->bytes = sizeof(from->address);
	fd = accept4(e->fd, &from->address.any, &from->bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0 || errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return fd;
	if (loop_now_ms() >= tell_ms) {
		bb_simple_perror_msg("clients cannot be accepted");
		tell_ms = loop_now_ms() + TELL_MS;
	}
	/* The client stays in the queue; looking again at once would only spin. */
	event_set(e, 0);
	timer_set(&l->pause, loop_now_ms() + PAUSE_MS);
	return -1;
}

/* A client that may be served, while the fronts look for a place for it; further ones stay in the queue. */
static struct {
	int fd; /* -1: nobody waits */
	struct endpoint from;
} waiting = { .fd = -1 };

static void turn_away(int fd, enum refusal why, const struct endpoint *from)
{
	char peer[PEER_BYTES];

	peer_name(peer, fd, from);
	client_refused(peer, why, NULL, NULL, 0);
	close(fd);
}

/* has_place: as session_make_place(fd) has said, which is asked once for a client: each time may cost another one his session. */
static void serve(int fd, const struct endpoint *from, bool has_place)
{
	if (has_place || session_close_shaking())
		session_begin(fd, NULL);
	else
		turn_away(fd, fd_is_kept(fd, FD_CLIENTS) ? REFUSED_MEMORY : REFUSED_PLACE, from);
}

static void place_answered(bool made)
{
	int fd = waiting.fd;
	unsigned i;

	if (fd < 0) /* the end has come */
		return;
	waiting.fd = -1;
	for (i = 0; i < count; i++)
		event_set(&listeners[i].event, EPOLLIN);
	serve(fd, &waiting.from, session_make_place(made ? 0 : fd));
}

static void listener_ready(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct endpoint from;
	bool has_place;
	int fd;

	if (ENABLE_FEATURE_XNBD_SERVER_THREADS && waiting.fd >= 0) {
		event_set(e, 0);
		return;
	}
	fd = listener_accept(e, &from);
	if (fd < 0)
		return;
	/* First: a stranger costs nobody his place. */
	if (ENABLE_FEATURE_XNBD_SERVER_ALLOW && !is_allowed(&from)) {
		turn_away(fd, REFUSED_ADDRESS, &from);
		return;
	}
	has_place = session_make_place(fd);
	if (ENABLE_FEATURE_XNBD_SERVER_THREADS && !has_place && session_place_request(place_answered)) {
		waiting.fd = fd;
		waiting.from = from;
		return;
	}
	serve(fd, &from, has_place);
}

void listen_begin(void)
{
	unsigned i;

	if (unix_path)
		listeners[count++].event.fd = listen_unix(unix_path, NULL);
	for (i = 0; i < count; i++)
		listener_begin(&listeners[i], listener_ready);
}

void listen_end(void)
{
	unsigned i;

	for (i = 0; i < count; i++)
		listener_end(&listeners[i]);
	count = 0;
	if (ENABLE_FEATURE_XNBD_SERVER_THREADS && waiting.fd >= 0)
		close(waiting.fd);
	waiting.fd = -1;
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void listen_handover(void)
{
	uint64_t n = count;
	unsigned i;

	/* Who waits for a place is not handed over: else strangers who connect again and again could refuse each upgrade. */
	handover_number(&n);
	for (i = 0; i < n && i < LISTENERS_MAX; i++)
		handover_fd(&listeners[i].event.fd);
	count = i;
}
#endif
