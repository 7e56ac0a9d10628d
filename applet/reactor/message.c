/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Messages between loops: a list for each pair of them, and a mailbox each. */
#include "libbb.h"
#include "reactor/lock.h"
#include "reactor/loop.h"
#include "reactor/message.h"

#include <sys/eventfd.h>

struct message_list {
	struct message *first, *last;
};

static struct mailbox {
	struct event event; /* an eventfd */
	struct mutex lock;
	struct message_list in; /* under the lock */
	struct message_list out[LOOPS_MAX]; /* of the loop's own thread: to whom it sends */
} mailboxes[LOOPS_MAX];

/* Puts the messages of b behind those of a. b has some. True: a had none. */
static bool list_join(struct message_list *a, struct message_list b)
{
	bool was_empty = !a->first;

	if (was_empty)
		a->first = b.first;
	else
		a->last->next = b.first;
	a->last = b.last;
	return was_empty;
}

static void mail_ready(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct mailbox *box = (struct mailbox *)e;
	struct message *m, *next;

	mutex_lock(&box->lock);
	m = box->in.first;
	box->in.first = NULL;
	mutex_unlock(&box->lock);
	for (; m; m = next) {
		next = m->next;
		m->deliver(m);
	}
}

void message_init(void)
{
	struct event *e = &mailboxes[this_loop->index].event;

	e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->ready = mail_ready;
	/* EPOLLET: each write is an event, so that nobody has to read it. */
	if (e->fd < 0 || !event_add(e, EPOLLIN | EPOLLET))
		bb_simple_perror_msg_and_die("eventfd");
}

void message_post(unsigned to, struct message *m)
{
	m->next = NULL;
	list_join(&mailboxes[this_loop->index].out[to], (struct message_list){ m, m });
}

void message_flush(void)
{
	static const uint64_t one = 1;
	struct message_list *out = mailboxes[this_loop->index].out;
	unsigned i;

	for (i = 0; i < LOOPS_MAX; i++) {
		struct mailbox *box = &mailboxes[i];
		bool tell;

		if (!out[i].first)
			continue;
		mutex_lock(&box->lock);
		tell = list_join(&box->in, out[i]);
		mutex_unlock(&box->lock);
		out[i].first = NULL;
		if (tell)
			safe_write(box->event.fd, &one, sizeof(one));
	}
}
