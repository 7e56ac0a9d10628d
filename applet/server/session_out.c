/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sessions: replies. Those of one turn of the loop leave together, with one sendmsg. */
#include "server/session.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum { SEND_IOV = 128 }; /* pieces of one sendmsg */

/* Fills in x->header. "Simple reply message", "Structured reply chunk message". */
static void reply_encode(struct xfer *x, uint32_t error)
{
	uint8_t *p = x->header;
	bool read = x->req.type == NBD_CMD_READ;

	if (!ENABLE_FEATURE_XNBD_SERVER_STRUCTURED || !x->session->handshake.structured) {
		nbd_simple_reply_encode(p, error, x->cookie);
		x->header_bytes = NBD_SIMPLE_REPLY_BYTES;
		if (error)
			x->data_bytes = 0;
	} else if (error) {
		nbd_chunk_encode(p, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, x->cookie, 6);
		p = nbd_put32(p + NBD_CHUNK_BYTES, error);
		nbd_put16(p, 0); /* no message */
		x->header_bytes = NBD_CHUNK_BYTES + 6;
		x->data_bytes = 0;
	} else if (read) {
		nbd_chunk_encode(p, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA, x->cookie,
				 NBD_CHUNK_OFFSET_BYTES + x->data_bytes);
		nbd_put64(p + NBD_CHUNK_BYTES, x->req.offset);
		x->header_bytes = NBD_CHUNK_BYTES + NBD_CHUNK_OFFSET_BYTES;
	} else if (x->req.type == NBD_CMD_BLOCK_STATUS) {
		x->header_bytes = STATUS_HEAD_BYTES;
		x->data = (uint8_t *)((struct extents *)x->req.buf)->extent;
		x->data_bytes = status_encode(&x->session->handshake, &x->session->export->core, &x->req, x->cookie, p);
	} else {
		nbd_simple_reply_encode(p, 0, x->cookie);
		x->header_bytes = NBD_SIMPLE_REPLY_BYTES;
	}
}

void reply(struct xfer *x, uint32_t error)
{
	struct session *s = x->session;

	x->submitted = false;
	session_mark(s);
	if (s->state == SESSION_CLOSED) {
		xfer_put(x);
		return;
	}
	reply_encode(x, error);
	s->out_bytes += x->header_bytes + x->data_bytes;
	x->next_out = NULL;
	*s->out_tail = x;
	s->out_tail = &x->next_out;
}

void port_reply(struct core *c UNUSED_PARAM, struct request *r)
{
	struct xfer *x = (struct xfer *)r;

	reply(x, r->error);
}

/*
 * Of what was booked when the request came. It stays booked while replies wait: a client that
 * takes them slower than its blocks come from the origin would else have all of them in memory.
 */
void *port_read_buf(struct core *c UNUSED_PARAM, struct request *r, bool *later)
{
	struct xfer *x = (struct xfer *)r;
	struct session *s = x->session;

	if (s->out_bytes >= OUT_BYTES && !sessions_stopping) {
		x->next_out = NULL;
		*s->parked_tail = x;
		s->parked_tail = &x->next_out;
		*later = true;
		return NULL;
	}
	return x->data = x->buf = buf_take(x->buf_bytes);
}

/* Those parked go on, as far as there is room. */
void session_unpark(struct session *s)
{
	struct xfer *x;

	while ((x = s->parked) && (s->out_bytes < OUT_BYTES || sessions_stopping)) {
		s->parked = x->next_out;
		if (!s->parked)
			s->parked_tail = &s->parked;
		core_read(&s->export->core, &x->req);
	}
}

/* Takes n sent bytes off the list of replies. */
static void out_advance(struct session *s, size_t n)
{
	while (s->out) {
		struct xfer *x = s->out;
		uint32_t total = x->header_bytes + x->data_bytes;

		if (s->out_sent + n < total) {
			s->out_sent += (uint32_t)n;
			return;
		}
		n -= total - s->out_sent;
		s->out_sent = 0;
		s->out_bytes -= total;
		s->out = x->next_out;
		if (!s->out)
			s->out_tail = &s->out;
		xfer_put(x);
	}
}

static int out_gather(const struct session *s, struct iovec *v)
{
	uint32_t sent = s->out_sent;
	const struct xfer *x;
	int n = 0;

	for (x = s->out; x && n < SEND_IOV - 1; x = x->next_out) {
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

/* Sends what can be sent. False: the client has gone. */
bool session_send(struct session *s)
{
	struct iovec v[SEND_IOV];
	struct msghdr m = { .msg_iov = v };

	if (s->hs_out_bytes) {
		ssize_t n = send(s->event.fd, s->hs_out, s->hs_out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (n > 0) {
			s->moved_ms = loop_now_ms;
			s->hs_out_bytes -= (uint32_t)n;
			memmove(s->hs_out, s->hs_out + n, s->hs_out_bytes);
		}
		if (s->hs_out_bytes)
			return true;
	}
	if (s->hs_out && s->state >= SESSION_TRANSMISSION) {
		free(s->hs_out); /* the handshake is over */
		s->hs_out = NULL;
	}
	while (s->out) {
		ssize_t n;

		m.msg_iovlen = out_gather(s, v);
		n = sendmsg(s->event.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		s->moved_ms = loop_now_ms;
		out_advance(s, (size_t)n);
	}
	return true;
}
