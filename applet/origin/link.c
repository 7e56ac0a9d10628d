/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A link: connecting, asking, and reading the answers. */
#include "libbb.h"
#include "origin/endpoint.h"
#include "origin/link.h"
#include "reactor/pool.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/uio.h>

enum {
	IN_BYTES = 64 << 10,
	ATTEMPT_MS = 15000, /* for each step on the way to UP */
	CONNECT_MS = 5000,  /* for an address, when there are others to try */
	REPLY_MS = 30000,   /* an origin that owes an answer and is silent for so long is dead */
	OWED_MS = 120000,   /* as is one that talks, but does not give this one answer */
	CHECK_MS = 1000,
	MESSAGE_MAX = 65536, /* longest error chunk that is believed */
	LOOKUPS_MAX = 2, /* at a time: a resolver that hangs leaves workers for the disk */
};

enum pending_kind { PENDING_READ, PENDING_STATUS, PENDING_SAMPLE };

struct pending {
	struct pending *next;
	uint64_t cookie;
	uint64_t asked_ms;
	uint64_t offset;
	uint32_t length;
	int error; /* of an error chunk, errno */
	uint8_t kind;
	uint8_t sample;
	uint8_t *buf; /* READ: the core's; SAMPLE: ours */
	struct nbd_gaps gaps;
	struct extents extents[]; /* STATUS: one; length is what they do not speak of yet */
};

/* Name lookup blocks, so it is a job. It may outlive the attempt: then link is NULL. */
struct resolving {
	struct job job;
	struct link *link;
	struct endpoints found;
	bool ok;
	char *host, *port;
};

void link_init(struct link *l, struct origin *o, unsigned slot)
{
	l->origin = o;
	l->slot = slot;
	l->event.fd = -1;
	l->pending_tail = &l->pending;
}

static void link_fail(struct link *l, const char *why)
{
	link_close(l);
	origin_link_failed(l->origin, l->slot, why);
}

/* The connection has gone. error: errno, 0 = the origin closed it. */
static void link_lost(struct link *l, int error)
{
	bool negotiating = l->phase == LINK_HANDSHAKE;

	l->tripped = negotiating && nbd_client_is_haggling(&l->handshake);
	link_fail(l, error ? strerror(error) : negotiating ? "it hung up during the handshake" : "it hung up");
}

/* ---- sending --------------------------------------------------------------------- */

