/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Sessions: what a client sends. One recvmsg takes as many requests as there are. */
#include "client/session.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum {
	DIRECT_BYTES = 32 << 10, /* so much of a WRITE's data is worth a recvmsg of its own */
	TURN_WORK_FIRST = 2,     /* TURN_WORK in turn_is_over() */
	TURN_GROWTH = 4,
	ALONE_AFTER = 8,         /* turns: is_alone() */
	TURN_BYTES = 256 << 10,  /* that a session may receive in a turn of the loop; the last recvmsg
				    may bring more */
};

/* Also for clients that have not asked for the block sizes: "MUST cleanly error commands that fall outside". */
bool is_aligned(const struct session *s, const struct request *r)
{
	return ((r->offset | r->length) & (s->export->nbd.min_block - 1)) == 0;
}

/* The core's word, and what only the session knows. */
uint32_t session_check(const struct session *s, const struct request *r)
{
	uint32_t error;

	if (r->type == NBD_CMD_BLOCK_STATUS && (!ENABLE_FEATURE_XNBD_SERVER_STRUCTURED || !(s->handshake.allocation || s->handshake.local)))
		return NBD_EINVAL;
	if ((r->flags & NBD_CMD_FLAG_DF) && !s->handshake.structured)
		return NBD_EINVAL;
	if (sessions_stopping)
		return NBD_ESHUTDOWN;
	error = core_check(s->export->disk.core, r);
	if (!error && ENABLE_FEATURE_XNBD_SERVER_SECTORS && !is_aligned(s, r))
		return NBD_EINVAL;
	if (error || r->type > NBD_CMD_WRITE)
		return error;
	/* "Size constraints": who has asked for them keeps to them. */
	if (s->handshake.sized && r->length > s->export->nbd.max_payload)
		return NBD_EINVAL;
	/* "Structured reply types": no chunk has more. */
	return r->flags & NBD_CMD_FLAG_DF && r->length > s->export->nbd.max_payload ? NBD_EOVERFLOW : NBD_SUCCESS;
}

/* ---- the data of a WRITE ------------------------------------------------------------- */

/* All of w has come, and is written or has failed. */
static void write_end(struct command *w)
{
	if (!w->error && w->req.flags & NBD_CMD_FLAG_FUA)
		command_ready(w); /* its pieces are written, and now to be synced */
	else
		reply(w, w->error);
}

void write_piece_done(struct command *p)
{
	struct command *w = p->whole;

	if (!w->error) {
		w->error = p->req.error;
		w->req.why = p->req.why;
	}
	command_put(p);
	if (!--w->pieces && !w->rest)
		write_end(w);
}

bool payload_room(struct session *s)
{
	struct command *x = s->payload;
	uint32_t n = room_for(x, !s->write_bytes);

	if (n == x->req.length && command_room(x, n)) {
		s->piece = x;
		x->rest = 0;
	} else if (n && n != x->req.length) {
		s->piece = command_piece(x, n);
	}
	s->piece_have = 0;
	s->since_ms = loop_now_ms();
	return s->piece;
}

void payload_submit(struct session *s)
{
	struct command *p = s->piece;

	s->piece = NULL;
	if (!s->payload->rest)
		s->payload = NULL;
	command_submit(p, false);
}

/* Throws away what still comes of a WRITE that has failed. It is answered only after that: clients
 * do not expect a reply while they are still sending. */
static void payload_skip(struct session *s)
{
	struct command *x = s->payload;
	uint32_t have = s->in_end - s->in_first;
	uint32_t n = have < x->rest ? have : x->rest;

	s->long_writes = false;
	x->rest -= n;
	x->at += n;
	s->in_first += n;
	if (x->rest)
		return;
	s->payload = NULL;
	if (!x->pieces)
		write_end(x);
}

/* Takes the payload from what was received. False: more must come, or there is no memory. */
static bool payload_parse(struct session *s)
{
	struct command *p;
	uint32_t have, want, n;

	if (!s->piece && s->payload->error) {
		payload_skip(s);
		return !s->payload;
	}
	if (!s->piece && !payload_room(s)) {
		session_throttle(s);
		return false;
	}
	p = s->piece;
	have = s->in_end - s->in_first;
	want = p->buf_bytes - s->piece_have;
	n = have < want ? have : want;
	memcpy(p->buf + s->piece_have, s->in + s->in_first, n);
	s->in_first += n;
	s->piece_have += n;
	if (n < want)
		return false;
	payload_submit(s);
	return true;
}

void payload_fail(struct session *s, uint32_t error)
{
	struct command *w = s->payload;

	s->payload = NULL;
	w->rest = 0;
	w->error = error;
	if (!w->pieces)
		write_end(w);
}

