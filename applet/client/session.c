/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Sessions: one NBD client connection each.
 *
 *   HANDSHAKE -> TRANSMISSION -> DRAINING (DISC: answers what is in flight) -> CLOSED
 *
 * Any state leads to CLOSED when the connection is lost or the client breaks the protocol. End of input counts as DISC,
 * except that requests that wait for the origin are given up. A closed session has no descriptor, and counts neither
 * for --max-clients nor for shares of memory; it is freed when its last request is answered.
 *
 * One recvmsg takes as many requests as there are; their replies leave together with
 * one sendmsg at the end of the loop's turn. A request takes memory from the common
 * budget; when there is none for the next one, a session is not read.
 */
#include "origin/endpoint.h"
#include "client/session.h"

#include <sys/socket.h>

enum {
	LINGER_MS = 20, /* how often to look whether the kernel's TLS has sent the last of a session */
};

void session_mark(struct session *s)
{
	struct front *f = front_here();

	if (s->dirty)
		return;
	s->dirty = true;
	s->next_dirty = f->dirty;
	f->dirty = s;
}

static void session_unmark(struct session *s)
{
	struct session **p = &front_here()->dirty;

	if (!s->dirty)
		return;
	while (*p != s)
		p = &(*p)->next_dirty;
	*p = s->next_dirty;
	s->dirty = false;
}

static void session_watch(struct session *s, uint32_t events)
{
	if (s->watched == events || s->state == SESSION_CLOSED)
		return;
	s->watched = events;
	event_set(&s->event, events);
}

void session_throttle(struct session *s)
{
	if (s->throttled)
		return;
	s->throttled = true;
	front_here()->throttled++;
}

void session_unthrottle(struct session *s)
{
	if (s->throttled)
		front_here()->throttled--;
	s->throttled = false;
}

static struct export *listed(struct export *e)
{
	return e->base ? e->base : e;
}

void session_use(struct session *s, struct export *e)
{
	if (e) {
		export_hold(e);
		listed(e)->sessions++;
	}
	if (s->export) {
		listed(s->export)->sessions--;
		export_drop(s->export);
	}
	s->export = e;
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		s->tally = e ? export_tally(e) : NULL;
}

bool session_transmit(struct session *s)
{
	struct export *shared = s->export;

	if (ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT && export_is_copied(shared)) {
		s->export = export_copy(shared);
		if (!s->export) {
			s->export = shared;
			session_refused(s, REFUSED_MEMORY, NULL, 0);
			return false;
		}
		export_drop(shared);
	}
	s->state = SESSION_TRANSMISSION;
	client_begins(s);
	return true;
}

static void session_late(struct timer *t)
{
	struct session *s = container_of(t, struct session, deadline);

	if (ENABLE_FEATURE_XNBD_TLS_KERNEL && s->linger_ms) {
		session_mark(s);
		return;
	}
	session_note_end(s, END_STUCK);
	session_close(s);
}

/* Whether s, with nothing left to answer, has to stay until the kernel's TLS has sent it all; for this long at most. */
static bool session_lingers(struct session *s)
{
	if (!ENABLE_FEATURE_XNBD_TLS_KERNEL || !kernel_tls_is_sending(s->event.fd))
		return false;
	if (!s->linger_ms)
		s->linger_ms = loop_now_ms() + DRAIN_MS;
	timer_set(&s->deadline, loop_now_ms() + LINGER_MS);
	return loop_now_ms() < s->linger_ms;
}

/* ---- life ------------------------------------------------------------------------- */

bool session_process(struct session *s)
{
	if (session_is_ublk(s)) {
		ublk_parse(s);
		return true;
	}
	in_get(s); /* nothing may have come since it was given back: it is looked at all the same */
	if (s->state == SESSION_HANDSHAKE && !s->hang_up && !handshake_step(s))
		return false;
	if (s->state != SESSION_TRANSMISSION || s->throttled || s->backlogged)
		return true;
	if (ENABLE_FEATURE_XNBD_SERVER_THREADS && !s->is_placed) {
		s->is_placed = true;
		s->wanted = front_choose(LOOP_CORE);
		fronts[s->wanted].load++;
	}
	return session_moves(s) || session_parse(s);
}

void session_expire(struct session *s)
{
	timer_set(&s->deadline, loop_now_ms() + DRAIN_MS);
}

