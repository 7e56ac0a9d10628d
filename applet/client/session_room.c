/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Sessions: requests, the memory for their data, and who may have it. */
#include "client/session.h"

enum {
	COMMAND_SPARE = 512,          /* kept for the next requests */
	RESERVE_BYTES = 32 << 10,  /* what a session may have in each direction when others have
				      spent the budget: so each goes on, slowly */
	/* For an export whose disk hangs: each of these may hold memory. */
	ORPHANS_MAX = 256, /* requests of clients that have gone; from here on, other clients have one at a time */
	LEAVING_MAX = 256, /* clients that have gone and left such; from here on, no request is taken */
};

void list_init(struct command_list *l)
{
	l->first = NULL;
	l->tail = &l->first;
}

void list_add(struct command_list *l, struct command *x)
{
	x->next_in_list = NULL;
	*l->tail = x;
	l->tail = &x->next_in_list;
}

struct command *list_pop(struct command_list *l)
{
	struct command *x = l->first;

	l->first = x->next_in_list;
	if (!l->first)
		l->tail = &l->first;
	return x;
}

/* ---- requests --------------------------------------------------------------------- */

struct command *command_get(struct session *s)
{
	struct front *f = front_here();
	struct command *x = f->spare;

	if (x) {
		f->spare = x->next;
		f->spare_count--;
	} else {
		x = malloc(sizeof(*x));
		if (!x)
			return NULL;
	}
	x->session = s;
	x->req.owner = s;
	x->buf = x->req.buf = x->data = NULL;
	x->whole = NULL;
	x->pieces = 0;
	x->begun = x->replied = x->submitted = x->is_timed = false;
	x->error = 0;
	x->data_bytes = x->hole_bytes = 0;
	x->req.why = NULL;
	x->prev = NULL;
	x->next = s->commands;
	if (s->commands)
		s->commands->prev = x;
	s->commands = x;
	s->used_count++;
	command_count++;
	return x;
}

void command_put(struct command *x)
{
	struct front *f = front_here();
	struct session *s = x->session;

	command_room_put(x);
	if (x->prev)
		x->prev->next = x->next;
	else
		s->commands = x->next;
	if (x->next)
		x->next->prev = x->prev;
	s->used_count--;
	if (s->state == SESSION_CLOSED)
		s->export->orphans--;
	command_count--;
	if (f->spare_count < COMMAND_SPARE) {
		x->next = f->spare;
		f->spare = x;
		f->spare_count++;
	} else {
		free(x);
	}
}

/* ---- receive buffers ----------------------------------------------------------------- */

void in_get(struct session *s)
{
	struct front *f = front_here();

	if (s->in)
		return;
	s->in = f->unused_in;
	memcpy(&f->unused_in, s->in, sizeof(f->unused_in));
}

void in_put(struct session *s)
{
	struct front *f = front_here();

	if (!s->in || s->in_first != s->in_end)
		return;
	memcpy(s->in, &f->unused_in, sizeof(f->unused_in));
	f->unused_in = s->in;
	s->in = NULL;
	s->in_first = s->in_end = 0;
}

/* ---- memory ------------------------------------------------------------------------- */

static uint32_t *bytes_of(struct command *x)
{
	return x->req.type == NBD_CMD_WRITE ? &x->session->write_bytes : &x->session->read_bytes;
}

bool command_room(struct command *x, uint32_t n)
{
	x->buf = buf_get(n);
	if (!x->buf)
		return false;
	x->req.buf = x->buf;
	x->buf_bytes = n;
	*bytes_of(x) += buf_size(n);
	return true;
}

void command_room_put(struct command *x)
{
	if (!x->buf)
		return;
	buf_put(x->buf, x->buf_bytes);
	*bytes_of(x) -= buf_size(x->buf_bytes);
	x->buf = NULL;
}

struct command *command_piece(struct command *whole, uint32_t n)
{
	struct command *p = command_get(whole->session);

	if (!p)
		return NULL;
	p->req.type = whole->req.type;
	p->req.flags = whole->req.flags & (uint16_t)~NBD_CMD_FLAG_FUA;
	p->req.offset = whole->at;
	p->req.length = n;
	if (!command_room(p, n)) {
		command_put(p);
		return NULL;
	}
	p->whole = whole;
	p->cookie = whole->cookie;
	whole->at += n;
	whole->rest -= n;
	whole->pieces++;
	return p;
}

/*
 * Whether a buffer for n more bytes fits into what all sessions share: the budget less what each
 * may have in any case. The first half of it is for whoever comes; beyond that, each session is
 * held to an equal share. (Buffers for what comes from an origin count, too, and have limits of
 * their own: FETCH_WINDOW_BYTES, and COPY_WINDOW_GROWTH and CLIENT_WINDOW_GROWTH when the connection has
 * a delay.)
 */
static bool fits(const struct session *s, uint32_t n)
{
	uint64_t reserve = (uint64_t)session_count * 2 * RESERVE_BYTES;
	uint64_t margin = (uint64_t)(front_count() - 1) * PIECE_BYTES; /* what others may get between this look and command_room() */
	uint64_t limit = buf_limit();
	uint64_t used;

	limit -= margin < limit / 4 ? margin : limit / 4;
	n = buf_size(n);
	used = buf_used() + n;
	limit -= reserve < limit / 2 ? reserve : limit / 2;
	return used <= limit / 2 || (used <= limit && s->read_bytes + s->write_bytes + n <= limit / (session_count + 1));
}

uint32_t room_for(const struct command *x, bool first)
{
	uint32_t n = x->rest < PIECE_BYTES ? x->rest : PIECE_BYTES;

	if (!fits(x->session, n)) {
		if (!first)
			return 0;
		if (n > RESERVE_BYTES)
			n = RESERVE_BYTES;
	}
	if (n < x->rest) /* no sector is of two pieces */
		n -= (uint32_t)((x->at + n) % BLOCK_BYTES);
	return n;
}

bool queue_is_full(const struct session *s)
{
	unsigned most = client_limits.requests;

	if (s->export->leaving >= LEAVING_MAX || (s->export->orphans >= ORPHANS_MAX && s->used_count))
		return true;
	return most && command_count >= most && s->used_count && s->used_count >= most / (session_count + 1);
}