void payload_drop(struct session *s)
{
	struct command *x = s->payload;

	if (!x)
		return;
	if (s->piece && s->piece != x) {
		x->pieces--;
		command_put(s->piece);
	}
	s->payload = s->piece = NULL;
	x->rest = 0;
	x->error = NBD_ESHUTDOWN;
	if (!x->pieces)
		command_put(x);
}

/* ---- requests ------------------------------------------------------------------------- */

/* Whether x, a READ, may have to wait for the origin. */
static bool may_wait(const struct session *s, struct command *x)
{
	struct core *c = s->export->disk.core;

	if (!ENABLE_FEATURE_XNBD_SERVER_PROXY)
		return false;
	return is_core_here() ? core_misses(c, &x->req) : !core_is_published(c, x->req.offset, x->req.length);
}

/*
 * Gets a buffer for x, if it needs one at once. A READ that must wait for the origin, or for its
 * turn, gets one when there is data to put into it: so a thousand waiting ones cost no buffers.
 * False: there is no memory, and x cannot go on without.
 */
static bool request_room(struct session *s, struct command *x)
{
	uint32_t n = x->rest;

	if (x->req.type == NBD_CMD_BLOCK_STATUS)
		x->rest = status_bytes(&s->handshake);
	else if (x->req.type != NBD_CMD_READ || n > PIECE_BYTES || may_wait(s, x))
		return true;
	if (x->buf) /* handed over */
		return true;
	n = x->rest;
	if (room_for(x, !s->read_bytes) == n && command_room(x, n))
		return true;
	return x->req.type == NBD_CMD_READ;
}

bool request_admit(struct session *s, struct command *x)
{
	x->given_offset = x->at = x->req.offset;
	x->given_bytes = x->rest = x->req.length;
	x->given_type = x->req.type;
	x->is_timed = true;
	x->awaits = false;
	x->begun_us = loop_now_us();
	x->error = session_check(s, &x->req);
	if (!x->error && !request_room(s, x)) {
		command_put(x);
		return false;
	}
	s->work += 1 + (x->req.length >> 26);
	return true;
}

/* --discard ignore. What was there stays, which the client may not rely on; so a FUA has nothing to sync. A proxy may have nothing
 * there yet: the core has to look. */
static bool is_ignored(const struct command *x)
{
	const struct disk *d = &x->session->export->disk;

	return ENABLE_FEATURE_XNBD_SERVER_DISCARD && x->req.type == NBD_CMD_TRIM && d->keeps_space && !core_is_proxy(d->core);
}

void request_begin(struct command *x)
{
	if (x->error || is_ignored(x))
		reply(x, x->error);
	else if (command_try_read(x))
		x->buf ? command_read(x) : command_ready(x);
	else
		command_submit(x, false);
}

/* One request. False: it must wait for memory; nothing of it was taken. */
static bool request_parse(struct session *s, const struct nbd_request_header *h)
{
	struct command *x;

	if (queue_is_full(s) || !(x = command_get(s)))
		return false;
	x->cookie = h->cookie;
	x->req.offset = h->offset;
	x->req.length = h->length;
	x->req.type = h->type;
	x->req.flags = h->flags;
	if (!request_admit(s, x))
		return false;
	s->in_first += NBD_REQUEST_BYTES;
	s->long_writes = h->type == NBD_CMD_WRITE && h->length >= DIRECT_BYTES;
	if (h->type == NBD_CMD_WRITE && h->length)
		s->payload = x;
	else
		request_begin(x);
	return true;
}

/* Sends replies first if many wait, while the processor's cache has them. Sets s->backlogged. False: the
 * client has gone. */
static bool out_is_low(struct session *s)
{
	if (out_is_full(s) && s->batches < BATCHES_MAX) {
		s->batches++;
		if (!session_send(s))
			return false;
	}
	s->backlogged = out_is_full(s) || s->ready.first;
	return true;
}

/* Whether nobody else has asked for anything lately. A few turns are enough: who asks for little leaves the processors idle, too.
 * Of what fronts write here at once, any is good. */
static bool is_alone(struct session *s)
{
	static struct session *last;

	if (__atomic_load_n(&last, __ATOMIC_RELAXED) != s) {
		__atomic_store_n(&last, s, __ATOMIC_RELAXED);
		s->alone_for = 0;
	}
	if (s->alone_for == ALONE_AFTER)
		return true;
	s->alone_for++;
	return false;
}

/*
 * A client sends its next requests when it has replies. If only this one asks for anything, nobody else's requests keep
 * the processors busy meanwhile: with all replies at the end of its turn, server and client would take turns at being
 * idle. So its first turn is short, each of the next ones TURN_GROWTH times as long, until no request is left.
 */
static bool turn_is_over(struct session *s)
{
	if (!s->turn_work)
		s->turn_work = is_alone(s) ? TURN_WORK_FIRST : TURN_WORK;
	if (s->work < s->turn_work)
		return false;
	if (s->turn_work < TURN_WORK)
		s->turn_work *= TURN_GROWTH;
	return true;
}

