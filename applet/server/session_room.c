/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sessions: the memory that a request takes until its reply has left, and who may have it. */
#include "server/session.h"

enum {
	XFER_SPARE = 512,            /* kept for the next requests */
	RESERVE_BYTES = 1 << 20,     /* what a session with nothing in flight may take
				        when others have spent the budget */
};

static struct xfer *spare;
static unsigned spare_count;

struct xfer *xfer_get(struct session *s)
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

void xfer_put(struct xfer *x)
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
bool may_take(const struct session *s, uint32_t n)
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
