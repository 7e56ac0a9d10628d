/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Sessions: hands them over to another program in the same process.
 *
 * A request that is not answered is done again from the beginning, no matter how far it has come, so nothing has to
 * finish first. To the client this looks like a slow server. Of a READ that goes out in pieces, and of a WRITE that
 * comes in pieces, what is left is done. Requests of clients that have gone are forgotten.
 *
 * A READ whose first pieces have left goes on at once: its blocks are local, whether the new program knows
 * that or not.
 */
#include "client/session.h"

/* What is copied as it is. */
#define SAME(type, member, first, handed, last) \
	_Static_assert(offsetof(struct type, member) - offsetof(struct type, first) == offsetof(struct handed, last), "as struct " #handed)
SAME(nbd_server_handshake, sized, got_client_flags, handed_handshake, sized);
SAME(nbd_server_handshake, skip_option, got_client_flags, handed_handshake, skip_option);
SAME(request, length, offset, handed_request, length);
SAME(request, flags, offset, handed_request, flags);
SAME(command, error, cookie, handed_progress, error);

enum { HEADER_BYTES = 1 + sizeof(((struct command *)0)->header) };
_Static_assert(HEADER_BYTES == 1 + sizeof(((struct handed_command *)0)->header), "as struct handed_command");

/* ---- writing --------------------------------------------------------------------------------- */

/* With the data that it has to send, or of what is to be written. */
static struct handed_command *command_hand(enum handed type, const struct command *x)
{
	const struct session *s = x->session;
	const uint8_t *p = x->data;
	uint32_t bytes = x->data_bytes;
	struct handed_command *r;

	if (!x->replied) {
		p = x->buf;
		bytes = p && x->req.type == NBD_CMD_WRITE ? x->buf_bytes : 0;
	}
	r = handover_put(type, p, bytes && x == s->piece ? s->piece_have : bytes);
	r->begun = x->begun;
	r->bytes = bytes;
	memcpy(&r->request, &x->req, sizeof(r->request));
	memcpy(&r->progress, &x->cookie, sizeof(r->progress));
	if (x->replied) /* else there is none */
		memcpy(&r->header_bytes, &x->header_bytes, HEADER_BYTES);
	return r;
}

static void replies_put(const struct command_list *l, bool held)
{
	const struct command *x;

	for (x = l->first; x; x = x->next_in_list)
		command_hand(HANDED_REPLY, x)->held = held;
}

static void request_put(const struct command *x)
{
	struct handed_command *r = command_hand(HANDED_REQUEST, x);
	const struct command *p = x->session->commands;
	/* Of a request that the core has; what it has done of it, others may have written since. */
	uint32_t left = x->submitted ? core_rest(&x->req) : x->req.length;

	r->payload = x == x->session->payload;
	if (x->req.type == NBD_CMD_READ) {
		while (p && (p->whole != x || p->replied)) /* the piece that the core has, if any */
			p = p->next;
		if (p) {
			r->progress.at = p->req.offset;
			r->progress.rest += p->req.length;
		}
	} else if (x->req.type == NBD_CMD_BLOCK_STATUS) {
		r->request.offset = x->at;
		r->bytes = x->buf ? x->buf_bytes : 0;
	} else if (x->req.type == NBD_CMD_WRITE && (r->payload || x->pieces || (x->buf && left))) {
		for (; p; p = p->next)
			if (p->whole == x && !p->replied) /* else of a READ that has ended, and was in the same place */
				command_hand(HANDED_PIECE, p);
	} else {
		r->bytes = 0;
		r->request.length = left;
		if (!left || x->req.type == NBD_CMD_WRITE) { /* all is done, and to be synced */
			memset(&r->request, 0, sizeof(r->request));
			r->request.type = NBD_CMD_FLUSH;
		}
	}
}

static void session_put(const struct session *s)
{
	struct handed_session *r = handover_put(HANDED_SESSION, s->in + s->in_first, s->in_end - s->in_first);
	const struct command *x = s->commands;

	r->fd = s->event.fd;
	r->open = s->open;
	r->hang_up = s->hang_up;
	r->is_owned = s->ended;
	r->disconnected = s->disconnected;
	memcpy(&r->handshake, &s->handshake.got_client_flags, sizeof(r->handshake));
	r->state = s->state;
	r->out_sent = s->out_sent;
	r->export = s->export ? s->export->nbd.serial : NO_EXPORT;
	r->meta = s->handshake.meta_serial;
	handover_put(HANDED_TEXT, s->hs_out, s->hs_out_bytes);
	handover_put(HANDED_TEXT, s->key ? s->key->name : NULL, s->key ? strlen(s->key->name) : 0);
	replies_put(&s->out, false);
	replies_put(&s->held, true);
	while (x && x->next)
		x = x->next;
	for (; x; x = x->prev) /* in the order in which they came */
		if (!x->replied && !x->whole)
			request_put(x);
}

/* Whether s is in the TLS handshake, which ends with this program, as a list does that was not read: whoever has shown no key,
 * perhaps a stranger who never will, cannot have all of us wait. */
static bool is_in_tls(const struct session *s)
{
	return ENABLE_FEATURE_XNBD_TLS && s->handshake.tls == NBD_TLS_DONE && !s->key;
}

static void sessions_put(void)
{
	const struct session *s;
	unsigned i;

	for (i = 0; i < front_count(); i++)
		for (s = fronts[i].sessions; s; s = s->next)
			/* The kernel keeps those of ublk. */
			if (s->state != SESSION_CLOSED && !s->broken && !session_is_ublk(s) && !is_in_tls(s) && !s->handshake.lists)
				session_put(s);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* NULL: there is no memory, or this cannot be: then s is broken. */
static struct command *command_restore(struct session *s, const struct handed_command *r)
{
	struct command *x = command_get(s);
	uint32_t n = (uint32_t)handover.more_bytes;

	s->broken = true;
	if (!x)
		return NULL;
	memcpy(&x->req, &r->request, sizeof(r->request));
	memcpy(&x->cookie, &r->progress, sizeof(r->progress));
	memcpy(&x->header_bytes, &r->header_bytes, HEADER_BYTES);
	x->begun = r->begun;
	if (r->bytes > BUF_BYTES_MAX || x->header_bytes > sizeof(x->header) || (r->bytes && (n > r->bytes || !command_room(x, r->bytes)))) {
		command_put(x);
		return NULL;
	}
	if (x->buf)
		memcpy(x->buf, handover.more, n);
	s->broken = false;
	return x;
}

static void reply_get(struct session *s, const struct handed_command *r)
{
	struct command *x = command_restore(s, r);

	if (!x)
		return;
	x->replied = true;
	x->data = x->buf;
	x->data_bytes = r->bytes;
	list_add(r->held ? &s->held : &s->out, x);
	if (!r->held)
		s->out_bytes += x->header_bytes + x->data_bytes;
}

/* x, data of a WRITE, is to be written, if all of it has come. */
static void data_get(struct session *s, struct command *x, struct command_list *whole)
{
	if (x->buf_bytes > handover.more_bytes) {
		s->piece = x;
		s->piece_have = (uint32_t)handover.more_bytes;
	} else {
		list_add(whole, x);
	}
}

/* The pieces of w, a WRITE. None is written before the last is there: the first that is done would be taken for it. */
static void write_get(struct session *s, struct command *w, const struct handed_command *r)
{
	const struct handed_command *q;
	struct command_list whole;

	list_init(&whole);
	if (w->buf)
		data_get(s, w, &whole);
	while (!s->broken && (q = handover_get(HANDED_PIECE))) {
		struct command *x = command_restore(s, q);

		if (!x)
			break;
		x->whole = w;
		w->pieces++;
		data_get(s, x, &whole);
		s->broken = !x->buf || x->req.type != NBD_CMD_WRITE || x->req.length != x->buf_bytes || session_check(s, &x->req);
	}
	if (r->payload) {
		s->payload = w;
	} else if (!w->pieces && !w->buf) { /* nothing of it is there */
		s->broken = true;
		command_put(w);
	}
	while (whole.first) {
		struct command *x = list_pop(&whole);

		s->broken ? command_done(x) : command_submit(x, false);
	}
}

static void request_get(struct session *s, const struct handed_command *r)
{
	struct command *x = command_restore(s, r);
	bool partly = r->request.type == NBD_CMD_WRITE;

	if (!x)
		return;
	if (r->request.type == NBD_CMD_READ)
		partly = r->begun || r->progress.rest != r->request.length;
	if (!request_admit(s, x)) {
		s->broken = true;
	} else if (!partly) {
		request_begin(x);
	} else if ((x->error && !r->progress.error) || (r->progress.rest && r->progress.at + r->progress.rest != r->request.offset + r->request.length)) {
		s->broken = true; /* the core has found it good before */
		command_put(x);
	} else {
		memcpy(&x->cookie, &r->progress, sizeof(r->progress));
		if (r->request.type == NBD_CMD_WRITE) {
			write_get(s, x, r);
		} else {
			command_room_put(x);
			/* First: older ones may be ready by now, and none may come between the pieces of its reply. */
			x->next_in_list = s->ready.first;
			if (!s->ready.first)
				s->ready.tail = &x->next_in_list;
			s->ready.first = x;
		}
	}
}

/* What has come is taken, and what was not answered is done again. */
static void session_get(struct session *s, const struct handed_session *r)
{
	const struct handed_command *q;

	session_use(s, export_by_serial(r->export));
	session_mark(s);
	s->broken = handover.more_bytes > RECV_BYTES || r->state > SESSION_DRAINING || (r->state != SESSION_HANDSHAKE && !s->export);
	if (s->broken)
		return;
	s->in_end = (uint32_t)handover.more_bytes;
	memcpy(s->in, handover.more, s->in_end);
	s->open = r->open;
	s->hang_up = r->hang_up;
	s->disconnected = r->disconnected;
	s->state = r->state;
	s->out_sent = r->out_sent;
	memcpy(&s->handshake.got_client_flags, &r->handshake, sizeof(r->handshake));
	s->handshake.meta_serial = r->meta;
	if (r->is_owned) { /* and stays with this thread */
		s->is_placed = true;
		fronts[LOOP_CORE].load++;
		session_tell(s, session_unclaimed, NULL);
	} else if (s->state == SESSION_DRAINING) {
		session_expire(s);
	}
	if (handover_get(HANDED_TEXT) && handover.more_bytes)
		handshake_send(s, handover.more, handover.more_bytes);
	if (handover_get(HANDED_TEXT) && handover.more_bytes && ENABLE_FEATURE_XNBD_TLS) {
		s->handshake.tls = NBD_TLS_DONE;
		s->broken = !key_hold(s, handover.more);
	}
	while (!s->broken && (q = handover_get(HANDED_REPLY)))
		reply_get(s, q);
	while (!s->broken && (q = handover_get(HANDED_REQUEST)))
		request_get(s, q);
	if (!s->broken && !session_process(s))
		session_close(s);
}

void session_unclaimed(void *ctx UNUSED_PARAM)
{
}

void sessions_handover(void)
{
	const struct handed_session *r;

	if (!handover.reads)
		sessions_put();
	while (handover.reads && (r = handover_get(HANDED_SESSION))) {
		struct session *s = session_new(r->fd);

		if (s)
			session_get(s, r);
		handover_get(HANDED_TEXT); /* of who is broken: these two */
		handover_get(HANDED_TEXT);
		handover_skip(HANDED_REPLY);
	}
}

struct session *session_claim(int fd)
{
	struct session *s = front_here()->sessions;

	while (s && (s->state == SESSION_CLOSED || s->event.fd != fd || s->ended != session_unclaimed))
		s = s->next;
	return s;
}