/* What has been received, in the transmission phase. False: protocol broken. */
bool session_parse(struct session *s)
{
	while (s->state == SESSION_TRANSMISSION) {
		uint32_t have = s->in_end - s->in_first;
		struct nbd_request_header h;

		if (s->payload) {
			if (!payload_parse(s))
				return true;
			continue;
		}
		if (have < NBD_REQUEST_BYTES) {
			s->turn_work = 0;
			return true;
		}
		if (turn_is_over(s)) { /* EPOLLOUT brings its next turn, at once */
			s->backlogged = true;
			s->batches = BATCHES_MAX;
			return true;
		}
		if (!out_is_low(s))
			return false;
		if (s->backlogged)
			return true;
		if (!nbd_request_decode(s->in + s->in_first, &h)) {
			session_note_end(s, END_PROTOCOL);
			return false;
		}
		if (h.type == NBD_CMD_DISC) {
			session_note_end(s, END_DISCONNECT);
			s->disconnected = true;
			session_drain(s);
		} else if (!request_parse(s, &h)) {
			session_throttle(s);
			return true;
		}
	}
	return true;
}

bool session_has_disc(struct session *s)
{
	uint64_t skip = (s->payload ? s->payload->rest : 0) + (s->piece ? s->piece->buf_bytes - s->piece_have : 0);
	uint32_t have = 0; /* of the next header, behind what is skipped */
	uint8_t header[NBD_REQUEST_BYTES];
	struct nbd_request_header h;

	in_get(s);
	for (;;) {
		if (s->in_first == s->in_end) {
			ssize_t n = recv(s->event.fd, s->in, RECV_BYTES, MSG_DONTWAIT);

			if (n <= 0)
				return false;
			s->in_first = 0;
			s->in_end = (uint32_t)n;
		}
		header[have++] = s->in[s->in_first++];
		if (skip) {
			skip--;
			have = 0;
		}
		if (have < sizeof(header))
			continue;
		if (!nbd_request_decode(header, &h))
			return false;
		if (h.type == NBD_CMD_DISC)
			return true;
		have = 0;
		skip = h.type == NBD_CMD_WRITE ? h.length : 0;
	}
}

/* ---- the socket --------------------------------------------------------------------------- */

/* Where the next bytes go, two places at most; *room: how many fit. To the buffer of the WRITE whose
 * data is coming, and behind it to the receive buffer. After a long WRITE the next request probably is one, too: no
 * more than its header goes to the receive buffer, as data would have to be copied from there. */
static int receive_into(struct session *s, struct iovec *v, uint32_t *room)
{
	uint32_t direct = 0, behind;

	in_get(s);
	if (s->in_first == s->in_end) {
		s->in_first = s->in_end = 0;
	} else if (s->in_first) {
		memmove(s->in, s->in + s->in_first, s->in_end - s->in_first);
		s->in_end -= s->in_first;
		s->in_first = 0;
	}
	if (s->piece && !s->in_end) {
		direct = s->piece->buf_bytes - s->piece_have;
		v->iov_base = s->piece->buf + s->piece_have;
		v++->iov_len = direct;
	}
	behind = (s->long_writes && s->in_end < NBD_REQUEST_BYTES ? NBD_REQUEST_BYTES : RECV_BYTES) - s->in_end;
	v->iov_base = s->in + s->in_end;
	v->iov_len = behind;
	*room = direct + behind;
	return direct ? 2 : 1;
}

/* With one recvmsg. *left: how many bytes it may still take in this turn; 0 when the socket has no
 * more. False: as of session_process(). */
static bool receive_once(struct session *s, uint32_t *left)
{
	struct iovec v[2];
	struct msghdr m = { .msg_iov = v };
	uint32_t room, direct = 0;
	ssize_t n;

	m.msg_iovlen = receive_into(s, v, &room);
	n = kernel_tls_received(s->event.fd, true, recvmsg(s->event.fd, &m, MSG_DONTWAIT));
	*left = (size_t)n == room && room < *left ? *left - room : 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return session_end_of_input(s);
	if (m.msg_iovlen > 1) {
		direct = (size_t)n < v->iov_len ? (uint32_t)n : (uint32_t)v->iov_len;
		s->piece_have += direct;
	}
	s->in_end += (uint32_t)n - direct;
	return session_process(s);
}

bool session_receive(struct session *s)
{
	uint32_t left = TURN_BYTES;

	if (ENABLE_FEATURE_XNBD_TLS && s->securing)
		return handshake_secured(s);
	while (left && session_listens(s)) {
		if (!receive_once(s, &left))
			return false;
	}
	in_put(s);
	return true;
}
