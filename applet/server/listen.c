/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening sockets. */
#include "libbb.h"
#include "server/endpoint.h"
#include "server/loop.h"
#include "server/server.h"

#include <sys/stat.h>

enum {
	LISTENERS_MAX = ENDPOINTS_MAX + 1, /* addresses, and a Unix socket */
	BACKLOG = 128,
	PAUSE_MS = 200, /* after accept failed for lack of descriptors */
};

static struct event listeners[LISTENERS_MAX];
static unsigned count;
static struct timer accept_pause;


/* ---- binding ------------------------------------------------------------------ */

static void bind_address(const struct endpoint *e)
{
	const int on = 1;
	int fd = endpoint_socket(e);

	/* A kernel without IPv6 is no reason to fail while IPv4 works. */
	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (e->address.any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	/* listen() is what tells that another socket listens on this port. But who
	 * connects now is only answered after listen_begin(). */
	if (bind(fd, &e->address.any, e->bytes) < 0 || listen(fd, BACKLOG) < 0)
		bb_perror_msg_and_die("cannot listen on port %s%s%s", server_config->lport,
				      server_config->laddr ? " of " : "",
				      server_config->laddr ? server_config->laddr : "");
	listeners[count++].fd = fd;
}

static void bind_tcp(void)
{
	struct endpoints found;
	unsigned i;

	if (!endpoints_find(&found, server_config->laddr, server_config->lport))
		bb_error_msg_and_die("cannot listen on '%s': no such address, or more than %u",
				     server_config->laddr ? server_config->laddr : server_config->lport, ENDPOINTS_MAX);
	for (i = 0; i < found.count; i++)
		bind_address(&found.at[i]);
	if (!count)
		bb_perror_msg_and_die("cannot listen on port %s", server_config->lport);
}

/* Removes the socket of a server that has died; dies for anything else. */
static void remove_stale(const struct endpoint *e)
{
	const char *path = e->address.local.sun_path;
	struct stat st;
	int fd, connected;

	if (lstat(path, &st) < 0)
		return;
	if (!S_ISSOCK(st.st_mode))
		bb_error_msg_and_die("'%s' exists and is not a socket: remove it or choose another path", path);
	fd = endpoint_socket(e);
	connected = connect(fd, &e->address.any, e->bytes);
	if (connected == 0 || errno != ECONNREFUSED)
		bb_error_msg_and_die("'%s' is in use by another server: stop that one first", path);
	close(fd);
	unlink(path);
}

int listen_unix(const char *path)
{
	struct endpoint e;
	mode_t mask;
	int fd;

	if (!endpoint_unix(&e, path))
		bb_error_msg_and_die("'%s' cannot be the path of a socket: it has 1 to 107 bytes", path);
	remove_stale(&e);
	fd = endpoint_socket(&e);
	mask = umask(0177); /* mode 0600 from the first moment */
	if (fd < 0 || bind(fd, &e.address.any, e.bytes) < 0 || listen(fd, BACKLOG) < 0)
		bb_perror_msg_and_die("cannot listen on '%s'", path);
	umask(mask);
	server_owns_path(path, false);
	return fd;
}

/* Those that the service manager has opened, if there are any. */
static bool bind_inherited(void)
{
	while (count < LISTENERS_MAX && (listeners[count].fd = init_socket(count)) >= 0)
		count++;
	return count;
}

void listen_bind(void)
{
	if (ENABLE_FEATURE_XNBD_SERVER_INIT && bind_inherited())
		return;
	if (server_config->lport)
		bind_tcp();
	if (server_config->unix_path)
		listeners[count++].fd = listen_unix(server_config->unix_path);
}

/* ---- accepting ------------------------------------------------------------------ */

static void watch_all(uint32_t events)
{
	unsigned i;

	for (i = 0; i < count; i++)
		event_set(&listeners[i], events);
}

static void pause_over(struct timer *t UNUSED_PARAM)
{
	watch_all(EPOLLIN);
}

static void listener_ready(struct event *e, uint32_t events UNUSED_PARAM)
{
	int fd = accept4(e->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
			return;
		/* The client stays in the queue; looking again at once would only spin. */
		watch_all(0);
		timer_set(&accept_pause, loop_now_ms + PAUSE_MS);
		return;
	}
	if (server_config->max_clients && sessions_count() >= server_config->max_clients)
		close(fd);
	else
		session_begin(fd, NULL);
}

void listen_begin(void)
{
	unsigned i;

	accept_pause.fire = pause_over;
	for (i = 0; i < count; i++) {
		listeners[i].ready = listener_ready;
		if (!event_add(&listeners[i], EPOLLIN))
			bb_simple_perror_msg_and_die("epoll_ctl");
	}
}

void listen_end(void)
{
	unsigned i;

	timer_clear(&accept_pause);
	for (i = 0; i < count; i++) {
		event_remove(&listeners[i]);
		close(listeners[i].fd);
	}
	count = 0;
}
