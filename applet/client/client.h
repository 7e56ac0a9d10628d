/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Clients: their sessions, as the rooms above see them. What the files of this room share is in session.h.
 *
 * Loop's thread; nothing here blocks. A session belongs to client/: a pointer to one is good until
 * its ended(), or until session_disown().
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "export/export.h"

struct session;

/* Set before the first session begins. */
struct client_limits {
	unsigned sessions; /* at a time; 0 = no limit */
	unsigned requests; /* of all of them, in flight; 0 = no limit */
	bool oldstyle;     /* the handshake is the one before newstyle */
};
extern struct client_limits client_limits;

/* A client has connected; the session owns fd from here on. NULL: no memory, or nothing
 * to wait for; fd is closed. e: NULL, or the client has done its handshake, for this
 * export, and takes simple replies. */
struct session *session_begin(int fd, struct export *e);
/* Whether there is a place for one more client; it is made, where one of those who are here does
 * not get on. */
bool session_place(void);
/* The client has gone and its last request is done: ended() is called. */
void session_tell(struct session *s, void (*ended)(void *ctx), void *ctx);
/* As if the client had sent a DISC: what is in flight is answered. */
void session_drain(struct session *s);
/* ended() is not called any more. */
void session_disown(struct session *s);
/* At the end of each turn of the loop: sends replies, lets those go on that had to
 * wait for memory. */
void sessions_turn(void);
/* Whether there is something for sessions_turn() to do. */
bool sessions_dirty(void);
/* All that will be answered has been: tells the clients, and throws away what they have sent, for
 * unread it would make TCP reset the connection, and with it replies that are on their way. True:
 * there was some, and more may come. */
bool sessions_part(void);
/* Sessions read nothing any more; those that wait for the origin are answered. */
void sessions_stop(void);
/* How many there are, and how many requests of them are not answered yet. */
unsigned sessions_count(void);
unsigned sessions_in_flight(void);

#endif
