/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A session's handshake: what nbd/server_handshake.c gets from the client, sends, and finds. */
#include "client/session.h"
#include "secure/relay.h"

enum {
	OUT_ROOM_BYTES = 32768, /* replies to options that a client may leave unread and still
				   ask for more */
	LIST_ROOM_BYTES = OUT_ROOM_BYTES / 2, /* ... and its list go on: by one name and its description at a time */
	STEPS_MAX = 32,         /* options that it may send without waiting for an answer */
	WALK_STEPS = 16,        /* what a list of all exports counts for: ten thousand of them, each with keys, take
				   milliseconds, and all other clients wait */
};

static unsigned steps; /* of the handshake_step() that runs */

void handshake_send(void *ctx, const void *p, size_t n)
{
	struct session *s = ctx;

	if (s->hang_up)
		return;
	if (s->hs_out_bytes + n > s->hs_out_room) {
		uint32_t room = 2 * (s->hs_out_bytes + (uint32_t)n);
		uint8_t *out = bb_grow(s->hs_out, s->hs_out_bytes, room);

		if (!out) {
			session_note_end(s, END_MEMORY);
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

/* INFO and GO of one client say the same, also when another client has come between. */
static struct export *renewed_for(const struct session *s, struct export *e)
{
	if (s->export && s->export->replaced && strcmp(s->export->nbd.name, e->nbd.name) == 0)
		return s->export;
	return s->export == e ? e : export_current(e);
}

static const struct nbd_export *handshake_find(void *ctx, const char *name, size_t n)
{
	struct session *s = ctx;
	struct export *e = export_find(name, n);

	if (!e) {
		session_refused(s, REFUSED_NAME, name, n);
		return NULL;
	}
	if (!ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY || key_may(s, e->nbd.name)) {
		if (ENABLE_FEATURE_XNBD_SERVER_RENEW)
			e = renewed_for(s, e);
		session_use(s, e);
	}
	return &e->nbd;
}

static bool handshake_may(void *ctx, const struct nbd_export *e, bool told)
{
	if (!ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY || key_may(ctx, e->name))
		return true;
	if (told)
		session_refused(ctx, REFUSED_KEY, e->name, strlen(e->name));
	return false;
}

static const struct nbd_export *handshake_list(void *ctx UNUSED_PARAM, const struct nbd_export *after, uint64_t from)
{
	const struct export *e = after ? container_of(after, const struct export, nbd)->next : exports;

	if (!after)
		steps += WALK_STEPS - 1;
	while (e && (e->removed || e->nbd.serial < from))
		e = e->next;
	return e ? &e->nbd : NULL;
}

static bool handshake_has_room(void *ctx)
{
	return ((const struct session *)ctx)->hs_out_bytes <= LIST_ROOM_BYTES;
}

static const struct nbd_server_ops handshake_ops = {
	.send = handshake_send,
	.find = handshake_find,
	.list = handshake_list,
	.has_room = handshake_has_room,
	.may = ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY ? handshake_may : NULL,
};

/* Whether the last option, which began here, is one to end the handshake. */
static bool is_abort(const struct session *s, uint32_t at)
{
	return s->handshake.got_client_flags && s->in_end - at >= 16 && nbd_get32(s->in + at + 8) == NBD_OPT_ABORT;
}

bool handshake_step(struct session *s)
{
	enum nbd_handshake_state state = NBD_HS_CLOSE;
	uint32_t before;
	size_t used;

	steps = 0;
	do {
		before = s->in_first;
		if ((s->hs_out_bytes > OUT_ROOM_BYTES || ++steps > STEPS_MAX) && s->in_first < s->in_end) {
			session_note_end(s, END_STUCK);
			s->hang_up = true; /* it asks and asks, and never reads */
			break;
		}
		state = nbd_server_step(&s->handshake, s->in + s->in_first, s->in_end - s->in_first, &used);
		s->in_first += (uint32_t)used;
	} while (state == NBD_HS_MORE && used);
	s->backlogged = s->handshake.lists; /* until its replies have left */
	if (state == NBD_HS_CLOSE || s->hang_up) {
		session_note_end(s, is_abort(s, before) ? END_ABORT : END_PROTOCOL);
		s->hang_up = true;
		session_mark(s);
		return s->hs_out_bytes != 0;
	}
	if (state == NBD_HS_DONE && !session_transmit(s))
		return false;
	s->starts_tls = ENABLE_FEATURE_XNBD_TLS && state == NBD_HS_TLS;
	return !s->starts_tls || s->in_first == s->in_end;
}

bool handshake_secure(struct session *s)
{
	int fd = -1;

	event_remove(&s->event); /* it is another thread's soon */
	/* Those whose session has gone, and which still send, are not more than those that have one. */
	if (!client_limits.sessions || relays_serving() < 2 * client_limits.sessions)
		fd = relay_begin(s->event.fd, NULL, s->peer, session_peer_is_dead);
	if (fd < 0) {
		session_refused(s, REFUSED_RELAY, NULL, 0);
		return false;
	}
	/* What was asked for in cleartext may have been asked for by somebody else: see starttls() of
	 * nbd/server_handshake.c. */
	session_use(s, NULL);
	s->was_refused = false;
	s->event.fd = fd;
	s->starts_tls = false;
	s->securing = true;
	return event_add(&s->event, s->watched);
}

bool handshake_secured(struct session *s)
{
	char text[RELAY_TEXT_BYTES]; /* of a failure: the relay has told */
	int fd = relay_result(s->event.fd, text);

	s->securing = false;
	if (fd < 0) {
		session_refused(s, REFUSED_HANDSHAKE, NULL, 0);
		return false;
	}
	if (fd != s->event.fd) {
		event_remove(&s->event);
		close(s->event.fd);
		s->event.fd = fd;
		if (!event_add(&s->event, s->watched))
			return false;
	}
	return key_hold(s, text);
}

bool handshake_init(struct session *s)
{
	s->handshake.ops = &handshake_ops;
	s->handshake.ctx = s;
	s->handshake.tls = client_limits.tls;
	s->handshake.hides = ENABLE_FEATURE_XNBD_EXPORT_NAMES && client_limits.hides;
	s->hs_out = malloc(OUT_ROOM_BYTES);
	s->hs_out_room = OUT_ROOM_BYTES;
	return s->hs_out;
}

void handshake_greet(struct session *s)
{
	if (ENABLE_FEATURE_XNBD_SERVER_OLDSTYLE && client_limits.oldstyle) {
		nbd_server_greet_oldstyle(&s->handshake, handshake_find(s, "", 0));
		if (!session_transmit(s))
			s->hang_up = true;
	} else {
		nbd_server_greet(&s->handshake);
	}
}
