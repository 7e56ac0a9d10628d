/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Sessions of ublk devices: requests come as results of commands in a ring, and replies are commands.
 *
 * Such a session stays on its front, as the kernel takes commands from no other thread. It ends when the kernel has
 * ended all tags: the device was stopped. At the server's exit it is closed earlier, and nothing more is answered: the
 * kernel passes unanswered requests to the next server.
 */
#include "client/session.h"

static struct ublk_queue *queue_of(const struct session *s)
{
	return &s->ublk->queue;
}

/* ---- requests ------------------------------------------------------------------------------------ */

static void request_decode(struct request *r, const struct ublk_io *io)
{
	static const uint16_t types[] = {
		[UBLK_READ] = NBD_CMD_READ,
		[UBLK_WRITE] = NBD_CMD_WRITE,
		[UBLK_FLUSH] = NBD_CMD_FLUSH,
		[UBLK_DISCARD] = NBD_CMD_TRIM,
		[UBLK_WRITE_ZEROES] = NBD_CMD_WRITE_ZEROES,
	};
	unsigned op = io->op_flags & UBLK_OP_MASK;

	/* Others, and what is too long, core_check() refuses. */
	r->type = op < ARRAY_SIZE(types) && (types[op] || op == UBLK_READ) ? types[op] : UINT16_MAX;
	r->flags = io->op_flags & UBLK_FUA ? NBD_CMD_FLAG_FUA : 0;
	if (op == UBLK_WRITE_ZEROES && io->op_flags & UBLK_NO_UNMAP)
		r->flags |= NBD_CMD_FLAG_NO_HOLE;
	r->offset = r->length = 0;
	if (op == UBLK_FLUSH)
		return;
	r->offset = io->first_sector <= UINT64_MAX / UBLK_SECTOR_BYTES ? io->first_sector * UBLK_SECTOR_BYTES : UINT64_MAX;
	r->length = io->sectors <= UINT32_MAX / UBLK_SECTOR_BYTES ? io->sectors * UBLK_SECTOR_BYTES : 0;
}

/* False: it has to wait for memory. */
static bool request_receive(struct session *s, unsigned tag)
{
	struct command *x = queue_is_full(s) ? NULL : command_get(s);

	if (!x)
		return false;
	x->cookie = tag;
	request_decode(&x->req, &queue_of(s)->io[tag]);
	if (!request_admit(s, x))
		return false;
	if (s->ublk->is_ending)
		x->error = NBD_EIO;
	if (x->req.type == NBD_CMD_WRITE && !x->error)
		s->payload = x;
	else
		request_begin(x);
	return true;
}

/* The next piece of the data of a WRITE. False: it has to wait for memory. */
static bool payload_copy(struct session *s)
{
	struct command *x = s->payload;
	struct command *p;

	if (s->ublk->is_ending || x->error) {
		payload_fail(s, NBD_EIO);
		return true;
	}
	if (!payload_room(s))
		return false;
	p = s->piece;
	if (ublk_copy(queue_of(s), (unsigned)x->cookie, p->buf, p->req.length, (uint32_t)(p->req.offset - x->req.offset))) {
		payload_submit(s);
		return true;
	}
	s->piece = NULL;
	if (p != x) {
		x->pieces--;
		command_put(p);
	}
	payload_fail(s, NBD_EIO);
	return true;
}

/* A result: a request, or the end of a tag. False: it has to wait for memory. */
static bool result_parse(struct session *s, const struct uring_cqe *result)
{
	if (result->result == 0)
		return request_receive(s, (unsigned)result->cookie);
	if (!--s->ublk->tags)
		session_drain(s);
	return true;
}

static void fetch(struct session *s)
{
	int error = ublk_fetch(queue_of(s));

	s->ublk->is_fetched = true;
	if (error) {
		bb_error_msg("the requests of a ublk device cannot be read: %s", strerror(error));
		session_close(s);
	} else {
		s->ublk->tags = UBLK_DEPTH;
	}
}

