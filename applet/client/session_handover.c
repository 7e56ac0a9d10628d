/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Sessions: what another program needs to go on with them, in the same process.
 *
 * A request that is not answered is done again from the beginning, whatever has been done of it: so nothing has to
 * come to its end before. The client cannot tell, as with a server that was slow. Of a READ that goes out in
 * pieces, and of a WRITE that comes in pieces, what is left is done. Requests of clients that have gone
 * are forgotten.
 *
 * A READ whose first pieces have left goes on at once: its blocks are local, whether the new program knows
 * that or not.
 */
#include "client/session.h"

enum {
	NO_EXPORT = UINT32_MAX,
	GREETING_BYTES_MAX = 64 << 20, /* a list of exports may be long */
	TYPE_NONE = UINT16_MAX, /* behind the last request */
};

/* ---- writing --------------------------------------------------------------------------------- */

static void put_replies(struct handover *h, const struct command_list *l, uint32_t sent)
{
	const struct command *x;

	for (x = l->first; x; x = x->next_in_list) {
		uint32_t head = sent < x->header_bytes ? sent : x->header_bytes;
		uint32_t data = sent - head;

		handover_put(h, true);
		handover_put_bytes(h, x->header + head, x->header_bytes - head);
		handover_put_bytes(h, x->data + data, x->data_bytes - data);
		sent = 0;
	}
	handover_put(h, false);
}

static void put_head(struct handover *h, const struct command *x, uint16_t type, uint64_t offset, uint32_t length)
{
	handover_put(h, type);
	handover_put(h, x->cookie);
	handover_put(h, type == NBD_CMD_FLUSH ? 0 : x->req.flags); /* which may be those of a WRITE */
	handover_put(h, offset);
	handover_put(h, length);
}

static void put_read(struct handover *h, const struct command *x)
{
	const struct session *s = x->session;
	const struct command *p;
	uint64_t at = x->at;

	for (p = s->commands; p; p = p->next) /* the piece that the core has, if any */
		if (p->whole == x && !p->replied)
			at = p->req.offset;
	put_head(h, x, NBD_CMD_READ, x->req.offset, x->req.length);
	handover_put(h, at - x->req.offset);
	handover_put(h, x->begun);
	handover_put(h, x->error);
}

/* What has come of the data of a WRITE, or of a piece of it. */
static void put_data(struct handover *h, const struct command *x)
{
	const struct session *s = x->session;
	bool comes = x == s->piece;

	handover_put(h, true);
	handover_put(h, x->req.offset);
	handover_put(h, x->buf_bytes);
	handover_put(h, comes);
	handover_put_bytes(h, x->buf, comes ? s->piece_have : x->buf_bytes);
}

static void put_write(struct handover *h, const struct command *x)
{
	const struct session *s = x->session;
	const struct command *p;

	put_head(h, x, NBD_CMD_WRITE, x->req.offset, x->req.length);
	handover_put(h, x->rest);
	handover_put(h, x->error);
	handover_put(h, x == s->payload);
	if (x->buf)
		put_data(h, x);
	for (p = s->commands; p; p = p->next)
		if (p->whole == x)
			put_data(h, p);
	handover_put(h, false);
}

static void put_request(struct handover *h, const struct command *x)
{
	bool comes = x == x->session->payload;
	uint64_t offset = x->at;
	uint32_t rest = x->rest;

	if (x->submitted && x->req.type != NBD_CMD_READ) /* what is done of it may have been written by others since */
		rest = core_rest(&x->req, &offset);
	if (x->req.type == NBD_CMD_READ)
		put_read(h, x);
	else if (x->req.type == NBD_CMD_WRITE && (comes || x->pieces || (x->buf && (rest || !x->submitted))))
		put_write(h, x);
	else if (x->req.type == NBD_CMD_WRITE || x->req.type == NBD_CMD_FLUSH) /* all is written, and to be synced */
		put_head(h, x, NBD_CMD_FLUSH, 0, 0);
	else if (x->req.type == NBD_CMD_BLOCK_STATUS)
		put_head(h, x, x->req.type, x->at, x->req.length);
	else
		put_head(h, x, x->submitted && !rest ? NBD_CMD_FLUSH : x->req.type, offset, rest);
}

static void put_handshake(struct handover *h, const struct nbd_server_handshake *hs)
{
	const struct export *e = exports;

	while (e && &e->nbd != hs->meta_export) /* which nobody holds: it may be gone */
		e = e->next;
	handover_put(h, hs->got_client_flags);
	handover_put(h, hs->fixed);
	handover_put(h, hs->structured);
	handover_put(h, hs->allocation);
	handover_put(h, hs->local);
	handover_put(h, hs->sized);
	handover_put(h, hs->skip_bytes);
	handover_put(h, hs->skip_option);
	handover_put(h, e ? e->serial : NO_EXPORT);
}

