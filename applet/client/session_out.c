/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Sessions: replies. Those of one turn of the loop leave together, with one sendmsg. */
#include "client/session.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum {
	SEND_IOV = 128,        /* pieces of one sendmsg */
	HOLE_BYTES = 64 << 10, /* fewer zeroes are sent like other data */
};

/* Whether no other reply may come between the pieces of the one to x. */
static bool is_one_chunk(const struct command *x)
{
	return !x->session->handshake.structured || x->req.flags & NBD_CMD_FLAG_DF;
}

/* Bytes that x counts in out_bytes. Zeroes sent as a hole count, too, since they were read and
 * examined: so a client that reads nothing else gets no longer turns than others. */
static uint32_t out_weight(const struct command *x)
{
	return x->header_bytes + x->data_bytes + x->hole_bytes;
}

/* Queues x. While another reply goes out in pieces, x is held until that is complete. */
static void out_add(struct session *s, struct command *x)
{
	x->replied = true;
	if (s->open && !x->whole) {
		list_add(&s->held, x);
		return;
	}
	s->out_bytes += out_weight(x);
	list_add(&s->out, x);
}

/* How many of the n bytes at p the next chunk has. *hole: whether they are zeroes. */
static uint32_t chunk_bytes(const uint8_t *p, uint32_t n, bool *hole)
{
	uint32_t at = 0;

	*hole = false;
	while (n - at >= HOLE_BYTES) {
		/* Of data this byte is nearly always all that is looked at. */
		uint32_t zeroes = p[at + HOLE_BYTES - 1] ? HOLE_BYTES - BLOCK_BYTES : nbd_zeroes(p + at, n - at);

		if (zeroes < n - at)
			zeroes -= zeroes % BLOCK_BYTES;
		if (zeroes >= HOLE_BYTES) {
			*hole = !at;
			return at ? at : zeroes;
		}
		at += zeroes + BLOCK_BYTES;
	}
	return n;
}

/* x, a READ or a part of one, as a chunk: what it has read, or how many zeroes that are. */
static void chunk_encode(struct command *x, uint16_t flags, bool hole)
{
	uint32_t fixed = hole ? NBD_CHUNK_HOLE_BYTES : NBD_CHUNK_OFFSET_BYTES;

	*(hole ? &x->hole_bytes : &x->data_bytes) = x->req.length;
	nbd_chunk_encode(x->header, flags, hole ? NBD_REPLY_TYPE_OFFSET_HOLE : NBD_REPLY_TYPE_OFFSET_DATA, x->cookie,
			 fixed + x->data_bytes);
	nbd_put32(nbd_put64(x->header + NBD_CHUNK_BYTES, x->req.offset), x->req.length);
	x->header_bytes = (uint8_t)(NBD_CHUNK_BYTES + fixed);
}

/*
 * Encodes the data of x, a READ or a piece of one, as chunks. The last one is x itself, with these
 * flags. The others are queued here, to leave before it; their data is in the buffer of x.
 */
static void chunks_encode(struct command *x, uint16_t flags)
{
	struct command *c;
	bool hole = false;
	uint32_t n = 0;

	while (ENABLE_FEATURE_XNBD_SERVER_READ_HOLES && (n = chunk_bytes(x->data, x->req.length, &hole)) < x->req.length &&
	       !(x->req.flags & NBD_CMD_FLAG_DF) && (c = command_get(x->session))) {
		c->cookie = x->cookie;
		c->data = x->data;
		c->req.type = x->req.type;
		c->req.flags = 0;
		c->req.offset = x->req.offset;
		c->req.length = n;
		chunk_encode(c, 0, hole);
		out_add(x->session, c);
		x->data += n;
		x->req.offset += n;
		x->req.length -= n;
	}
	chunk_encode(x, flags, hole && n == x->req.length);
}

/* Fills in x->header. "Simple reply message", "Structured reply chunk message". */
static void reply_encode(struct command *x, uint32_t error)
{
	uint8_t *p = x->header;
	bool read = x->req.type == NBD_CMD_READ;

	if (x->req.type == NBD_CMD_BLOCK_STATUS && !error) { /* port_reply() has encoded it */
		x->header_bytes = STATUS_HEAD_BYTES;
		x->data = (uint8_t *)((struct extents *)x->req.buf)->extent;
		return;
	}
	x->data = x->buf;
	nbd_simple_reply_encode(p, error, x->cookie);
	x->header_bytes = NBD_SIMPLE_REPLY_BYTES;
	if (!ENABLE_FEATURE_XNBD_SERVER_STRUCTURED || !x->session->handshake.structured) {
		x->data_bytes = read && !error ? x->req.length : 0;
	} else if (error) {
		const char *why = reason(x, error);
		uint16_t n = (uint16_t)strlen(why);

		nbd_chunk_encode(p, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, x->cookie, 6U + n);
		nbd_put16(nbd_put32(p + NBD_CHUNK_BYTES, error), n);
		x->header_bytes = NBD_CHUNK_BYTES + 6;
		x->data = (uint8_t *)why;
		x->data_bytes = n;
	} else if (read && !x->buf) { /* its data has gone in pieces */
		nbd_chunk_encode(p, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, x->cookie, 0);
		x->header_bytes = NBD_CHUNK_BYTES;
	} else if (read) {
		chunks_encode(x, NBD_REPLY_FLAG_DONE);
	}
}

