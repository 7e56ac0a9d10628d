/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Clients: their sessions, as the rooms above see them. What the files of this room share is in session.h.
 *
 * The core's thread, if a comment does not say "of any loop"; nothing here blocks. client/ owns the sessions: a caller
 * may keep a pointer to one until its ended() is called, or until session_disown().
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "libbb.h"
#include "device/ublk.h"
#include "export/export.h"
#include "reactor/handover.h"
#include "reactor/message.h"

struct session;

/* Set before the first session begins. */
struct client_limits {
	unsigned sessions; /* at a time; 0 = no limit */
	unsigned requests; /* of all of them, in flight; 0 = no limit */
	bool oldstyle;     /* the handshake is the one before newstyle */
	bool hides;        /* no client is told the names of the exports */
	enum nbd_tls tls;  /* of each */
	const llist_t *key_rules; /* NAME=EXPORT: the key with this name may use the export; only keys with such a rule may use it. Checked */
};
extern struct client_limits client_limits;

/* Begins a session with the client on fd, which the session owns from here on. e: NULL, or the
 * export for which the client has already done its handshake, with simple replies. NULL: no memory,
 * or fd cannot be polled; fd is closed. */
struct session *session_begin(int fd, struct export *e);
/* Whether there is a place for one more client, whose descriptor is fd (0: that is not to count). If not, closes a session of
 * this loop that makes no progress, if there is one, to make a place. On the thread of any loop. */
bool session_make_place(int fd);
/* For when the fronts have found no place either: closes the session that has been in the handshake for the longest
 * time, if that is at least half a second, and it has shown no TLS key. False: there is no such session, or such
 * sessions have less than half of the places. */
bool session_close_shaking(void);
/* Asks each front to close a session that makes no progress; answered() is called when all have replied, or after a timeout, with
 * whether there was one. False: there are no fronts, or an earlier request is still pending. */
bool session_place_request(void (*answered)(bool made));
/* ended(ctx) is to be called when the client has gone and its last request is done. */
void session_tell(struct session *s, void (*ended)(void *ctx), void *ctx);
/* For its ended(): whether the client has sent a DISC. */
bool session_was_disconnected(const struct session *s);
/* Its socket, which stays the session's; no other session has that number until the process of another program ends. */
int session_fd(const struct session *s);
/* As if the client had sent NBD_CMD_DISC: requests in flight are answered. */
void session_drain(struct session *s);
/* ended() is not called any more. */
void session_disown(struct session *s);
/* The queue of a ublk device, which its owner has opened, as a client. The memory is the owner's, forever; what is
 * not said otherwise is this room's. */
struct ublk_client {
	struct ublk_queue queue; /* the owner's until it begins, and when it has ended without an end of all tags */
	struct session *session; /* the front's; NULL: it has none any more */
	unsigned tags;           /* tags that the kernel has not ended */
	bool is_fetched, is_ending;
	unsigned front;
	struct message end;
};

/* It begins, on a front, which has to be there: the thread of a loop that never changes. ended(ctx) is called when
 * the kernel has ended all tags, and the queue is closed; or at the server's end, with the queue open. False: no
 * memory. */
bool ublk_client_begin(struct ublk_client *u, struct export *e, void (*ended)(void *ctx), void *ctx);
/* Requests that wait for the origin fail now, and so do all later ones. */
void ublk_client_end(struct ublk_client *u);

/* At the end of each turn of the loop: sends replies, lets those go on that had to
 * wait for memory. On the thread of any loop. */
void sessions_turn(void);
/* Whether there is something for sessions_turn() to do. */
bool sessions_dirty(void);
/* When everything that will be answered has been: tells the clients (end of stream), and discards
 * what they have sent; left unread, it would make TCP reset the connection and lose replies that
 * are on their way. True: there was some, and more may come. */
bool sessions_part(void);
/* When sessions_turn() has to be called, although nothing happens: milliseconds, UINT64_MAX = never. */
uint64_t sessions_deadline(void);
/* Sessions read nothing any more; requests that wait for the origin end without a reply. */
void sessions_stop(void);
/* How many there are, and how many requests of them are not answered yet. */
unsigned sessions_count(void);
unsigned sessions_in_flight(void);

/* ---- key.c: clients with TLS ------------------------------------------------------------------ */

/* Each key that a client has used for a session that is here, of e alone or, e NULL, of any export; name: of any bytes but
 * 0, a colon and a line feed. False: there is none. */
bool clients_keys(const struct export *e, void (*each)(void *ctx, const char *name, unsigned sessions), void *ctx);
/* At the start, once: takes the rules NAME=EXPORT, which stay where they are; dies of one that is not a rule. */
void key_rules_check(const llist_t *list);

/* ---- a live upgrade -------------------------------------------------------------------------- */

/* Stops all fronts, each between two events, until fronts_go_on(). Meanwhile no session of theirs changes, and none is
 * in transit. Waits for their current work, which does not block. */
void fronts_stop(void);
void fronts_go_on(void);
/* Between fronts_stop() and fronts_go_on(): writes all sessions, but those of ublk devices, with the requests that are not
 * answered; nothing of them changes. Or takes them (reactor/handover.h); the exports are there. What was not answered is done again. */
void sessions_handover(void);
/* The restored session of this socket, if it has an owner, which has not claimed it yet by session_tell(). NULL: there is none. */
struct session *session_claim(int fd);

/* ---- fronts: threads that serve sessions, beside the core's --------------------------------- */

/* Starts them: threads - 1. Before the first session. spin: see loop_init(). Dies when it cannot. */
void fronts_begin(unsigned threads, bool spin);
/* They give all sessions back, and get no more; to be followed by turns of the loop until
 * fronts_have_left(). */
void fronts_leave(void);
/* Whether they have: from then on no other thread touches a session or an export. */
bool fronts_have_left(void);

#endif
