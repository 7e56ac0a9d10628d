/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sessions: what a client sends. One recvmsg takes as many requests as there are. */
#include "server/session.h"

#include <sys/socket.h>
#include <sys/uio.h>

static uint32_t data_bytes_of(const struct session *s, const struct nbd_request_header *h)
{
	switch (h->type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return h->length;
	case NBD_CMD_BLOCK_STATUS:
		return status_bytes(&s->handshake);
	default:
		return 0;
	}
}

/* The core's word, and what only the session knows. */
static uint32_t session_check(const struct session *s, const struct request *r)
{
	if (r->type == NBD_CMD_BLOCK_STATUS && (!ENABLE_FEATURE_XNBD_SERVER_STRUCTURED || !(s->handshake.allocation || s->handshake.local)))
		return NBD_EINVAL;
	if ((r->flags & NBD_CMD_FLAG_DF) && !s->handshake.structured)
		return NBD_EINVAL;
	if (sessions_stopping)
		return NBD_ESHUTDOWN;
	return core_check(&s->export->core, r);
}

static void submit(struct session *s, struct xfer *x)
{
	if (x->req.type == NBD_CMD_BLOCK_STATUS && !s->handshake.allocation) {
		reply(x, NBD_SUCCESS); /* the map knows what is local */
		return;
	}
	x->submitted = true;
	core_submit(&s->export->core, &x->req);
}

/* Takes the payload of a WRITE from what was received. False: more must come. */
static bool payload_take(struct session *s)
{
	struct xfer *x = s->payload;
	uint32_t have = s->in_end - s->in_first;
	uint32_t want = x->buf_bytes - s->payload_have;
	uint32_t n = have < want ? have : want;

	memcpy(x->buf + s->payload_have, s->in + s->in_first, n);
	s->in_first += n;
	s->payload_have += n;
	if (s->payload_have < x->buf_bytes)
		return false;
	s->payload = NULL;
	submit(s, x);
	return true;
}

/* Throws the payload of a refused WRITE away. False: more must come. */
static bool payload_skip(struct session *s)
{
	struct xfer *x = s->refused;
	uint32_t have = s->in_end - s->in_first;
	uint32_t n = have < s->skip ? have : s->skip;

	s->skip -= n;
	s->in_first += n;
	if (s->skip)
		return false;
	s->refused = NULL;
	reply(x, s->refused_error);
	return true;
}

/*
 * Memory for n bytes of data. That of a READ which must wait for the origin is only booked,
 * and taken when there is something to put into it: a thousand that wait cost no memory, and
 * what the fetch has just left is taken while the processor's cache has it. False: there is
 * none.
 */
static bool data_room(struct xfer *x, uint32_t n)
{
	struct session *s = x->session;

	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && x->req.type == NBD_CMD_READ && core_misses(&s->export->core, &x->req)) {
		buf_book(n);
	} else {
		x->buf = buf_get(n);
		if (!x->buf)
			return false;
		x->req.buf = x->data = x->buf;
	}
	x->buf_bytes = n;
	s->used_bytes += buf_size(n);
	return true;
}

/* One request. False: it must wait for memory; nothing of it was taken. */
static bool request_take(struct session *s, const struct nbd_request_header *h)
{
	struct request probe = { .offset = h->offset, .length = h->length, .type = h->type, .flags = h->flags };
	uint32_t error = session_check(s, &probe);
	uint32_t n = error ? 0 : data_bytes_of(s, h);
	struct xfer *x;

	if (!may_take(s, n) || !(x = xfer_get(s)))
		return false;
	x->cookie = h->cookie;
	x->req.offset = h->offset;
	x->req.length = h->length;
	x->req.type = h->type;
	x->req.flags = h->flags;
	x->req.owner = s;
	if (n && !data_room(x, n)) {
		xfer_put(x);
		return false;
	}
	s->in_first += NBD_REQUEST_BYTES;
	if (h->type == NBD_CMD_READ)
		x->data_bytes = n;
	if (error && h->type == NBD_CMD_WRITE && h->length) {
		/* Clients are not made for an answer while they still send. */
		s->refused = x;
		s->refused_error = error;
		s->skip = h->length;
	} else if (error) {
		reply(x, error);
	} else if (h->type == NBD_CMD_WRITE) {
		s->payload = x;
		s->payload_have = 0;
	} else {
		submit(s, x);
	}
	return true;
}

void payload_drop(struct session *s)
{
	if (s->payload)
		xfer_put(s->payload);
	if (s->refused)
		xfer_put(s->refused);
	s->payload = s->refused = NULL;
}

/* So many replies wait that they are sent first, while the processor's cache has them. False:
 * the client has gone. */
static bool out_is_low(struct session *s)
{
	if (s->out_bytes >= OUT_BYTES && s->batches < BATCHES_MAX) {
		s->batches++;
		if (!session_send(s))
			return false;
	}
	s->full = s->out_bytes >= OUT_BYTES;
	return true;
}

/* What has been received, in the transmission phase. False: protocol broken. */
bool session_parse(struct session *s)
{
	while (s->state == SESSION_TRANSMISSION) {
		uint32_t have = s->in_end - s->in_first;
		struct nbd_request_header h;

		if (s->refused) {
			if (!payload_skip(s))
				return true;
			continue;
		}
		if (s->payload) {
			if (!payload_take(s))
				return true;
			continue;
		}
		if (have < NBD_REQUEST_BYTES)
			return true;
		if (!out_is_low(s))
			return false;
		if (s->full)
			return true;
		if (!nbd_request_decode(s->in + s->in_first, &h))
			return false;
		if (h.type == NBD_CMD_DISC) {
			session_drain(s);
		} else if (!request_take(s, &h)) {
			session_stall(s);
			return true;
		}
	}
	return true;
}

/* Where the next bytes go: straight into the buffer of a WRITE, and behind it the
 * receive buffer. */
static int receive_into(struct session *s, struct iovec *v)
{
	int n = 0;

	if (s->in_first == s->in_end) {
		s->in_first = s->in_end = 0;
	} else if (s->in_first) {
		memmove(s->in, s->in + s->in_first, s->in_end - s->in_first);
		s->in_end -= s->in_first;
		s->in_first = 0;
	}
	if (s->payload && !s->in_end) {
		v[n].iov_base = s->payload->buf + s->payload_have;
		v[n++].iov_len = s->payload->buf_bytes - s->payload_have;
	}
	v[n].iov_base = s->in + s->in_end;
	v[n++].iov_len = RECV_BYTES - s->in_end;
	return n;
}

bool session_receive(struct session *s)
{
	struct iovec v[2];
	struct msghdr m = { .msg_iov = v };
	uint32_t direct;
	ssize_t n;

	m.msg_iovlen = receive_into(s, v);
	direct = m.msg_iovlen > 1 ? (uint32_t)v[0].iov_len : 0;
	n = recvmsg(s->event.fd, &m, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	s->moved_ms = loop_now_ms;
	if (direct) {
		uint32_t d = (size_t)n < direct ? (uint32_t)n : direct;

		s->payload_have += d;
		n -= d;
	}
	s->in_end += (uint32_t)n;
	return session_process(s);
}
