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
#include "server/session.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum {
	HANDSHAKE_MS = 10000,        /* a client has so long to get through it */
	HANDSHAKE_OUT_BYTES = 32768, /* replies it may leave unread before that and still ask
				        for more; one alone (a list) may be longer */
	DRAIN_MS = 30000,            /* after DISC, for what waits for the origin */
	HOARD_MS = 30000,            /* who holds memory that others wait for, and moves no
				        byte for so long, is given up */
	HOARD_CHECK_MS = 2000,
};

struct session *sessions;
unsigned session_count, xfer_count;
bool sessions_stopping;
static struct session *dirty;
static unsigned stalled_count;

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

void session_mark(struct session *s)
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
void session_stall(struct session *s)
{
	s->stalled = true;
	stalled_count++;
	if (!hoard_timer.set) /* not put off by one who tries again */
		timer_set(&hoard_timer, loop_now_ms + HOARD_CHECK_MS);
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

bool session_process(struct session *s)
{
	if (s->state == SESSION_HANDSHAKE && !s->hang_up && !handshake_step(s))
		return false;
	if (s->state == SESSION_TRANSMISSION && !s->stalled && !s->full)
		return session_parse(s);
	return true;
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
	if (!s->stalled && !s->full && !s->hang_up && !sessions_stopping && s->state != SESSION_DRAINING)
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

	sessions_stopping = true;
	for (s = sessions; s; s = s->next) {
		if (s->state == SESSION_HANDSHAKE)
			s->hang_up = true;
		session_mark(s);
		session_unpark(s);
		session_abandon(s);
	}
}
