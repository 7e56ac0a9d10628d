/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A connection: sends requests, receives, and closes. */
#include "libbb.h"
#include "origin/conn.h"
#include "secure/relay.h"

#include <sys/uio.h>

enum {
	REPLY_MS = 30000, /* an origin that owes an answer and is silent for this long is dead */
	OWED_MS = 120000, /* as is one that talks, but does not give this one answer */
};

void conn_init(struct conn *l, struct origin *o, unsigned slot)
{
	l->origin = o;
	l->slot = slot;
	l->event.fd = -1;
	l->is_unknown = true;
	l->pending_tail = &l->pending;
}

void conn_fail(struct conn *l, const char *why)
{
	conn_close(l);
	origin_conn_failed(l->origin, l->slot, why);
}

/* The connection has gone. error: errno, 0 = the origin closed it. */
static void conn_lost(struct conn *l, int error)
{
	bool negotiating = l->phase == CONN_HANDSHAKE;

	l->tripped = negotiating && nbd_client_is_haggling(&l->handshake);
	if (error == ECONNRESET || error == EPIPE) /* the same, seen while something was being sent */
		error = 0;
	conn_fail(l, error ? strerror(error) : negotiating ? "it hung up during the handshake" : "it hung up");
}

/* ---- sending --------------------------------------------------------------------- */

void conn_append(void *ctx, const void *p, size_t n)
{
	struct conn *l = ctx;

	if (l->out_bytes + n > l->out_room) {
		uint32_t room = (uint32_t)(l->out_bytes + n + 4096);
		uint8_t *out = bb_grow(l->out, l->out_bytes, room);

		if (!out) {
			l->starved = true;
			return;
		}
		l->out = out;
		l->out_room = room;
	}
	memcpy(l->out + l->out_bytes, p, n);
	l->out_bytes += (uint32_t)n;
}

void conn_turn(struct conn *l)
{
	bool want;

	if (l->phase < CONN_HANDSHAKE)
		return;
	if (l->starved) { /* what was asked is asked again over the next one */
		conn_fail(l, strerror(ENOMEM));
		return;
	}
	if (l->out_bytes) {
		ssize_t n = send(l->event.fd, l->out, l->out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			conn_lost(l, errno);
			return;
		}
		if (n > 0) {
			l->out_bytes -= (uint32_t)n;
			memmove(l->out, l->out + n, l->out_bytes);
		}
	}
	want = l->out_bytes != 0;
	if (want != l->want_out) {
		l->want_out = want;
		event_set(&l->event, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
	}
}

/* NULL: no memory. The connection is starved then. */
struct pending *conn_send_request(struct conn *l, enum pending_kind kind, uint64_t cookie, uint64_t offset, uint32_t length, uint8_t *buf)
{
	uint16_t type = kind == PENDING_STATUS ? NBD_CMD_BLOCK_STATUS : NBD_CMD_READ;
	struct pending *p = calloc(1, sizeof(*p) + (kind == PENDING_STATUS ? sizeof(struct extents) : 0));
	struct nbd_request_header h = { .type = type, .cookie = cookie, .offset = offset, .length = length };
	uint8_t raw[NBD_REQUEST_BYTES];

	if (!p) {
		l->starved = true;
		return NULL;
	}
	if (!l->pending)
		l->progress_ms = loop_now_ms();
	p->kind = kind;
	p->buf = buf;
	p->cookie = cookie;
	p->sent_ms = loop_now_ms();
	p->offset = offset;
	p->length = length;
	nbd_gaps_init(&p->gaps, length);
	*l->pending_tail = p;
	l->pending_tail = &p->next;
	nbd_request_encode(raw, &h);
	conn_append(l, raw, sizeof(raw));
	return p;
}

void conn_send_read(struct conn *l, uint64_t cookie, uint64_t offset, uint32_t length, uint8_t *buf)
{
	conn_send_request(l, PENDING_READ, cookie, offset, length, buf);
}

void conn_send_status(struct conn *l, uint64_t cookie, uint64_t offset, uint32_t length)
{
	conn_send_request(l, PENDING_STATUS, cookie, offset, length, NULL);
}

bool conn_is_idle(const struct conn *l)
{
	return !l->pending;
}

/* ---- receiving ------------------------------------------------------------------------- */

/* The server has agreed to TLS: a relay gets the socket, and we one to the relay. */
static void secure(struct conn *l)
{
	int fd = -1;

	if (l->in_first != l->in_end || l->out_bytes) { /* or it has answered what it was not asked yet */
		conn_fail(l, "it sends unencrypted data instead of TLS");
		return;
	}
	event_remove(&l->event); /* it is another thread's soon */
	fd = relay_begin(l->event.fd, l->psk, "", NULL);
	if (fd < 0) {
		conn_fail(l, strerror(errno));
		return;
	}
	l->event.fd = fd;
	l->want_out = false;
	l->securing = true;
	if (!event_add(&l->event, EPOLLIN))
		conn_fail(l, strerror(errno));
}

/* The relay says whether TLS has begun, and over which descriptor it goes on. */
static void secured(struct conn *l)
{
	char error[RELAY_TEXT_BYTES], why[CONN_ERROR_BYTES];
	int fd = relay_result(l->event.fd, error);

	l->securing = false;
	if (fd < 0) {
		snprintf(why, sizeof(why), "TLS: %s", error);
		conn_fail(l, why);
		return;
	}
	if (fd != l->event.fd) {
		conn_drop_fd(l);
		l->event.fd = fd;
		if (!event_add(&l->event, EPOLLIN)) {
			conn_fail(l, strerror(errno));
			return;
		}
	}
	nbd_client_secured(&l->handshake);
}

static void conn_handshake_step(struct conn *l)
{
	enum nbd_handshake_state state;
	size_t used;

	do {
		state = nbd_client_step(&l->handshake, l->in + l->in_first, l->in_end - l->in_first, &used);
		l->in_first += (uint32_t)used;
	} while (state == NBD_HS_MORE && used);
	if (state == NBD_HS_CLOSE) {
		char why[CONN_ERROR_BYTES];

		send(l->event.fd, l->out, l->out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT); /* OPT_ABORT */
		snprintf(why, sizeof(why), "%s", l->handshake.error);
		conn_fail(l, why);
	} else if (ENABLE_FEATURE_XNBD_TLS && state == NBD_HS_TLS) {
		secure(l);
	} else if (state == NBD_HS_DONE) {
		l->phase = CONN_VERIFY;
		if (l->handshake.max_payload < (l->handshake.min_block > BLOCK_BYTES ? l->handshake.min_block : BLOCK_BYTES))
			conn_fail(l, "its maximum request size is less than a block");
		else
			conn_verify(l);
	}
}

/* Data goes straight to where it is wanted; what is behind it to `in`. */
static ssize_t receive(struct conn *l)
{
	struct iovec v[2];
	struct msghdr m = { .msg_iov = v };
	uint32_t direct = 0;
	ssize_t n;

	if (l->in_first == l->in_end) {
		l->in_first = l->in_end = 0;
	} else if (l->in_first) {
		memmove(l->in, l->in + l->in_first, l->in_end - l->in_first);
		l->in_end -= l->in_first;
		l->in_first = 0;
	}
	if (l->phase >= CONN_VERIFY && l->part == PART_DATA && !l->in_end && l->left) {
		direct = l->left;
		v[m.msg_iovlen].iov_base = l->data;
		v[m.msg_iovlen++].iov_len = direct;
	}
	v[m.msg_iovlen].iov_base = l->in + l->in_end;
	v[m.msg_iovlen++].iov_len = CONN_IN_BYTES - l->in_end;
	n = kernel_tls_received(l->event.fd, false, recvmsg(l->event.fd, &m, MSG_DONTWAIT));
	if (n <= 0)
		return n;
	if (direct) {
		uint32_t d = (size_t)n < direct ? (uint32_t)n : direct;

		l->data += d;
		l->left -= d;
		l->in_end += (uint32_t)n - d;
	} else {
		l->in_end += (uint32_t)n;
	}
	return n;
}

void conn_received(struct conn *l)
{
	ssize_t n;

	if (ENABLE_FEATURE_XNBD_TLS && l->securing) {
		secured(l);
		return;
	}
	n = receive(l);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_lost(l, n < 0 ? errno : 0);
		return;
	}
	l->progress_ms = loop_now_ms();
	if (l->phase == CONN_HANDSHAKE)
		conn_handshake_step(l);
	conn_parse_replies(l);
}