static void out_append(void *ctx, const void *p, size_t n)
{
	struct link *l = ctx;

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

void link_turn(struct link *l)
{
	bool want;

	if (l->phase < LINK_HANDSHAKE)
		return;
	if (l->starved) { /* what was asked is asked again over the next one */
		link_fail(l, strerror(ENOMEM));
		return;
	}
	if (l->out_bytes) {
		ssize_t n = send(l->event.fd, l->out, l->out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			link_lost(l, errno);
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

/* NULL: no memory. The link is starved then. */
static struct pending *ask(struct link *l, uint16_t type, uint64_t cookie, uint64_t offset, uint32_t length)
{
	struct pending *p = calloc(1, sizeof(*p) + (type == NBD_CMD_BLOCK_STATUS ? sizeof(struct extents) : 0));
	struct nbd_request_header h = { .type = type, .cookie = cookie, .offset = offset, .length = length };
	uint8_t raw[NBD_REQUEST_BYTES];

	if (!p) {
		l->starved = true;
		return NULL;
	}
	if (!l->pending)
		l->progress_ms = loop_now_ms;
	p->cookie = cookie;
	p->asked_ms = loop_now_ms;
	p->offset = offset;
	p->length = length;
	nbd_gaps_init(&p->gaps, length);
	*l->pending_tail = p;
	l->pending_tail = &p->next;
	nbd_request_encode(raw, &h);
	out_append(l, raw, sizeof(raw));
	return p;
}

void link_ask_read(struct link *l, uint64_t cookie, uint64_t offset, uint32_t length, uint8_t *buf)
{
	struct pending *p = ask(l, NBD_CMD_READ, cookie, offset, length);

	if (!p)
		return;
	p->kind = PENDING_READ;
	p->buf = buf;
}

void link_ask_status(struct link *l, uint64_t cookie, uint64_t offset, uint32_t length)
{
	struct pending *p = ask(l, NBD_CMD_BLOCK_STATUS, cookie, offset, length);

	if (p)
		p->kind = PENDING_STATUS;
}

bool link_is_idle(const struct link *l)
{
	return !l->pending;
}

/* ---- VERIFY -------------------------------------------------------------------------- */

static void verified(struct link *l)
{
	l->phase = LINK_UP;
	l->progress_ms = loop_now_ms;
	timer_set(&l->timer, loop_now_ms + CHECK_MS);
	origin_link_ready(l->origin, l->slot);
}

void link_compared(struct link *l, bool differ)
{
	l->spots = NULL;
	l->differs = differ;
	verified(l);
}

/* All has come that was asked for. */
static void samples_done(struct link *l)
{
	if (!l->spots) {
		verified(l);
		return;
	}
	l->spots->sent = true;
	spots_compare(l->spots, l);
}

static uint64_t sampled_block(const struct link *l, unsigned i)
{
	return i < STATE_SAMPLES ? fingerprint_block(l->handshake.size_bytes, i) : l->spots->spot[i - STATE_SAMPLES].block;
}

/* Asks for the sampled blocks, and the spots, in the origin's own blocks. */
static void verify_begin(struct link *l)
{
	const struct nbd_client_handshake *h = &l->handshake;
	uint64_t unit = h->min_block > BLOCK_BYTES ? h->min_block : BLOCK_BYTES;
	unsigned i, n;

	l->phase = LINK_VERIFY;
	l->shaken = true;
	l->differs = false;
	memset(&l->fingerprint, 0, sizeof(l->fingerprint));
	l->spots = spots_new(origin_disk(l->origin), h->size_bytes);
	n = STATE_SAMPLES + (l->spots ? l->spots->count : 0);
	for (i = 0; h->size_bytes && i < n; i++) {
		uint64_t first = sampled_block(l, i) * BLOCK_BYTES / unit * unit;
		uint64_t rest = h->size_bytes - first;
		uint32_t length = (uint32_t)(rest < unit ? rest : unit);
		uint8_t *buf = malloc(length);
		struct pending *p = buf ? ask(l, NBD_CMD_READ, i + 1, first, length) : NULL;

		if (!p) {
			free(buf);
			l->starved = true;
			return;
		}
		p->kind = PENDING_SAMPLE;
		p->sample = (uint8_t)i;
		p->buf = buf;
	}
	if (!l->pending)
		samples_done(l);
}

/* A sample that the origin cannot read stays unknown. */
static void sample_done(struct link *l, const struct pending *p, int error)
{
	uint64_t size = l->handshake.size_bytes;
	uint64_t start = sampled_block(l, p->sample) * BLOCK_BYTES;
	uint64_t n = size - start < BLOCK_BYTES ? size - start : BLOCK_BYTES;

	if (error && l->adopted && l->phase == LINK_VERIFY) {
		free(p->buf);
		link_fail(l, "not all of a disk of this size can be read from it");
		return;
	}
	if (!error)
		*(p->sample < STATE_SAMPLES ? &l->fingerprint.sample[p->sample] : &l->spots->spot[p->sample - STATE_SAMPLES].sample) =
			fingerprint_sample(p->buf + (start - p->offset), (size_t)n);
	free(p->buf);
	if (!l->pending)
		samples_done(l);
}

/* ---- replies --------------------------------------------------------------------------- */

enum { PART_HEADER, PART_FIXED, PART_DATA, PART_SKIP, PART_EXTENTS };

static struct pending *pending_find(struct link *l, uint64_t cookie)
{
	struct pending *p = l->pending;

	while (p && p->cookie != cookie)
		p = p->next;
	return p;
}

static void pending_remove(struct link *l, struct pending *p)
{
	struct pending **q = &l->pending;

	while (*q != p)
		q = &(*q)->next;
	*q = p->next;
	if (!p->next)
		l->pending_tail = q;
}

/* The last chunk, or the only reply, has come. False: it was not a whole answer. */
static bool reply_end(struct link *l, struct pending *p)
{
	int error = p->error;

	if (error == ESHUTDOWN) { /* "MUST initiate a soft disconnect"; the next one is asked again */
		link_fail(l, "it is shutting down");
		return true;
	}
	if (!error && p->kind == PENDING_STATUS && !p->extents->count)
		return false;
	if (!error && p->kind != PENDING_STATUS && !nbd_gaps_filled(&p->gaps))
		return false;
	l->part = PART_HEADER;
	l->reply = NULL;
	pending_remove(l, p);
	if (p->kind == PENDING_SAMPLE)
		sample_done(l, p, error);
	else if (p->kind == PENDING_READ)
		core_link_data(origin_core(l->origin), l->slot, p->cookie, error);
	else
		core_link_status(origin_core(l->origin), p->cookie, error, p->extents->extent, p->extents->count);
	free(p);
	return true;
}

static bool chunk_end(struct link *l)
{
	l->part = PART_HEADER;
	if (l->head.structured && !(l->head.flags & NBD_REPLY_FLAG_DONE))
		return true;
	return reply_end(l, l->reply);
}

static bool simple_reply(struct link *l)
{
	struct pending *p = l->reply;

	if (l->head.error) {
		p->error = nbd_errno_from_error(l->head.error);
		return reply_end(l, p);
	}
	/* "Structured replies": once negotiated, READ is answered with nothing else. */
	if (p->kind == PENDING_STATUS || l->handshake.structured)
		return false;
	nbd_gaps_fill(&p->gaps, 0, p->length);
	l->data = p->buf;
	l->left = p->length;
	l->part = PART_DATA;
	return true;
}

/* The head of a chunk: how many bytes of fixed fields follow? */
static bool chunk_begin(struct link *l)
{
	const struct nbd_reply_header *h = &l->head;
	bool status = l->reply->kind == PENDING_STATUS;

	l->part = PART_FIXED;
	if (!l->handshake.structured)
		return false;
	if (h->type & NBD_REPLY_TYPE_ERR) {
		l->need = 6;
		return h->length >= 6 && h->length <= MESSAGE_MAX;
	}
	switch (h->type) {
	case NBD_REPLY_TYPE_NONE:
		return h->length == 0 && (h->flags & NBD_REPLY_FLAG_DONE) && chunk_end(l);
	case NBD_REPLY_TYPE_OFFSET_DATA:
		l->need = 8;
		return !status && h->length > 8;
	case NBD_REPLY_TYPE_OFFSET_HOLE:
		l->need = 12;
		return !status && h->length == 12;
	case NBD_REPLY_TYPE_BLOCK_STATUS:
		l->need = 4;
		return status && h->length >= 12 && h->length % 8 == 4;
	default:
		return false;
	}
}

/* The fixed fields of a chunk have come, at p. */
static bool chunk_fixed(struct link *l, const uint8_t *p)
{
	struct pending *r = l->reply;
	const struct nbd_reply_header *h = &l->head;
	uint64_t offset;
	uint32_t n;

	l->left = h->length - l->need;
	if (h->type & NBD_REPLY_TYPE_ERR) {
		r->error = nbd_errno_from_error(nbd_get32(p));
		l->part = PART_SKIP;
		return r->error != 0;
	}
	if (h->type == NBD_REPLY_TYPE_BLOCK_STATUS) {
		l->part = PART_EXTENTS;
		return nbd_get32(p) == l->handshake.allocation_id && !r->extents->count; /* one chunk for a context */
	}
	offset = nbd_get64(p);
	n = h->type == NBD_REPLY_TYPE_OFFSET_HOLE ? nbd_get32(p + 8) : l->left;
	if (offset < r->offset || !nbd_gaps_fill(&r->gaps, offset - r->offset, n))
		return false;
	l->data = r->buf + (offset - r->offset);
	l->part = PART_DATA;
	if (h->type == NBD_REPLY_TYPE_OFFSET_HOLE)
		memset(l->data, 0, n);
	return true;
}

/* Only the last one may go beyond what was asked for. */
static bool take_extent(struct link *l, const uint8_t *p)
{
	struct pending *r = l->reply;
	struct extents *e = r->extents;
	struct extent v = { .length = nbd_get32(p), .flags = nbd_get32(p + 4) };

	l->left -= 8;
	if (!v.length || !r->length)
		return false;
	r->length -= v.length < r->length ? v.length : r->length;
	if (e->count < EXTENTS_MAX)
		e->extent[e->count++] = v;
	return true;
}

/* Takes one part of what was received. 1: took something; 0: needs more; -1: this
 * is not NBD. */
static int take_part(struct link *l)
{
	uint8_t *p = l->in + l->in_first;
	uint32_t have = l->in_end - l->in_first;
	uint32_t n;
	int head;

	switch (l->part) {
	case PART_HEADER:
		head = nbd_reply_decode(p, have, &l->head);
		if (head <= 0)
			return head;
		l->in_first += (uint32_t)head;
		l->reply = pending_find(l, l->head.cookie);
		if (!l->reply)
			return -1;
		return (l->head.structured ? chunk_begin(l) : simple_reply(l)) ? 1 : -1;
	case PART_FIXED:
		if (have < l->need)
			return 0;
		l->in_first += l->need;
		return chunk_fixed(l, p) ? 1 : -1;
	case PART_EXTENTS:
		if (!l->left)
			return chunk_end(l) ? 1 : -1;
		if (have < 8)
			return 0;
		l->in_first += 8;
		return take_extent(l, p) ? 1 : -1;
	default: /* PART_DATA, PART_SKIP */
		if (!l->left)
			return chunk_end(l) ? 1 : -1;
		n = have < l->left ? have : l->left;
		if (l->part == PART_DATA) {
			memcpy(l->data, p, n);
			l->data += n;
		}
		l->in_first += n;
		l->left -= n;
		return n != 0;
	}
}

static void take_all(struct link *l)
{
	int took = 1;

	while (l->phase >= LINK_VERIFY && took > 0)
		took = take_part(l);
	if (l->phase >= LINK_VERIFY && took < 0)
		link_fail(l, "it broke the NBD protocol");
}

/* ---- receiving ------------------------------------------------------------------------- */

static void handshake_step(struct link *l)
{
	enum nbd_handshake_state state;
	size_t used;

	do {
		state = nbd_client_step(&l->handshake, l->in + l->in_first, l->in_end - l->in_first, &used);
		l->in_first += (uint32_t)used;
	} while (state == NBD_HS_MORE && used);
	if (state == NBD_HS_CLOSE) {
		char why[LINK_ERROR_BYTES];

		send(l->event.fd, l->out, l->out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT); /* OPT_ABORT */
		snprintf(why, sizeof(why), "%s", l->handshake.error);
		link_fail(l, why);
	} else if (state == NBD_HS_DONE) {
		l->phase = LINK_VERIFY;
		if (l->handshake.max_payload < (l->handshake.min_block > BLOCK_BYTES ? l->handshake.min_block : BLOCK_BYTES))
			link_fail(l, "its maximum request size is less than a block");
		else
			verify_begin(l);
	}
}

/* Data goes straight to where it is wanted; what is behind it to `in`. */
static ssize_t receive(struct link *l)
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
	if (l->phase >= LINK_VERIFY && l->part == PART_DATA && !l->in_end && l->left) {
		direct = l->left;
		v[m.msg_iovlen].iov_base = l->data;
		v[m.msg_iovlen++].iov_len = direct;
	}
	v[m.msg_iovlen].iov_base = l->in + l->in_end;
	v[m.msg_iovlen++].iov_len = IN_BYTES - l->in_end;
	n = recvmsg(l->event.fd, &m, MSG_DONTWAIT);
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

static void link_received(struct link *l)
{
	ssize_t n = receive(l);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		link_lost(l, n < 0 ? errno : 0);
		return;
	}
	l->progress_ms = loop_now_ms;
	if (l->phase == LINK_HANDSHAKE)
		handshake_step(l);
	take_all(l);
}

/* ---- connecting ------------------------------------------------------------------------- */

static void connected(struct link *l)
{
	const unsigned dead_ms = 20000;

	endpoint_keep(l->event.fd, 5);
	setsockopt(l->event.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
	l->phase = LINK_HANDSHAKE;
	timer_set(&l->timer, loop_now_ms + ATTEMPT_MS);
	l->want_out = false;
	event_set(&l->event, EPOLLIN);
	nbd_client_start(&l->handshake);
}

static void try_address(struct link *l, int error);

static void link_ready(struct event *e, uint32_t events)
{
	struct link *l = (struct link *)(void *)((char *)e - offsetof(struct link, event));

	if (l->phase == LINK_CONNECTING) {
		int error = 0;
		socklen_t n = sizeof(error);

		getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &error, &n);
		if (error)
			try_address(l, error);
		else
			connected(l);
	} else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		link_received(l);
	} /* EPOLLOUT: link_turn() */
}

static void drop_fd(struct link *l)
{
	if (l->event.fd < 0)
		return;
	event_remove(&l->event);
	close(l->event.fd);
	l->event.fd = -1;
}

/* True: connected or on the way. */
static bool begin_connect(struct link *l, const struct endpoint *e)
{
	l->event.fd = endpoint_socket(e);
	if (l->event.fd < 0)
		return false;
	l->event.ready = link_ready;
	l->phase = LINK_CONNECTING;
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
static void try_address(struct link *l, int error)
{
	drop_fd(l);
	while (l->tried < l->endpoints.count) {
		const struct endpoint *e = &l->endpoints.at[l->tried++];

		timer_set(&l->timer, loop_now_ms + (l->tried < l->endpoints.count ? CONNECT_MS : ATTEMPT_MS));
		if (begin_connect(l, e))
			return;
		error = errno;
	}
	link_fail(l, strerror(error));
}

static unsigned lookups; /* under way, also those whose attempt has been given up */

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

	r->ok = endpoints_find(&r->found, r->host, r->port);
}

static void resolve_done(struct job *j)
{
	struct resolving *r = (struct resolving *)j;
	struct link *l = r->link;

	lookups--;
	if (l) {
		l->resolving = NULL;
		l->endpoints = r->found;
		if (r->ok)
			try_address(l, 0);
		else
			link_fail(l, "no such host or port");
	}
	resolving_free(r);
}

static void resolve(struct link *l, const char *host, const char *port)
{
	struct resolving *r;

	if (lookups == LOOKUPS_MAX) {
		link_fail(l, "the name service does not answer");
		return;
	}
	r = calloc(1, sizeof(*r));
	if (r) {
		r->host = strdup(host);
		r->port = strdup(port);
	}
	if (!r || !r->host || !r->port) {
		resolving_free(r);
		link_fail(l, strerror(ENOMEM));
		return;
	}
	l->phase = LINK_RESOLVING;
	lookups++;
	l->resolving = r;
	r->link = l;
	r->job.run = resolve_run;
	r->job.done = resolve_done;
	r->job.class = JOB_SLOW;
	pool_submit(&r->job);
}

/* The oldest request is the first of the list. */
static bool is_silent(const struct link *l)
{
	return l->pending &&
	       (loop_now_ms > l->progress_ms + REPLY_MS || loop_now_ms > l->pending->asked_ms + OWED_MS);
}

static void link_timer(struct timer *t)
{
	struct link *l = (struct link *)(void *)((char *)t - offsetof(struct link, timer));

	if (l->phase == LINK_CONNECTING && l->tried < l->endpoints.count)
		try_address(l, ETIMEDOUT);
	else if (l->phase < LINK_UP)
		link_fail(l, l->phase == LINK_CONNECTING ? "it does not answer" : "it does not answer like an NBD server");
	else if (is_silent(l))
		link_fail(l, "it owes an answer and is silent");
	else {
		origin_link_steady(l->origin, l->slot);
		timer_set(t, loop_now_ms + CHECK_MS);
	}
}

/* False: no memory; the link has failed. */
static bool link_begin(struct link *l, const char *export_name)
{
	memset(&l->handshake, 0, sizeof(l->handshake));
	l->handshake.send = out_append;
	l->handshake.ctx = l;
	l->handshake.export_name = export_name;
	l->shaken = l->tripped = false;
	if (!l->in)
		l->in = malloc(IN_BYTES);
	if (!l->in) {
		link_fail(l, strerror(ENOMEM));
		return false;
	}
	l->part = PART_HEADER;
	l->timer.fire = link_timer;
	timer_set(&l->timer, loop_now_ms + ATTEMPT_MS);
	l->tried = l->endpoints.count = 0;
	l->adopted = false;
	return true;
}

void link_adopt(struct link *l, int fd, uint64_t size_bytes)
{
	if (!link_begin(l, "")) {
		close(fd);
		return;
	}
	l->event.fd = fd;
	l->event.ready = link_ready;
	if (!event_add(&l->event, EPOLLIN)) {
		close(fd);
		l->event.fd = -1;
		link_fail(l, "what was handed over is not a socket");
		return;
	}
	connected(l); /* its handshake is done elsewhere */
	l->adopted = true;
	l->handshake.size_bytes = size_bytes;
	l->handshake.min_block = 1;
	l->handshake.max_payload = NBD_PAYLOAD_MAX;
	verify_begin(l);
}

void link_connect(struct link *l, const char *host, const char *port, const char *export_name, bool plain)
{
	if (!link_begin(l, export_name))
		return;
	l->handshake.plain = plain;
	if (strncmp(host, "unix:", 5) == 0) {
		l->endpoints.count = 1;
		if (endpoint_unix(&l->endpoints.at[0], host + 5))
			try_address(l, 0);
		else
			link_fail(l, "its path is empty, or too long for a socket");
		return;
	}
	resolve(l, host, port);
}

void link_close(struct link *l)
{
	struct pending *p;

	if (l->phase >= LINK_VERIFY) {
		static const struct nbd_request_header disc = { .type = NBD_CMD_DISC };
		uint8_t raw[NBD_REQUEST_BYTES];

		nbd_request_encode(raw, &disc);
		if (!l->out_bytes) /* else it would land inside another request */
			send(l->event.fd, raw, sizeof(raw), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	drop_fd(l);
	timer_clear(&l->timer);
	if (l->resolving)
		l->resolving->link = NULL;
	l->resolving = NULL;
	if (l->spots && l->spots->sent)
		l->spots->link = NULL;
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
	l->phase = LINK_DOWN;
}
