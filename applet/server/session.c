/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions: one NBD client connection each.
 *
 *   HANDSHAKE -> TRANSMISSION -> DRAINING (DISC: answers what is in flight) -> CLOSED
 *
 * Any state falls to CLOSED when the client hangs up or breaks the protocol. A
 * closed session has no descriptor; it is freed when its last request is answered.
 *
 * One recv takes as many requests as there are; their replies leave together with
 * one writev at the end of the loop's turn. A request takes memory from the common
 * budget until its reply has left; when its share is spent a session is not read.
 */
#include "libbb.h"
#include "server/buf.h"
#include "server/loop.h"
#include "server/server.h"
#include "server/status.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum {
	RECV_BYTES = 256 << 10,      /* holds any option, and a batch of requests */
	SEND_IOV = 128,              /* pieces of one writev */
	HANDSHAKE_MS = 10000,        /* a client has so long to get through it */
	HANDSHAKE_OUT_BYTES = 32768, /* replies it may leave unread before that and still ask
				        for more; one alone (a list) may be longer */
	DRAIN_MS = 30000,            /* after DISC, for what waits for the origin */
	HOARD_MS = 30000,            /* who holds memory that others wait for, and moves no
				        byte for so long, is given up */
	HOARD_CHECK_MS = 2000,
	XFER_SPARE = 512,            /* kept for the next requests */
	BATCHES_MAX = 8,             /* as much as that, so often in a turn of the loop: then others
				        are looked at */
	OUT_BYTES = 512 << 10,       /* replies that wait: before more is read for a session,
				        these are to leave, while the processor's cache has them */
	RESERVE_BYTES = 1 << 20,     /* what a session with nothing in flight may take
				        when others have spent the budget */
};

enum session_state { SESSION_HANDSHAKE, SESSION_TRANSMISSION, SESSION_DRAINING, SESSION_CLOSED };

/* A request on its way through. */
struct xfer {
	struct request req; /* first: port_reply() gets it */
	struct session *session;
	struct xfer *prev, *next; /* all of the session's */
	struct xfer *next_out;    /* in the order of sending, or of those parked */
	uint64_t cookie;
	uint8_t *buf;
	uint32_t buf_bytes; /* as given to buf_get(), 0 = none */
	uint32_t data_bytes;      /* sent after the header */
	uint8_t *data;
	bool submitted; /* the core has it */
	uint8_t header_bytes;
	uint8_t header[NBD_CHUNK_BYTES + NBD_CHUNK_OFFSET_BYTES];
};

struct session {
	struct event event;
	enum session_state state;
	uint32_t watched; /* EPOLLIN, EPOLLOUT as set */
	struct export *export;
	struct nbd_server_handshake handshake;
	struct timer deadline; /* of the handshake, or of draining */
	uint64_t moved_ms;     /* when a byte came or went last */
	uint8_t *hs_out;
	uint32_t hs_out_bytes, hs_out_room;
	bool hang_up; /* when hs_out has left */

	uint8_t *in;
	uint32_t in_first, in_end; /* what was received and not taken yet */
	struct xfer *payload;      /* a WRITE whose data is still coming */
	uint32_t payload_have;
	struct xfer *refused;      /* a WRITE that gets its error after its data */
	uint32_t refused_error, skip; /* bytes of that data still to be thrown away */

	struct xfer *xfers; /* all, in flight or being sent */
	struct xfer *out, **out_tail;
	struct xfer *parked, **parked_tail; /* READs whose blocks have come while too much waited in out */
	uint32_t out_sent; /* bytes of the first of them that have left */
	uint64_t out_bytes; /* of all of them, with those that have left */
	bool full;          /* OUT_BYTES: takes no request until some have left */
	unsigned batches;   /* so often it was full in this turn */
	uint32_t used_bytes;
	unsigned used_count;
	bool dirty;   /* in the list of those with something to do at the turn's end */
	bool stalled; /* waits for memory */
	struct session *next_dirty;
	struct session *prev, *next;
	void (*ended)(void *ctx); /* one that was handed over: who wants to know its end */
	void *ended_ctx;
};

static struct session *sessions, *dirty;
static struct xfer *spare;
static unsigned spare_count, session_count, xfer_count, stalled_count;
static bool stopping;

static void session_close(struct session *s);
static void hoard_check(struct timer *t);
static struct timer hoard_timer = { .fire = hoard_check };

unsigned sessions_count(void)
{
	return session_count;
}

unsigned sessions_in_flight(void)
{
	return xfer_count;
}

bool sessions_dirty(void)
{
	return dirty != NULL;
}

static void session_mark(struct session *s)
{
	if (s->dirty)
		return;
	s->dirty = true;
	s->next_dirty = dirty;
	dirty = s;
}

