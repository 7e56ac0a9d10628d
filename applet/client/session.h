/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Sessions, between their files: session.c their life, session_handshake.c how they begin,
 * session_in.c what a client sends,
 * session_out.c what it is sent, session_read.c where the data of a READ comes from,
 * session_room.c the memory for all of it. Loop's thread only.
 *
 * A READ or WRITE that is longer than PIECE_BYTES, or than the memory that there is for it,
 * goes through the core in pieces, each a request of its own. So no request needs more memory
 * than a piece, however long it is.
 */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include "libbb.h"
#include "client/client.h"
#include "client/status.h"
#include "reactor/buf.h"
#include "reactor/loop.h"

enum {
	PIECE_BYTES = BUF_BYTES_MAX,
	RECV_BYTES = 64 << 10,       /* holds any option, and a batch of requests */
	BATCHES_MAX = 8,             /* how often a session may send OUT_BYTES in a turn of the loop before
				        others are served */
	TURN_WORK = 128,             /* requests that a session may make in a turn of the loop; each 64 MiB
				        that one of them covers count as one more */
	OUT_BYTES = 512 << 10,       /* replies that wait: with so many, no more is read for a session until
				        some have left, while the processor's cache has them */
	AHEAD_BYTES = 2 << 20,       /* the same, with buffers that the disk has not filled yet */
	DRAIN_MS = 30000,            /* after DISC, a client that takes no reply for so long is closed */
};

enum session_state { SESSION_HANDSHAKE, SESSION_TRANSMISSION, SESSION_DRAINING, SESSION_CLOSED };

/* A request on its way through, or a piece of one. */
struct command {
	struct request req; /* first: port_reply() gets it */
	struct session *session;
	struct command *prev, *next; /* all of the session's */
	struct command *next_in_list;
	struct command *whole;  /* what this is a piece of, or NULL */
	uint64_t cookie;
	uint64_t at;         /* of a whole: offset in the disk of its next piece */
	uint32_t rest;       /* ... bytes from there to its end */
	uint32_t error;      /* ... NBD error of the first piece that failed */
	unsigned pieces;     /* ... of a WRITE: how many are under way */
	bool begun;          /* ... the header of the reply is queued */
	uint8_t *buf;        /* from buf_get(), or NULL */
	uint32_t buf_bytes;
	uint32_t data_bytes; /* sent after the header, from `data` on: in buf, or the text of an error */
	uint8_t *data;
	uint32_t hole_bytes; /* zeroes that are not sent: the header tells how many */
	bool submitted; /* the core has it */
	uint8_t header_bytes;
	uint8_t header[NBD_CHUNK_BYTES + NBD_CHUNK_HOLE_BYTES];
};

struct command_list {
	struct command *first, **tail;
};

struct session {
	struct event event;
	enum session_state state;
	uint32_t watched; /* EPOLLIN, ... as set */
	struct export *export;
	struct nbd_server_handshake handshake;
	struct timer deadline; /* of draining */
	uint64_t since_ms;     /* when it began; later, when the piece of a WRITE that is coming began */
	uint8_t *hs_out;
	uint32_t hs_out_bytes, hs_out_room;
	bool hang_up; /* when hs_out has left */
	bool gone;    /* the client has hung up (EPOLLRDHUP): sends nothing any more */
	bool broken;  /* a reply cannot be completed: to be closed */

	uint8_t *in;
	uint32_t in_first, in_end; /* what was received and not taken yet */
	struct command *payload;      /* a WRITE whose data is still coming */
	struct command *piece;        /* ... the piece of it that is coming, perhaps all of it */
	uint32_t piece_have;

	struct command *commands;     /* all, in flight or being sent */
	struct command_list ready; /* READs whose blocks are local and which wait for room for their
				   data; and WRITEs in pieces, to be synced */
	struct command_list out;   /* replies, in the order of sending */
	struct command_list held;  /* ... that cannot leave before a reply in pieces is complete */
	bool open;              /* such a reply is going out, to the first of `ready` */
	bool reading;           /* the core has a piece of the first of `ready` */
	uint32_t out_sent;      /* bytes of the first reply that have left */
	uint64_t out_bytes;     /* of all replies in `out`: those that have left, and zeroes sent as
				   holes, count, too */
	bool backlogged;              /* OUT_BYTES wait: takes no request until some have left */
	unsigned work;          /* done in this turn, of TURN_WORK */
	unsigned batches;       /* how often it was full in this turn, of BATCHES_MAX */
	uint32_t read_bytes;    /* of buffers for what is read */
	uint32_t write_bytes;   /* ... and for what is written */
	unsigned used_count;
	bool dirty;   /* in the list of those with something to do at the turn's end */
	bool throttled; /* waits for memory */
	struct session *next_dirty;
	struct session *prev, *next;
	void (*ended)(void *ctx); /* one that was handed over: who wants to know its end */
	void *ended_ctx;
};