void request_done(struct command *x)
{
	struct session *s = x->session;

	if (x->given_type == NBD_CMD_READ)
		s->read_total += x->given_bytes;
	else if (x->given_type == NBD_CMD_WRITE)
		s->written_total += x->given_bytes;
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		count_done(x);
}

void request_failed(struct command *x, uint32_t error)
{
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		count_failed(x, error);
	/* "Not supported" is an answer that clients wait for: they try what is fast first. */
	if (is_verbose() && error != NBD_ENOTSUP)
		verbose_fails(x, error);
}

void reply(struct command *x, uint32_t error)
{
	struct session *s = x->session;

	session_mark(s);
	/* At the server's end, requests that were not done get no reply: a client that can
	 * reconnect does so and asks again; an error would reach its file system. */
	if (s->state == SESSION_CLOSED || (sessions_stopping && error == NBD_ESHUTDOWN)) {
		command_put(x);
		return;
	}
	if (error)
		request_failed(x, error);
	else
		request_done(x);
	if (session_is_ublk(x->session)) {
		ublk_reply(x, error);
		return;
	}
	reply_encode(x, error);
	if (error || !(x->data_bytes | x->hole_bytes))
		command_room_put(x);
	out_add(s, x);
}

void reply_piece(struct command *p)
{
	struct command *x = p->whole;
	struct session *s = p->session;
	uint8_t *h = p->header;

	if (session_is_ublk(s)) {
		ublk_reply_piece(p);
		return;
	}
	s->open = is_one_chunk(x);
	p->data = p->buf;
	if (!s->open) {
		chunks_encode(p, 0); /* not DONE: an error may still be found */
	} else {
		chunk_encode(p, 0, false);
		nbd_put32(h + NBD_CHUNK_BYTES - 4, NBD_CHUNK_OFFSET_BYTES + x->req.length); /* of all pieces */
		if (!s->handshake.structured) {
			nbd_simple_reply_encode(h, 0, x->cookie);
			p->header_bytes = NBD_SIMPLE_REPLY_BYTES;
		}
		if (x->begun)
			p->header_bytes = 0;
	}
	x->begun = true;
	out_add(s, p);
}

void reply_release(struct session *s)
{
	while (s->held.first)
		out_add(s, list_pop(&s->held));
}

void command_done(struct command *x)
{
	const struct request *r = &x->req;

	session_mark(x->session);
	if (x->whole && r->type == NBD_CMD_READ)
		read_piece_done(x);
	else if (x->whole)
		write_piece_done(x);
	else if (r->type == NBD_CMD_READ && !x->buf && !r->error)
		command_ready(x);
	else
		reply(x, r->error);
}

/* Takes n sent bytes off the list of replies. */
static void out_advance(struct session *s, size_t n)
{
	uint64_t now_us = ENABLE_FEATURE_XNBD_SERVER_COUNTERS ? loop_clock_us() : 0;

	while (s->out.first) {
		struct command *x = s->out.first;
		uint32_t total = x->header_bytes + x->data_bytes;

		if (s->out_sent + n < total) {
			s->out_sent += (uint32_t)n;
			return;
		}
		n -= total - s->out_sent;
		s->out_sent = 0;
		s->out_bytes -= out_weight(x);
		command_left(x, now_us);
		command_put(list_pop(&s->out));
	}
}

static int out_gather(const struct session *s, struct iovec *v)
{
	uint32_t sent = s->out_sent;
	const struct command *x;
	int n = 0;

	for (x = s->out.first; x && n < SEND_IOV - 1; x = x->next_in_list) {
		if (sent < x->header_bytes) {
			v[n].iov_base = (uint8_t *)x->header + sent;
			v[n++].iov_len = x->header_bytes - sent;
			sent = 0;
		} else {
			sent -= x->header_bytes;
		}
		if (sent < x->data_bytes) {
			v[n].iov_base = x->data + sent;
			v[n++].iov_len = x->data_bytes - sent;
		}
		sent = 0;
	}
	return n;
}

/* What is left of the handshake. False: the client has gone. */
static bool send_handshake(struct session *s)
{
	ssize_t n = send(s->event.fd, s->hs_out, s->hs_out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	s->hs_out_bytes -= (uint32_t)n;
	memmove(s->hs_out, s->hs_out + n, s->hs_out_bytes);
	return true;
}

bool session_send(struct session *s)
{
	struct iovec v[SEND_IOV];
	struct msghdr m = { .msg_iov = v };

	if (session_is_ublk(s)) {
		ublk_send(s);
		return true;
	}
	if (s->hs_out_bytes && !send_handshake(s))
		return false;
	if (s->hs_out_bytes)
		return true;
	if (s->hs_out && s->state >= SESSION_TRANSMISSION) {
		free(s->hs_out); /* the handshake is over */
		s->hs_out = NULL;
	}
	while (s->out.first) {
		ssize_t n;

		m.msg_iovlen = out_gather(s, v);
		n = sendmsg(s->event.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		out_advance(s, (size_t)n);
		if (s->deadline.set)
			timer_set(&s->deadline, loop_now_ms() + DRAIN_MS);
	}
	return true;
}