void session_drain(struct session *s)
{
	if (s->state != SESSION_TRANSMISSION)
		return;
	s->state = SESSION_DRAINING;
	payload_drop(s); /* not all of it has come, and no more will be read */
	if (!s->ended) /* somebody waits for the last answer of one that was handed over */
		session_expire(s);
	session_mark(s);
}

bool session_listens(const struct session *s)
{
	return s->state < SESSION_DRAINING && !s->throttled && !s->backlogged && !s->ready.first && !s->hang_up && !(ENABLE_FEATURE_XNBD_TLS && s->starts_tls) && !sessions_stopping && !session_moves(s);
}

bool session_end_of_input(struct session *s)
{
	session_note_end(s, END_HANG_UP);
	if (s->state != SESSION_TRANSMISSION)
		return false;
	session_drain(s);
	session_abandon(s);
	return true;
}

/* The client has closed its side while we do not read from it. What it has sent before, perhaps a DISC, may
 * still be unread: it gets DRAIN_MS for that, unless its place is needed. */
static void session_gone(struct session *s)
{
	char byte;
	ssize_t n;

	s->gone = true; /* it is not to be told again */
	if (s->state != SESSION_TRANSMISSION)
		return;
	session_expire(s);
	if (s->in_first != s->in_end)
		return;
	n = recv(s->event.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno == EIO)) /* the kernel's TLS: close_notify */
		session_end_of_input(s);
}

static void session_ready(struct event *e, uint32_t events)
{
	struct session *s = container_of(e, struct session, event);

	session_mark(s);
	s->batches = s->work = 0;
	if ((events & EPOLLIN) && (s->watched & EPOLLIN)) {
		if (!session_receive(s))
			session_close(s);
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		if (ENABLE_FEATURE_XNBD_SERVER_DEVICE && s->ended && !session_is_ublk(s) && s->state == SESSION_TRANSMISSION)
			s->disconnected = session_has_disc(s); /* it was not being read */
		session_close(s);
	} else if (events & EPOLLRDHUP) {
		session_gone(s);
	}
}

void session_enlist(struct session *s)
{
	struct front *f = front_here();

	s->prev = NULL;
	s->next = f->sessions;
	if (s->next)
		s->next->prev = s;
	f->sessions = s;
	sessions_watch();
}

static void session_delist(struct session *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		front_here()->sessions = s->next;
	if (s->next)
		s->next->prev = s->prev;
}

static void session_free(struct session *s)
{
	session_delist(s);
	fronts[LOOP_CORE].load -= s->is_placed;
	if (!session_count && s->export)
		core_alone(s->export->disk.core);
	if (s->ended)
		s->ended(s->ended_ctx);
	if (s->export)
		s->export->leaving--;
	session_use(s, NULL);
	if (ENABLE_FEATURE_XNBD_TLS)
		key_drop(s);
	free(s);
}

void session_close(struct session *s)
{
	if (s->state == SESSION_CLOSED)
		return;
	client_ends(s);
	session_count--;
	event_remove(&s->event);
	if (session_is_ublk(s)) {
		ublk_close(s);
	} else {
		if (ENABLE_FEATURE_XNBD_TLS_KERNEL)
			kernel_tls_end(s->event.fd);
		close(s->event.fd);
		in_get(s);
		free(s->in);
	}
	timer_clear(&s->deadline);
	free(s->hs_out);
	s->state = SESSION_CLOSED;
	if (s->export) {
		s->export->orphans += s->used_count;
		s->export->leaving++;
	}
	session_unthrottle(s);
	payload_drop(s);
	while (s->out.first)
		command_put(list_pop(&s->out));
	while (s->held.first)
		command_put(list_pop(&s->held));
	while (s->ready.first) {
		struct command *x = list_pop(&s->ready);

		if (!s->reading) /* else it goes with its piece */
			command_put(x);
		s->reading = false;
	}
	session_leave(s);
	session_mark(s);
}

static void session_arrived(struct message *m)
{
	struct session *s = container_of(m, struct session, move);

	session_enlist(s);
	if (is_core_here()) {
		fronts[s->front].load--;
		fronts[LOOP_CORE].load++;
		s->front = LOOP_CORE;
	}
	session_mark(s);
	if (s->state == SESSION_CLOSED)
		return;
	if (is_core_here() && session_is_ublk(s)) { /* the end: the kernel takes nothing from this thread */
		session_close(s);
		return;
	}
	if (s->deadline_ms)
		timer_set(&s->deadline, s->deadline_ms);
	if (!event_add(&s->event, s->watched) || !session_process(s))
		session_close(s);
}