extern struct session *sessions;
extern unsigned session_count, command_count;
extern bool sessions_stopping;

/* ---- session.c -------------------------------------------------------------------- */

/* There is something to do for s when the turn ends. */
void session_mark(struct session *s);
/* s waits for memory. */
void session_throttle(struct session *s);
/* What has been received is taken. False: the protocol is broken, or the client has gone. */
bool session_process(struct session *s);
/* Whether requests of s are received now. */
bool session_listens(const struct session *s);
/* The client sends nothing any more. False: close it. */
bool session_end_of_input(struct session *s);

/* Makes e the export of s, held instead of the last one; NULL: none. */
void session_use(struct session *s, struct export *e);

/* ---- session_handshake.c -------------------------------------------------------------- */

/* Prepares a new session for it. False: out of memory. */
bool handshake_init(struct session *s);
/* Greets the client; in the old style, that is all of the handshake. */
void handshake_greet(struct session *s);
/* Takes what has been received. False: hang up at once. */
bool handshake_step(struct session *s);

/* ---- session_room.c ------------------------------------------------------------------ */

/* The next request of a walk over those of a session; command_put() of that one moves this on. */
extern struct command *command_next;

void list_init(struct command_list *l);
void list_add(struct command_list *l, struct command *x);
/* Removes and returns the first; there must be one. */
struct command *list_pop(struct command_list *l);

/* NULL: out of memory. */
struct command *command_get(struct session *s);
/* It gives back the memory for its data, too. */
void command_put(struct command *x);
/* Gets a buffer of n bytes for x, whose req.type must be set. False: out of memory. */
bool command_room(struct command *x, uint32_t n);
/* ... and gives it back, if there is one. */
void command_room_put(struct command *x);
/* The next n bytes of `whole` as a request of their own, with memory. NULL: out of memory. */
struct command *command_piece(struct command *whole, uint32_t n);

/*
 * For how many bytes of x, a READ or WRITE, a buffer may be taken now; 0: none. first: no other
 * buffer of its session has to be freed before x goes on, so x may have a little in any case.
 */
uint32_t room_for(const struct command *x, bool first);
/* Whether s has as many requests as it may, or its export. */
bool queue_is_full(const struct session *s);

/* ---- session_in.c ---------------------------------------------------------------------- */

/* Takes requests from what was received. False: as of session_process(). */
bool session_parse(struct session *s);
/* Receives, and takes what has come. False: the same. */
bool session_receive(struct session *s);
/* Gives up the WRITE whose data is still coming. */
void payload_drop(struct session *s);
/* p, a piece of a WRITE, is done. */
void write_piece_done(struct command *p);

/* ---- session_read.c -------------------------------------------------------------------- */

/* Queues x in `ready`: a READ without a buffer whose blocks are local, or a WRITE in pieces that is
 * to be synced. */
void read_ready(struct command *x);
/* p, a piece of a READ, was read. */
void read_piece_done(struct command *p);
/* Goes on with what is ready, while there is room for it. True: it did. */
bool session_read(struct session *s);

/* ---- reason.c -------------------------------------------------------------------------- */

/* Why r was answered with this error: static text, "" when there is nothing to say. */
const char *reason(const struct core *c, const struct request *r, uint32_t error);

/* ---- session_out.c --------------------------------------------------------------------- */

/* Queues the reply to x, which is freed when that has left. error: an NBD error. */
void reply(struct command *x, uint32_t error);
/* Queues p, a piece of a READ that was read. */
void reply_piece(struct command *p);
/* The reply in pieces is complete: queues the replies that waited for that. */
void reply_release(struct session *s);
/* Sends what can be sent. False: the client has gone. */
bool session_send(struct session *s);
/* Whether nothing more is to be read for s until some of it has left. */
static inline bool out_is_full(const struct session *s)
{
	return s->out_bytes >= OUT_BYTES || s->read_bytes >= AHEAD_BYTES;
}

#endif