/* ---- its end ------------------------------------------------------------------------------ */

/* The oldest request is the first of the list. */
static bool is_silent(const struct conn *l)
{
	return l->pending &&
	       (loop_now_ms() > l->progress_ms + REPLY_MS || loop_now_ms() > l->pending->sent_ms + OWED_MS);
}

void conn_check(struct conn *l)
{
	if (is_silent(l)) {
		conn_fail(l, "it owes an answer and is silent");
		return;
	}
	origin_conn_steady(l->origin, l->slot);
	timer_set(&l->timer, loop_now_ms() + CONN_CHECK_MS);
}

void conn_drop_fd(struct conn *l)
{
	if (l->event.fd < 0)
		return;
	event_remove(&l->event);
	close(l->event.fd);
	l->event.fd = -1;
}

void conn_close(struct conn *l)
{
	struct pending *p;

	if (l->phase >= CONN_VERIFY) {
		static const struct nbd_request_header disc = { .type = NBD_CMD_DISC };
		uint8_t raw[NBD_REQUEST_BYTES];

		nbd_request_encode(raw, &disc);
		if (!l->out_bytes) /* else it would land inside another request */
			send(l->event.fd, raw, sizeof(raw), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	if (ENABLE_FEATURE_XNBD_TLS_KERNEL && l->phase >= CONN_HANDSHAKE)
		kernel_tls_end(l->event.fd);
	conn_drop_fd(l);
	timer_clear(&l->timer);
	conn_forget_lookup(l);
	if (l->spots && l->spots->sent)
		l->spots->conn = NULL;
	else
		free(l->spots);
	l->spots = NULL;
	while ((p = l->pending)) {
		l->pending = p->next;
		if (p->kind == PENDING_SAMPLE)
			free(p->buf);
		free(p);
	}
	l->pending_tail = &l->pending;
	l->in_first = l->in_end = l->out_bytes = 0;
	l->starved = false;
	l->phase = CONN_DOWN;
}
