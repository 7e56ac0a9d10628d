/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Messages between loops: one thread asks another to do something. A message is embedded in the object that it is
 * about, so sending one allocates nothing. Whatever the sender has written before message_post() is seen by deliver().
 *
 * Messages between two loops stay in order. Those of one turn are delivered together, with one lock and at most one
 * wake-up.
 */
#ifndef REACTOR_MESSAGE_H
#define REACTOR_MESSAGE_H

struct message {
	void (*deliver)(struct message *m); /* on the thread of the loop it was sent to; may post it again */
	struct message *next;
};

/* The loop of this thread takes messages from now on; it must before others send any. Dies when the
 * kernel gives no eventfd(2). */
void message_init(void);
/* Sends m to the loop of this index with the next message_flush(). m belongs to the other thread
 * from then on, until deliver() is called. Thread of a loop only. */
void message_post(unsigned to, struct message *m);
/* Hands over what was posted by this loop. At the end of each turn, before the loop waits. */
void message_flush(void);

#endif
