/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Sessions: READs, from the moment that all their blocks are local.
 *
 * Data that a slow client does not take yet stays in the image: a buffer is taken, and filled, when
 * earlier replies have left. A READ for which there is memory enough is read in one go. The others
 * are read one after the other, each in pieces, of which the core has one at a time: so they come
 * in order.
 */
#include "client/session.h"

void command_ready(struct command *x)
{
	if (x->session->state == SESSION_CLOSED)
		command_put(x);
	else
		list_add(&x->session->ready, x);
}

/* The first of those that are ready has been read to its end, or as far as it can be. */
static void read_end(struct session *s)
{
	struct command *x = list_pop(&s->ready);

	s->open = false;
	if (x->begun && !s->handshake.structured) {
		request_done(x);
		if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
			command_left(x, loop_clock_us());
		command_put(x);
	} else {
		reply(x, x->error);
	}
	reply_release(s);
}

void read_piece_done(struct command *p)
{
	struct command *x = p->whole;
	struct session *s = x->session;

	s->reading = false;
	if (s->state == SESSION_CLOSED) { /* which has left x to us */
		command_put(p);
		command_put(x);
		return;
	}
	if (!x->error) {
		x->error = p->req.error;
		x->req.why = p->req.why;
	}
	if (x->error && !s->open) {
		command_put(p);
		read_end(s);
		return;
	}
	if (x->error && !s->handshake.structured) {
		/* Its length was promised, and no error can be told any more. */
		command_put(p);
		session_note_end(s, END_BROKEN);
		request_failed(x, x->error);
		s->broken = true;
		return;
	}
	if (x->error)
		memset(p->buf, 0, p->req.length);
	reply_piece(p);
	if (!x->rest)
		read_end(s);
}

/* False: it has to wait, for memory or for room in the socket. */
static bool read_step(struct session *s)
{
	struct command *x = s->ready.first;
	struct command *p = NULL;
	uint32_t n;

	if (x->req.type == NBD_CMD_WRITE) {
		list_pop(&s->ready);
		x->req.type = NBD_CMD_FLUSH;
		x->req.offset = x->req.length = 0;
		command_submit(x, false);
		return true;
	}
	if (out_is_full(s))
		return false;
	n = room_for(x, s->open ? !s->out.first : !s->read_bytes);
	if (n == x->req.length && command_room(x, n)) {
		p = list_pop(&s->ready);
	} else if (n && n != x->req.length) {
		p = command_piece(x, n);
		s->reading = p;
	}
	if (!p) {
		session_throttle(s);
		return false;
	}
	command_read(p);
	return true;
}

bool session_read(struct session *s)
{
	bool did = false;

	while (s->ready.first && !s->reading && read_step(s))
		did = true;
	return did;
}