void ublk_parse(struct session *s)
{
	struct uring *ring = &queue_of(s)->ring;
	const struct uring_cqe *result;

	if (!s->ublk->is_fetched)
		fetch(s);
	while (s->state == SESSION_TRANSMISSION && !s->throttled && !s->backlogged) {
		if (s->payload) {
			if (!payload_copy(s))
				session_throttle(s);
			continue;
		}
		result = uring_result(ring);
		if (!result)
			return;
		if (s->work >= TURN_WORK)
			s->batches = BATCHES_MAX; /* EPOLLOUT brings its next turn, at once */
		s->backlogged = s->work >= TURN_WORK || out_is_full(s) || s->ready.first;
		if (s->backlogged)
			return;
		if (result_parse(s, result))
			uring_next(ring);
		else
			session_throttle(s);
	}
}

static void ublk_ready(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct session *s = container_of(e, struct session, event);

	session_mark(s);
	s->batches = s->work = 0;
	ublk_parse(s);
}

/* ---- replies ---------------------------------------------------------------------------------------- */

/* What the kernel wants to hear of a request that is done: the bytes of a READ or WRITE. Of all others it only looks
 * whether the number is negative (drivers/block/ublk_drv.c), and those of 2 GiB and more do not fit into it. */
static int result_bytes(const struct ublk_io *io)
{
	unsigned op = io->op_flags & UBLK_OP_MASK;

	return op == UBLK_READ || op == UBLK_WRITE ? (int)(io->sectors * UBLK_SECTOR_BYTES) : 0;
}

void ublk_reply(struct command *x, uint32_t error)
{
	struct ublk_queue *q = queue_of(x->session);
	unsigned tag = (unsigned)x->cookie;
	const struct ublk_io *io = &q->io[tag]; /* x may have become the FLUSH of a WRITE */

	if (!error && x->req.type == NBD_CMD_READ && x->buf && !ublk_copy(q, tag, x->buf, x->req.length, 0))
		error = NBD_EIO;
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		command_left(x, loop_clock_us());
	ublk_commit(q, tag, error ? -(int)error : result_bytes(io));
	command_put(x);
}

void ublk_reply_piece(struct command *p)
{
	struct command *x = p->whole;

	if (!ublk_copy(queue_of(p->session), (unsigned)x->cookie, p->buf, p->req.length, (uint32_t)(p->req.offset - x->req.offset)))
		x->error = NBD_EIO;
	command_put(p);
}

void ublk_send(struct session *s)
{
	/* What the kernel has no memory for, it gets in the next turn. */
	if (uring_submit(&queue_of(s)->ring, 0))
		s->batches = BATCHES_MAX;
}

/* ---- life -------------------------------------------------------------------------------------------- */

bool ublk_client_begin(struct ublk_client *u, struct export *e, void (*ended)(void *ctx), void *ctx)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return false;
	s->ublk = u;
	s->event.fd = u->queue.ring.fd;
	s->event.ready = ublk_ready;
	s->watched = EPOLLIN;
	s->state = SESSION_TRANSMISSION;
	list_init(&s->out);
	list_init(&s->held);
	list_init(&s->ready);
	session_use(s, e);
	strcpy(s->peer, "device");
	s->began_ms = loop_now_ms();
	client_begins(s);
	session_tell(s, ended, ctx);
	session_enlist(s);
	session_count++;
	s->is_placed = true;
	s->wanted = front_choose(LOOP_CORE + 1);
	fronts[s->wanted].load++;
	u->session = s;
	u->front = s->wanted;
	u->tags = 0;
	u->is_fetched = u->is_ending = false;
	u->end.deliver = NULL;
	session_mark(s);
	return true;
}

static void end_message(struct message *m)
{
	struct ublk_client *u = container_of(m, struct ublk_client, end);

	u->is_ending = true;
	if (!u->session)
		return;
	session_mark(u->session);
	session_abandon(u->session);
}

void ublk_client_end(struct ublk_client *u)
{
	if (u->end.deliver) /* it is on its way, or has come */
		return;
	u->end.deliver = end_message;
	message_post(u->front, &u->end);
}

void ublk_close(struct session *s)
{
	struct ublk_client *u = s->ublk;

	u->session = NULL;
	/* Else the kernel still has commands of this thread. It ends them with the thread. */
	if (!u->tags)
		ublk_queue_close(&u->queue);
}
