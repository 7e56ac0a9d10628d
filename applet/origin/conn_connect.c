/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A connection, up to its handshake: the origin's name, and its addresses, one after the other. */
#include "libbb.h"
#include "origin/conn.h"
#include "origin/endpoint.h"
#include "reactor/pool.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

enum {
	ATTEMPT_MS = 15000, /* for each step on the way to UP, but ... */
	CONNECT_MS = 5000,  /* for an address: the kernel repeats a SYN after 1, 3, 7 and 15 s, so an origin that
			       is back would be found late */
};

/* Name lookup blocks, so it is a job. It may outlive the attempt: then conn is NULL. */
struct resolving {
	struct job job;
	struct conn *_Atomic conn;
	struct endpoints found;
	bool ok;
	char *host, *port;
};

static void connected(struct conn *l)
{
	const unsigned dead_ms = 20000;

	endpoint_keep(l->event.fd, 5);
	setsockopt(l->event.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
	l->phase = CONN_HANDSHAKE;
	timer_set(&l->timer, loop_now_ms() + ATTEMPT_MS);
	l->want_out = false;
	event_set(&l->event, EPOLLIN);
	nbd_client_start(&l->handshake);
}

static void try_address(struct conn *l, int error);

static void conn_ready(struct event *e, uint32_t events)
{
	struct conn *l = container_of(e, struct conn, event);

	if (l->phase == CONN_CONNECTING) {
		int error = 0;
		socklen_t n = sizeof(error);

		getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &error, &n);
		if (error)
			try_address(l, error);
		else
			connected(l);
	} else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		conn_received(l);
	} /* EPOLLOUT: conn_turn() */
}

/* True: connected or on the way. */
static bool begin_connect(struct conn *l, const struct endpoint *e)
{
	l->event.fd = endpoint_socket(e);
	if (l->event.fd < 0)
		return false;
	l->event.ready = conn_ready;
	l->phase = CONN_CONNECTING;
	if ((connect(l->event.fd, &e->address.any, e->bytes) < 0 && errno != EINPROGRESS) || !event_add(&l->event, EPOLLOUT)) {
		int error = errno;

		close(l->event.fd);
		l->event.fd = -1;
		errno = error;
		return false;
	}
	return true;
}

/* Tries the next address of the origin; error: why the last one failed. */
static void try_address(struct conn *l, int error)
{
	conn_drop_fd(l);
	while (l->tried < l->endpoints.count) {
		const struct endpoint *e = &l->endpoints.at[l->tried++];

		timer_set(&l->timer, loop_now_ms() + CONNECT_MS);
		if (begin_connect(l, e))
			return;
		error = errno;
	}
	conn_fail(l, strerror(error));
}

static void resolving_free(struct resolving *r)
{
	if (r) {
		free(r->host);
		free(r->port);
	}
	free(r);
}

static void resolve_run(struct job *j)
{
	struct resolving *r = (struct resolving *)j;

	r->ok = r->conn && endpoints_find(&r->found, r->host, r->port);
}

static void resolve_done(struct job *j)
{
	struct resolving *r = (struct resolving *)j;
	struct conn *l = r->conn;

	if (l) {
		l->resolving = NULL;
		if (r->ok || !origin_is_busy(l->origin)) /* else it is another address, which may never be used */
			l->is_unknown = !r->ok;
		l->endpoints = r->found;
		if (r->ok)
			try_address(l, 0);
		else
			conn_fail(l, "no such host or port");
	}
	resolving_free(r);
}

static void resolve(struct conn *l, const char *host, const char *port)
{
	/* Names that were found the last time, those that were not, and those that somebody waits for. */
	static struct serial_queue queues[3] = { { .most = SLOW_LOOKUPS }, { .most = SLOW_LOOKUPS }, { .most = SLOW_LOOKUPS } };
	struct resolving *r;

	if (endpoints_number(&l->endpoints, host, port)) {
		try_address(l, 0);
		return;
	}
	r = calloc(1, sizeof(*r));
	if (r) {
		r->host = strdup(host);
		r->port = strdup(port);
	}
	if (!r || !r->host || !r->port) {
		resolving_free(r);
		conn_fail(l, strerror(ENOMEM));
		return;
	}
	l->phase = CONN_RESOLVING;
	timer_clear(&l->timer); /* it has to wait for others, and the resolver has a limit of its own: another attempt would only queue one more */
	l->resolving = r;
	r->conn = l;
	r->job.run = resolve_run;
	r->job.done = resolve_done;
	r->job.class = JOB_SLOW;
	r->job.killable = true;
	r->job.owner = l->origin;
	r->job.queue = &queues[origin_is_busy(l->origin) ? 2 : l->is_unknown];
	pool_submit(&r->job);
}

void conn_forget_lookup(struct conn *l)
{
	if (l->resolving)
		l->resolving->conn = NULL;
	l->resolving = NULL;
}

static void conn_timer(struct timer *t)
{
	struct conn *l = container_of(t, struct conn, timer);

	if (l->phase == CONN_CONNECTING && l->tried < l->endpoints.count)
		try_address(l, ETIMEDOUT);
	else if (l->phase < CONN_UP)
		conn_fail(l, l->phase == CONN_CONNECTING ? "it does not answer" : "it does not answer like an NBD server");
	else
		conn_check(l);
}

/* False: no memory; the connection has failed. */
static bool conn_begin(struct conn *l, const char *export_name)
{
	memset(&l->handshake, 0, sizeof(l->handshake));
	l->handshake.send = conn_append;
	l->handshake.ctx = l;
	l->handshake.export_name = export_name;
	l->shaken = l->tripped = l->securing = false;
	if (!l->in)
		l->in = malloc(CONN_IN_BYTES);
	if (!l->in) {
		conn_fail(l, strerror(ENOMEM));
		return false;
	}
	l->part = PART_HEADER;
	l->timer.fire = conn_timer;
	timer_set(&l->timer, loop_now_ms() + ATTEMPT_MS);
	l->tried = l->endpoints.count = 0;
	l->adopted = false;
	return true;
}

void conn_adopt(struct conn *l, int fd, uint64_t size_bytes)
{
	if (!conn_begin(l, "")) {
		close(fd);
		return;
	}
	l->event.fd = fd;
	l->event.ready = conn_ready;
	if (!event_add(&l->event, EPOLLIN)) {
		close(fd);
		l->event.fd = -1;
		conn_fail(l, "what was handed over is not a socket");
		return;
	}
	connected(l); /* its handshake is done elsewhere */
	l->adopted = true;
	l->handshake.size_bytes = size_bytes;
	l->handshake.min_block = 1;
	l->handshake.max_payload = NBD_PAYLOAD_MAX;
	conn_verify(l);
}

void conn_connect(struct conn *l, const char *host, const char *port, const char *export_name, bool plain)
{
	if (!conn_begin(l, export_name))
		return;
	l->handshake.plain = plain;
	l->handshake.tls = l->psk;
	if (strncmp(host, "unix:", 5) == 0) {
		l->endpoints.count = 1;
		if (endpoint_unix(&l->endpoints.at[0], host + 5))
			try_address(l, 0);
		else
			conn_fail(l, "its path is empty, or too long for a socket");
		return;
	}
	resolve(l, host, port);
}