static void session_watch(struct session *s, uint32_t events)
{
	if (s->watched == events || s->state == SESSION_CLOSED)
		return;
	s->watched = events;
	event_set(&s->event, events);
}

/* ---- xfers ------------------------------------------------------------------- */

static struct xfer *xfer_get(struct session *s)
{
	struct xfer *x = spare;

	if (x) {
		spare = x->next;
		spare_count--;
	} else {
		x = malloc(sizeof(*x));
		if (!x)
			return NULL;
	}
	x->session = s;
	x->buf = x->req.buf = x->data = NULL;
	x->buf_bytes = 0;
	x->data_bytes = 0;
	x->submitted = false;
	x->prev = NULL;
	x->next = s->xfers;
	if (s->xfers)
		s->xfers->prev = x;
	s->xfers = x;
	s->used_count++;
	xfer_count++;
	return x;
}

static void xfer_put(struct xfer *x)
{
	struct session *s = x->session;

	if (x->buf_bytes) { /* had, or only booked */
		buf_put(x->buf, x->buf_bytes);
		s->used_bytes -= buf_size(x->buf_bytes);
	}
	if (x->prev)
		x->prev->next = x->next;
	else
		s->xfers = x->next;
	if (x->next)
		x->next->prev = x->prev;
	s->used_count--;
	xfer_count--;
	if (spare_count < XFER_SPARE) {
		x->next = spare;
		spare = x;
		spare_count++;
	} else {
		free(x);
	}
}

/*
 * Whether a request with n bytes of data may be taken now. Half of the budget is
 * for whoever comes; of the rest each session has its share. A session with
 * nothing in flight always gets a little, so that nobody is starved by others, and
 * a request larger than its share while the budget is not spent: so what is used
 * never exceeds the budget by more than one request and a reserve a session. (What
 * comes from an origin is counted too, and has limits of its own: FETCH_WINDOW_BYTES, and
 * COPY_WINDOW_GROWTH and CLIENT_WINDOW_GROWTH when the link has a delay.)
 */
static bool may_take(const struct session *s, uint32_t n)
{
	uint64_t limit = buf_limit();
	uint64_t used = buf_used();
	uint64_t share = limit / (session_count + 1);
	unsigned max_queue = server_config->max_queue;

	if (max_queue && xfer_count >= max_queue && s->used_count >= max_queue / (session_count + 1) && s->used_count)
		return false;
	if (!n)
		return true;
	n = buf_size(n);
	if (used + n <= limit / 2 || !used)
		return true;
	if (used + n <= limit && s->used_bytes + n <= share)
		return true;
	return !s->used_bytes && (n <= RESERVE_BYTES || used <= limit);
}

/* ---- replies ------------------------------------------------------------------- */

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

static void reply(struct xfer *x, uint32_t error)
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

	if (s->out_bytes >= OUT_BYTES && !stopping) {
		x->next_out = NULL;
		*s->parked_tail = x;
		s->parked_tail = &x->next_out;
		*later = true;
		return NULL;
	}
	return x->data = x->buf = buf_take(x->buf_bytes);
}

/* Those parked go on, as far as there is room. */
static void session_unpark(struct session *s)
{
	struct xfer *x;

	while ((x = s->parked) && (s->out_bytes < OUT_BYTES || stopping)) {
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
static bool session_send(struct session *s)
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

/* ---- requests -------------------------------------------------------------------- */

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
	if (stopping)
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

/* The WRITE whose data is still coming is not done. */
static void payload_drop(struct session *s)
{
	if (s->payload)
		xfer_put(s->payload);
	if (s->refused)
		xfer_put(s->refused);
	s->payload = s->refused = NULL;
}

void session_drain(struct session *s)
{
	if (s->state != SESSION_TRANSMISSION)
		return;
	s->state = SESSION_DRAINING;
	payload_drop(s); /* not all of it has come, and no more will be read */
	if (!s->ended) /* somebody waits for the last answer of one that was handed over */
		timer_set(&s->deadline, loop_now_ms + DRAIN_MS);
	session_mark(s);
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
static bool session_parse(struct session *s)
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
			s->stalled = true;
			stalled_count++;
			if (!hoard_timer.set) /* not put off by one who tries again */
				timer_set(&hoard_timer, loop_now_ms + HOARD_CHECK_MS);
			return true;
		}
	}
	return true;
}

/* ---- handshake --------------------------------------------------------------------- */