void session_move(struct session *s)
{
	session_delist(s);
	session_unmark(s);
	session_unthrottle(s);
	s->deadline_ms = s->deadline.set ? s->deadline.at_ms : 0;
	timer_clear(&s->deadline);
	if (s->state != SESSION_CLOSED)
		event_remove(&s->event);
	if (s->state != SESSION_CLOSED && !session_is_ublk(s))
		in_get(s); /* it takes it along */
	if (is_core_here())
		s->front = s->wanted;
	s->loop = s->wanted;
	s->move.deliver = session_arrived;
	message_post(s->wanted, &s->move);
}

/* Closes fd when there is no memory, or it is nothing to wait for. */
struct session *session_new(int fd)
{
	struct session *s = calloc(1, sizeof(*s));
	char peer[PEER_BYTES];

	if (s) {
		s->in = malloc(RECV_BYTES);
		s->event.fd = fd;
		s->event.ready = session_ready;
		s->watched = EPOLLIN;
	}
	if (!s || !s->in || !handshake_init(s) || !event_add(&s->event, EPOLLIN)) {
		if (s) {
			free(s->in);
			free(s->hs_out);
		}
		free(s);
		peer_name(peer, fd, NULL);
		client_refused(peer, REFUSED_MEMORY, NULL, NULL, 0);
		close(fd);
		return NULL;
	}
	list_init(&s->out);
	list_init(&s->held);
	list_init(&s->ready);
	peer_name(s->peer, fd, NULL);
	session_enlist(s);
	session_count++;
	s->began_ms = s->since_ms = loop_now_ms();
	s->deadline.fire = session_late;
	return s;
}

struct session *session_begin(int fd, struct export *e)
{
	struct session *s = session_new(fd);

	if (!s)
		return NULL;
	endpoint_keep(fd, 10); /* seconds; a network switch that restarts is away for half a minute */
	if (e) {
		s->is_placed = true; /* whoever has handed it over keeps a pointer to it */
		fronts[LOOP_CORE].load++;
		session_use(s, e);
		if (!session_transmit(s)) {
			session_close(s);
			return NULL;
		}
	} else {
		handshake_greet(s);
	}
	return s;
}

void session_tell(struct session *s, void (*ended)(void *ctx), void *ctx)
{
	s->ended = ended;
	s->ended_ctx = ctx;
}

bool session_was_disconnected(const struct session *s)
{
	return s->disconnected;
}

int session_fd(const struct session *s)
{
	return s->event.fd;
}

void session_disown(struct session *s)
{
	s->ended = NULL;
	if (s->state == SESSION_DRAINING)
		session_expire(s);
}

/* There may be room for replies again: requests that waited for it go on, and are answered in this
 * turn; or in the next, so that a client that takes replies at once leaves time for others. False:
 * close it. */
static bool session_go_on(struct session *s)
{
	bool did;

	if (s->state == SESSION_CLOSED || out_is_full(s) || s->hs_out_bytes || s->batches == BATCHES_MAX)
		return true;
	did = session_read(s);
	if (!did && (!s->backlogged || s->ready.first))
		return true;
	s->batches++;
	session_mark(s);
	if (s->ready.first)
		return true;
	s->backlogged = false;
	return session_process(s);
}

void session_end_of_turn(struct session *s)
{
	uint32_t events = 0;

	if (session_moves(s)) {
		session_move(s);
		return;
	}
	if (s->broken || (s->state != SESSION_CLOSED && !session_send(s)) || !session_go_on(s))
		session_close(s);
	if (s->hang_up && !s->hs_out_bytes && s->state != SESSION_CLOSED && !session_lingers(s))
		session_close(s);
	if (ENABLE_FEATURE_XNBD_TLS && s->starts_tls && !s->hs_out_bytes && s->state != SESSION_CLOSED && !handshake_secure(s))
		session_close(s);
	if (s->state == SESSION_DRAINING && !s->commands && !session_lingers(s))
		session_close(s);
	if (s->state == SESSION_CLOSED) {
		if (s->commands || s->dirty)
			return;
		s->wanted = LOOP_CORE; /* where it began, it ends */
		if (is_core_here())
			session_free(s);
		else
			session_move(s);
		return;
	}
	in_put(s);
	if (s->out.first || s->hs_out_bytes || s->batches == BATCHES_MAX)
		events |= EPOLLOUT;
	if (session_listens(s))
		events |= EPOLLIN;
	if (!s->gone)
		events |= EPOLLRDHUP;
	session_watch(s, events);
}