static void put_session(struct handover *h, const struct session *s)
{
	const struct command *x = s->commands;

	handover_put(h, true);
	handover_put_fd(h, s->event.fd);
	handover_put(h, s->state);
	handover_put(h, s->export ? s->export->serial : NO_EXPORT);
	handover_put(h, s->ended != NULL);
	handover_put(h, s->gone);
	handover_put(h, s->open);
	put_handshake(h, &s->handshake);
	handover_put_bytes(h, s->hs_out, s->hs_out_bytes);
	handover_put_bytes(h, s->in + s->in_first, s->in_end - s->in_first);
	put_replies(h, &s->out, s->out_sent);
	put_replies(h, &s->held, 0);
	while (x && x->next)
		x = x->next;
	for (; x; x = x->prev) /* in the order in which they came */
		if (!x->replied && !x->whole)
			put_request(h, x);
	handover_put(h, TYPE_NONE);
	handover_put(h, s->hang_up); /* when all that was said before has left */
}

void sessions_put(struct handover *h)
{
	const struct session *s;
	unsigned i;

	for (i = 0; i < front_count(); i++)
		for (s = fronts[i].sessions; s; s = s->next)
			if (s->state != SESSION_CLOSED)
				put_session(h, s);
	handover_put(h, false);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* s: NULL in a trial. */
static void get_replies(struct handover *h, struct session *s, struct command_list *l)
{
	while (handover_get_number(h, true)) {
		size_t head_bytes, data_bytes;
		struct command *x = NULL;
		const uint8_t *head = handover_get_bytes(h, &head_bytes, sizeof(x->header));
		const uint8_t *data = handover_get_bytes(h, &data_bytes, BUF_BYTES_MAX);

		if (h->bad || !s)
			continue;
		x = command_get(s);
		if (!x)
			break;
		x->req.type = NBD_CMD_READ; /* its memory counts as that of one */
		x->replied = true;
		if (data_bytes && command_room(x, (uint32_t)data_bytes)) {
			x->data = memcpy(x->buf, data, data_bytes);
			x->data_bytes = (uint32_t)data_bytes;
		}
		s->broken |= x->data_bytes != data_bytes;
		memcpy(x->header, head, head_bytes);
		x->header_bytes = (uint8_t)head_bytes;
		list_add(l, x);
		if (l == &s->out)
			s->out_bytes += x->header_bytes + x->data_bytes;
	}
}

/* Whether x may be done, as the core has found before. */
static bool is_sound(const struct command *x)
{
	struct session *s = x->session;

	if (x->error || !session_check(s, &x->req))
		return true;
	s->broken = true;
	return false;
}

/* NULL: in a trial, or without memory. */
static struct command *get_head(struct handover *h, struct session *s, uint16_t type)
{
	uint64_t cookie = handover_get(h);
	uint16_t flags = (uint16_t)handover_get_number(h, UINT16_MAX);
	uint64_t offset = handover_get(h);
	uint32_t length = handover_get_number(h, UINT32_MAX);
	struct command *x = h->bad || !s ? NULL : command_get(s);

	if (!x) {
		if (s)
			s->broken = true;
		return NULL;
	}
	x->cookie = cookie;
	x->req.type = type;
	x->req.flags = flags;
	x->req.offset = x->at = offset;
	x->req.length = x->rest = length;
	return x;
}

static void get_read(struct handover *h, struct session *s)
{
	struct command *x = get_head(h, s, NBD_CMD_READ);
	uint32_t done = handover_get_number(h, x ? x->req.length : UINT32_MAX);
	bool begun = handover_get_number(h, true);
	uint32_t error = handover_get_number(h, UINT32_MAX);

	if (!x)
		return;
	x->at += done;
	x->rest -= done;
	x->begun = begun;
	x->error = error;
	if (!is_sound(x))
		return;
	if (begun || done)
		list_add(&s->ready, x);
	else
		command_submit(x, false);
}

/* A piece of w, or all of it. NULL: in a trial, or without memory. */
static struct command *get_data(struct handover *h, struct command *w, bool *comes, size_t *have)
{
	uint64_t offset = handover_get(h);
	uint32_t bytes = handover_get_number(h, BUF_BYTES_MAX);
	const uint8_t *data;
	struct command *x = w;

	*comes = handover_get_number(h, true);
	data = handover_get_bytes(h, have, bytes);
	if (!w || h->bad || !bytes)
		return NULL;
	if (bytes != w->req.length && (x = command_get(w->session))) {
		x->req.type = NBD_CMD_WRITE;
		x->req.flags = w->req.flags & (uint16_t)~NBD_CMD_FLAG_FUA;
		x->req.offset = offset;
		x->req.length = bytes;
		x->whole = w;
		x->cookie = w->cookie;
		w->pieces++;
	}
	if (!x || !command_room(x, bytes))
		return NULL;
	memcpy(x->buf, data, *have);
	return x;
}

static void get_write(struct handover *h, struct session *s)
{
	struct command *w = get_head(h, s, NBD_CMD_WRITE);
	uint32_t rest = handover_get_number(h, w ? w->req.length : UINT32_MAX);
	uint32_t error = handover_get_number(h, UINT32_MAX);
	bool payload = handover_get_number(h, true);
	struct command_list all;

	list_init(&all);
	if (w) {
		w->rest = rest;
		w->at = w->req.offset + w->req.length - rest;
		w->error = error;
		if (payload)
			s->payload = w;
	}
	while (handover_get_number(h, true)) {
		bool comes;
		size_t have;
		struct command *x = get_data(h, w, &comes, &have);

		if (!x && s)
			s->broken = true;
		if (!x)
			continue;
		if (!comes) {
			list_add(&all, x);
			continue;
		}
		s->piece = x;
		s->piece_have = (uint32_t)have;
	}
	/* The first that is done must not take the last for it: only now. */
	while (all.first) {
		struct command *x = list_pop(&all);

		if (is_sound(x))
			command_submit(x, false);
	}
}

static void get_request(struct handover *h, struct session *s, uint16_t type)
{
	struct command *x;

	if (type == NBD_CMD_READ) {
		get_read(h, s);
		return;
	}
	if (type == NBD_CMD_WRITE) {
		get_write(h, s);
		return;
	}
	x = get_head(h, s, type);
	if (!x)
		return;
	x->error = session_check(s, &x->req);
	if (!x->error && type == NBD_CMD_BLOCK_STATUS && !command_room(x, status_bytes(&s->handshake)))
		x->error = NBD_ENOMEM;
	if (x->error)
		reply(x, x->error);
	else
		command_submit(x, false);
}

static void get_handshake(struct handover *h, struct nbd_server_handshake *hs)
{
	const struct export *e;

	hs->got_client_flags = handover_get_number(h, true);
	hs->fixed = handover_get_number(h, true);
	hs->structured = handover_get_number(h, true);
	hs->allocation = handover_get_number(h, true);
	hs->local = handover_get_number(h, true);
	hs->sized = handover_get_number(h, true);
	hs->skip_bytes = handover_get_number(h, UINT32_MAX);
	hs->skip_option = handover_get_number(h, UINT32_MAX);
	e = export_by_serial(handover_get(h));
	hs->meta_export = e ? &e->nbd : NULL;
	h->bad |= hs->structured && !ENABLE_FEATURE_XNBD_SERVER_STRUCTURED; /* its client would not understand us */
}

/* What stays as it is while requests are done again. */
static void get_life(struct handover *h, struct session *s)
{
	struct nbd_server_handshake trial = { 0 }, *hs = s ? &s->handshake : &trial;
	enum session_state state = handover_get_number(h, SESSION_DRAINING);
	struct export *e = export_by_serial(handover_get(h));
	bool placed = handover_get_number(h, true); /* somebody of the core's thread has a pointer to it */
	bool gone = handover_get_number(h, true);
	bool open = handover_get_number(h, true);

	get_handshake(h, hs);
	if (!s)
		return;
	session_use(s, e);
	s->state = state == SESSION_DRAINING ? SESSION_TRANSMISSION : state;
	s->gone = gone;
	s->open = open;
	s->broken = state != SESSION_HANDSHAKE && !e;
	s->is_placed = placed;
	if (placed)
		fronts[LOOP_CORE].load++;
	if (state == SESSION_DRAINING)
		session_drain(s);
	if (placed) /* whoever has the pointer waits for the last answer */
		timer_clear(&s->deadline);
	else if (gone)
		session_expire(s);
}

static void get_bytes(struct handover *h, struct session *s)
{
	size_t out_bytes, in_bytes;
	const uint8_t *out = handover_get_bytes(h, &out_bytes, GREETING_BYTES_MAX);
	const uint8_t *in = handover_get_bytes(h, &in_bytes, RECV_BYTES);

	if (!s || h->bad)
		return;
	if (out_bytes)
		handshake_send(s, out, out_bytes);
	memcpy(s->in, in, in_bytes);
	s->in_end = (uint32_t)in_bytes;
}

static void get_session(struct handover *h)
{
	int fd = handover_get_fd(h);
	struct session *s = h->trial || h->bad ? NULL : session_new(fd);
	uint16_t type;
	bool hang_up;

	get_life(h, s);
	get_bytes(h, s);
	get_replies(h, s, s ? &s->out : NULL);
	get_replies(h, s, s ? &s->held : NULL);
	while (!h->bad && (type = (uint16_t)handover_get_number(h, UINT16_MAX)) != TYPE_NONE)
		get_request(h, s && !s->broken ? s : NULL, type);
	hang_up = handover_get_number(h, true);
	if (!s)
		return;
	s->hang_up |= hang_up;
	session_mark(s);
	if (!s->broken && !session_process(s))
		session_close(s);
}

void sessions_get(struct handover *h)
{
	while (handover_get_number(h, true))
		get_session(h);
}

struct session *session_on(int fd)
{
	struct session *s = front_here()->sessions;

	while (s && (s->state == SESSION_CLOSED || s->event.fd != fd))
		s = s->next;
	return s;
}

int session_fd(const struct session *s)
{
	return s->event.fd;
}