static void handshake_send(void *ctx, const void *p, size_t n)
{
	struct session *s = ctx;

	if (s->hang_up)
		return;
	if (s->hs_out_bytes + n > s->hs_out_room) {
		uint32_t room = 2 * (s->hs_out_bytes + (uint32_t)n);
		uint8_t *out = realloc(s->hs_out, room);

		if (!out) {
			s->hang_up = true;
			return;
		}
		s->hs_out = out;
		s->hs_out_room = room;
	}
	memcpy(s->hs_out + s->hs_out_bytes, p, n);
	s->hs_out_bytes += (uint32_t)n;
	session_mark(s);
}

/* What was found last is held: it is what the session begins with. */
static void session_use(struct session *s, struct export *e)
{
	if (e)
		export_hold(e);
	if (s->export)
		export_drop(s->export);
	s->export = e;
}

static const struct nbd_export *handshake_find(void *ctx, const char *name, size_t n)
{
	struct export *e = export_find(name, n);

	if (!e)
		return NULL;
	session_use(ctx, e);
	return &e->nbd;
}

static const struct nbd_export *handshake_list(void *ctx UNUSED_PARAM, unsigned i)
{
	const struct export *e;

	for (e = exports; e && (e->removed || i); e = e->next)
		i -= !e->removed;
	return e ? &e->nbd : NULL;
}

static const struct nbd_server_ops handshake_ops = {
	.send = handshake_send,
	.find = handshake_find,
	.list = handshake_list,
};

/* False: hang up at once. */
static bool handshake_step(struct session *s)
{
	enum nbd_handshake_state state = NBD_HS_CLOSE;
	size_t used;

	do {
		if (s->hs_out_bytes > HANDSHAKE_OUT_BYTES && s->in_first < s->in_end) {
			s->hang_up = true; /* it asks and asks, and never reads */
			break;
		}
		state = nbd_server_step(&s->handshake, s->in + s->in_first, s->in_end - s->in_first, &used);
		s->in_first += (uint32_t)used;
	} while (state == NBD_HS_MORE && used);
	if (state == NBD_HS_CLOSE || s->hang_up) {
		s->hang_up = true;
		session_mark(s);
		return s->hs_out_bytes != 0;
	}
	if (state == NBD_HS_DONE) {
		s->state = SESSION_TRANSMISSION;
		timer_clear(&s->deadline);
	}
	return true;
}

static void session_late(struct timer *t)
{
	session_close((struct session *)(void *)((char *)t - offsetof(struct session, deadline)));
}

/* ---- life ------------------------------------------------------------------------- */

static bool session_process(struct session *s)
{
	if (s->state == SESSION_HANDSHAKE && !s->hang_up && !handshake_step(s))
		return false;
	if (s->state == SESSION_TRANSMISSION && !s->stalled && !s->full)
		return session_parse(s);
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

static bool session_receive(struct session *s)
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

static void session_ready(struct event *e, uint32_t events)
{
	struct session *s = (struct session *)(void *)((char *)e - offsetof(struct session, event));

	session_mark(s);
	s->batches = 0;
	if ((events & EPOLLIN) && (s->watched & EPOLLIN)) {
		if (!session_receive(s))
			session_close(s);
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		session_close(s);
	}
}

static void session_free(struct session *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		sessions = s->next;
	if (s->next)
		s->next->prev = s->prev;
	session_count--;
	if (!session_count && s->export)
		core_alone(&s->export->core);
	if (s->ended)
		s->ended(s->ended_ctx);
	session_use(s, NULL);
	free(s->in);
	free(s->hs_out);
	free(s);
}

/* Nobody will wait for the origin any more. */
static void session_abandon(struct session *s)
{
	struct xfer *x, *next;

	for (x = s->xfers; x; x = next) {
		next = x->next; /* only x itself is answered, and perhaps freed */
		if (x->submitted)
			core_abandon(&s->export->core, &x->req);
	}
}

/* Hangs up. Requests in flight go on without it; it is freed after the last. */
static void session_close(struct session *s)
{
	struct xfer *x;

	if (s->state == SESSION_CLOSED)
		return;
	event_remove(&s->event);
	close(s->event.fd);
	timer_clear(&s->deadline);
	s->state = SESSION_CLOSED;
	if (s->stalled)
		stalled_count--;
	s->stalled = false;
	payload_drop(s);
	while (s->out) {
		x = s->out;
		s->out = x->next_out;
		xfer_put(x);
	}
	s->out_bytes = 0;
	s->parked = NULL; /* answered with the others */
	session_abandon(s);
	session_mark(s);
}

/* Closes fd when there is no memory, or it is nothing to wait for. */
static struct session *session_new(int fd)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s) {
		s->in = malloc(RECV_BYTES);
		s->hs_out = malloc(HANDSHAKE_OUT_BYTES);
		s->hs_out_room = HANDSHAKE_OUT_BYTES;
		s->event.fd = fd;
		s->event.ready = session_ready;
		s->watched = EPOLLIN;
	}
	if (!s || !s->in || !s->hs_out || !event_add(&s->event, EPOLLIN)) {
		if (s) {
			free(s->in);
			free(s->hs_out);
		}
		free(s);
		close(fd);
		return NULL;
	}
	s->out_tail = &s->out;
	s->parked_tail = &s->parked;
	s->next = sessions;
	if (sessions)
		sessions->prev = s;
	sessions = s;
	session_count++;
	s->moved_ms = loop_now_ms;
	s->deadline.fire = session_late;
	s->handshake.ops = &handshake_ops;
	s->handshake.ctx = s;
	return s;
}

struct session *session_begin(int fd, struct export *e)
{
	struct session *s = session_new(fd);
	const int on = 1;

	if (!s)
		return NULL;
	/* Harmless errors on a Unix socket. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (e) {
		session_use(s, e);
		s->state = SESSION_TRANSMISSION;
	} else if (ENABLE_FEATURE_XNBD_SERVER_OLDSTYLE && server_config->oldstyle) {
		session_use(s, exports);
		nbd_server_greet_oldstyle(&s->handshake, &exports->nbd);
		s->state = SESSION_TRANSMISSION;
	} else {
		nbd_server_greet(&s->handshake);
		timer_set(&s->deadline, loop_now_ms + HANDSHAKE_MS);
	}
	return s;
}

void session_tell(struct session *s, void (*ended)(void *ctx), void *ctx)
{
	s->ended = ended;
	s->ended_ctx = ctx;
}

void session_disown(struct session *s)
{
	s->ended = NULL;
	if (s->state == SESSION_DRAINING)
		timer_set(&s->deadline, loop_now_ms + DRAIN_MS);
}

/* There may be room for replies: what has waited for that goes on, and is answered before the
 * turn ends; or in the next, so that a client who takes them at once leaves time for the others.
 * False: close it. */
static bool session_go_on(struct session *s)
{
	if ((!s->full && !s->parked) || s->out_bytes >= OUT_BYTES || s->batches == BATCHES_MAX)
		return true;
	s->batches++;
	s->full = false;
	session_mark(s);
	session_unpark(s);
	return session_process(s);
}

/* Decides what to watch for, and whether the session has come to its end. */
static void session_settle(struct session *s)
{
	uint32_t events = 0;

	if (s->state != SESSION_CLOSED && !session_send(s))
		session_close(s);
	if (!session_go_on(s))
		session_close(s);
	if (s->hang_up && !s->hs_out_bytes)
		session_close(s);
	if (s->state == SESSION_DRAINING && !s->xfers)
		session_close(s);
	if (s->state == SESSION_CLOSED) {
		if (!s->xfers && !s->dirty)
			session_free(s);
		return;
	}
	if (s->out || s->hs_out_bytes || s->parked || s->full)
		events |= EPOLLOUT;
	if (!s->stalled && !s->full && !s->hang_up && !stopping && s->state != SESSION_DRAINING)
		events |= EPOLLIN;
	session_watch(s, events);
}

/* While somebody waits for memory: those who hold some, and neither take their replies
 * nor send the data that they announced, lose it. Who waits tries again: it may have
 * been the kernel that had none, and nobody tells when it has. */
static void hoard_check(struct timer *t)
{
	struct session *s;

	for (s = sessions; s && stalled_count; s = s->next) {
		if ((s->out || s->payload) && loop_now_ms > s->moved_ms + HOARD_MS)
			session_close(s);
		else if (s->stalled)
			session_mark(s);
	}
	if (stalled_count)
		timer_set(t, loop_now_ms + HOARD_CHECK_MS);
}

/* Lets those go on that waited for memory. */
static void sessions_unstall(void)
{
	struct session *s;

	for (s = stalled_count ? sessions : NULL; s; s = s->next) {
		uint32_t first = s->in_first;

		if (!s->stalled)
			continue;
		s->stalled = false;
		stalled_count--;
		if (!session_process(s))
			session_close(s);
		if (s->in_first != first)
			session_mark(s);
	}
}

/* Sending frees memory, which lets the stalled go on, who then have something to
 * send; it ends because nothing is received meanwhile. They are tried also when no session
 * has moved: what comes from the origin frees memory too. */
void sessions_turn(void)
{
	do {
		struct session *s = dirty;

		dirty = NULL;
		while (s) {
			struct session *next = s->next_dirty;

			s->dirty = false;
			session_settle(s);
			s = next;
		}
		sessions_unstall();
	} while (dirty);
}

void sessions_stop(void)
{
	struct session *s;

	stopping = true;
	for (s = sessions; s; s = s->next) {
		if (s->state == SESSION_HANDSHAKE)
			s->hang_up = true;
		session_mark(s);
		session_unpark(s);
		session_abandon(s);
	}
}
