/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Sessions, for the files of this room: session.c the lifecycle of one, sessions.c all sessions of a thread,
 * session_handshake.c how they begin, key.c by which key, session_in.c what a client sends, session_out.c what it is
 * sent, session_read.c where the data of a READ comes from, session_room.c the memory for all of it, session_core.c
 * what passes between a session and the core, front.c the threads. session_ublk.c is another end of all that: requests
 * of a ublk device, whose data is in the kernel's memory, and which has no socket.
 *
 * A session belongs to one loop at a time: that of the core, where it begins and ends, or that of a front. Fields
 * marked "core's thread" are never touched by a front; the core's thread never touches the others of a session on a
 * front.
 *
 * A READ or WRITE that is longer than PIECE_BYTES, or than the memory that there is for it,
 * goes through the core in pieces, each a request of its own. So no request needs more memory
 * than a piece, however long it is.
 */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include "libbb.h"
#include "client/client.h"
#include "client/counters.h"
#include "client/block_status.h"
#include "origin/endpoint.h"
#include "reactor/buf.h"
#include "reactor/loop.h"
#include "reactor/message.h"
#include "reactor/verbose.h"
#include "secure/kernel_tls.h"

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
	DRAIN_MS = 30000,            /* after DISC, a client that takes no reply for this long is closed */
};

enum session_state { SESSION_HANDSHAKE, SESSION_TRANSMISSION, SESSION_DRAINING, SESSION_CLOSED };

enum { PEER_BYTES = 72 };

/* A request on its way through, or a piece of one. Frequently used members come first: small offsets need one byte in
 * the machine code. */
struct command {
	struct session *session;
	struct command *prev, *next; /* all of the session's */
	struct command *next_in_list;
	struct command *whole;  /* what this is a piece of, or NULL */
	uint8_t *buf;        /* from buf_get(), or NULL */
	uint8_t *data;       /* data_bytes of it are sent after the header: in buf, or the text of an error */
	uint32_t buf_bytes;
	uint32_t data_bytes;
	uint32_t hole_bytes; /* zeroes that are not sent: the header tells how many */
	unsigned pieces;     /* of a whole WRITE: how many are under way */
	bool begun;          /* of a whole: the header of the reply is queued */
	bool replied;        /* it is in `out` or `held`, or was */
	bool submitted;      /* core's thread: the core has it */
	bool local;          /* a READ: all its blocks are */
	/* cookie to error: as in struct handed_progress. */
	uint64_t cookie;
	uint64_t at;         /* of a whole: offset in the disk of its next piece */
	uint32_t rest;       /* of a whole: bytes from there to its end */
	uint32_t error;      /* of a whole: NBD error of the first piece that failed */
	struct request req;  /* port_reply() gets it */
	struct message message; /* from the session to the core, and back */
	struct command *core_prev, *core_next; /* core's thread: those of the session that the core has */
	/* Of a request: as it came; the core may change req. */
	uint64_t given_offset;
	uint32_t given_bytes;
	uint16_t given_type;
	bool is_timed;      /* it is not a piece, and its reply has not left */
	bool awaits;        /* it has waited for the origin: see command_awaits() */
	uint64_t begun_us;
	/* As in struct handed_command. */
	uint8_t header_bytes; /* of the reply */
	uint8_t header[NBD_CHUNK_BYTES + NBD_CHUNK_HOLE_BYTES];
};

struct command_list {
	struct command *first, **tail;
};

/* Clients with the same key. */
struct key_use {
	struct key_use *next;
	struct session *sessions;
	char name[];
};

struct session {
	struct event event;
	enum session_state state;
	uint32_t watched; /* EPOLLIN, ... as set */
	struct export *export;
	struct tally *tally; /* where what it does is counted: export_tally(); NULL: nowhere */
	char peer[PEER_BYTES]; /* its address, without spaces */
	uint64_t began_ms;
	uint64_t read_total, written_total; /* bytes of requests that were done */
	uint8_t end;       /* enum session_end */
	bool was_refused;  /* it was refused, which has been counted and logged */
	uint64_t since_ms;     /* when it began; later, when the piece of a WRITE that is coming began */
	uint8_t *hs_out;
	uint32_t hs_out_bytes, hs_out_room;
	bool hang_up; /* when hs_out has left */
	bool starts_tls; /* TLS begins when hs_out has left */
	bool securing;   /* TLS has begun: waits for the result of the relay */
	struct key_use *key; /* core's thread; NULL: no TLS */
	struct session *key_next, **key_at; /* core's thread: in the list of those with the same key */
	bool gone;    /* the client has closed its side (EPOLLRDHUP): sends nothing any more */
	bool broken;  /* a reply cannot be completed: to be closed */

	uint8_t *in;               /* its receive buffer, RECV_BYTES; NULL: nothing is in it, see in_get() */
	uint32_t in_first, in_end; /* what was received and not taken yet */
	struct command *payload;      /* a WRITE whose data is still coming */
	struct command *piece;        /* the piece of that WRITE that is coming, perhaps all of it */
	uint32_t piece_have;
	bool long_writes;             /* the last request was a WRITE of DIRECT_BYTES or more, whose data has a place */

	struct command *commands;     /* all, in flight or being sent */
	struct command_list ready; /* READs whose blocks are local and which wait for room for their
				   data; and WRITEs in pieces, to be synced */
	struct command_list out;   /* replies, in the order of sending */
	struct command_list held;  /* replies that cannot leave before a reply in pieces is complete */
	bool open;              /* such a reply is going out, to the first of `ready` */
	bool reading;           /* the core has a piece of the first of `ready` */
	uint32_t out_sent;      /* bytes of the first reply that have left */
	uint64_t out_bytes;     /* of all replies in `out`: those that have left, and zeroes sent as
				   holes, count, too */
	bool backlogged;              /* OUT_BYTES wait, or a list: takes no request until some have left */
	unsigned work;          /* done in this turn, of TURN_WORK */
	unsigned turn_work;     /* at most so much of TURN_WORK: turn_is_over(). 0: the next turn is its first one */
	unsigned alone_for;     /* turns in which nobody else has asked for anything; ALONE_AFTER at most */
	unsigned batches;       /* how often it was full in this turn, of BATCHES_MAX */
	uint32_t read_bytes;    /* of buffers for what is read */
	uint32_t write_bytes;   /* of buffers for what is written */
	unsigned used_count;
	unsigned loop;   /* whose it is, or, while it moves, will be */
	unsigned wanted; /* to whom it is to move; else the same */
	unsigned front;  /* core's thread: where its answers go */
	bool is_placed;  /* it was decided which loop is to have it */
	struct command *at_core; /* core's thread */
	struct nbd_server_handshake handshake;
	struct timer deadline; /* of draining */
	uint64_t deadline_ms;  /* when that timer was to fire, while the session moves; 0: it was not set */
	uint64_t linger_ms; /* when all has been answered, but the kernel's TLS still sends: until then; else 0 */
	struct message move;
	struct message abandon, leave; /* to the core: see session_core.c */
	bool abandoned;
	bool disconnected; /* the client has sent a DISC */
	struct {
		struct message message;
		uint64_t offset;
		uint32_t length;
		_Atomic bool busy; /* the core has it */
	} seen;          /* a READ that a front has answered, for the core to know */
	bool dirty;   /* in the list of those with something to do at the turn's end */
	bool throttled; /* waits for memory */
	struct session *next_dirty;
	struct session *prev, *next;
	void (*ended)(void *ctx); /* one that was handed over: who wants to know its end */
	void *ended_ctx;
	struct ublk_client *ublk; /* NULL: an NBD client */
};

static inline bool session_is_ublk(const struct session *s)
{
	return ENABLE_FEATURE_XNBD_SERVER_UBLK && s->ublk;
}

/* What the sessions of one loop share. */
struct front {
	struct session *sessions, *dirty;
	unsigned throttled; /* how many wait for memory */
	uint8_t *unused_in; /* a receive buffer for each session here that has none; each begins with a pointer to the next */
	struct command *spare; /* kept for the next requests */
	unsigned spare_count;
	struct timer check;
	/* Core's thread. */
	unsigned load; /* sessions that are here, or on their way */
	bool left;     /* the end: all its sessions have come back */
	struct message place, leave;
};
extern struct front fronts[LOOPS_MAX];

/* How many are used; the core's loop is the first. The same forever, once there is a session. */
static inline unsigned front_count(void)
{
	extern unsigned fronts_used;

	return ENABLE_FEATURE_XNBD_SERVER_THREADS ? fronts_used : 1;
}

/* Whether s is on its way to another loop. */
static inline bool session_moves(const struct session *s)
{
	return ENABLE_FEATURE_XNBD_SERVER_THREADS && s->wanted != s->loop;
}

/* That of this thread. */
static inline struct front *front_here(void)
{
	return ENABLE_FEATURE_XNBD_SERVER_THREADS ? this_loop->owner : fronts;
}

/* Whether this is the core's thread, which may call it. */
static inline bool is_core_here(void)
{
	return !ENABLE_FEATURE_XNBD_SERVER_THREADS || this_loop->index == LOOP_CORE;
}

extern _Atomic unsigned session_count, command_count; /* of all */

/* ---- session.c -------------------------------------------------------------------- */

/* There is something to do for s when the turn ends. */
void session_mark(struct session *s);
/* s waits for memory, or no longer. */
void session_throttle(struct session *s);
void session_unthrottle(struct session *s);
/* Adds s, new, to those of this loop. */
void session_enlist(struct session *s);
/* What has been received is taken. False: the protocol is broken, or the client has gone. */
bool session_process(struct session *s);
/* Whether requests of s are received now. */
bool session_listens(const struct session *s);
/* The client sends nothing any more. False: close it. */
bool session_end_of_input(struct session *s);

/* Is closed after DRAIN_MS, unless replies leave. */
void session_expire(struct session *s);
/* Notes why s ends, unless that is known already. */
static inline void session_note_end(struct session *s, enum session_end why)
{
	if (!s->end)
		s->end = (uint8_t)why;
}
/* Disconnects. Requests in flight go on without it; it is freed after the last. */
void session_close(struct session *s);
/* s goes to the loop it wants. */
void session_move(struct session *s);
/* The turn ends for s: sends replies, and decides what to watch for, and whether s has come to its end. */
void session_end_of_turn(struct session *s);

/* A session on fd, which it owns, with nothing done of its handshake. NULL: no memory, or fd is nothing to wait
 * for; it is closed. */
struct session *session_new(int fd);
/* Makes e the export of s, held instead of the last one; NULL: none. Core's thread. */
void session_use(struct session *s, struct export *e);
/* The handshake of s, for its export, is over: requests may come; with --cow-client, of a copy of its own. False: no memory,
 * s is refused. Core's thread. */
bool session_transmit(struct session *s);

/* ---- sessions.c: all of a loop ------------------------------------------------------------ */

extern bool sessions_stopping; /* no front has a session any more */

/* There is a session: from now on, it is seen when its machine has gone. */
void sessions_watch(void);
/* Closes a session of this loop that makes no progress. False: there is none. */
bool session_close_late(void);
/* Whether the machine behind this TCP connection no longer answers at all, not even that its window is closed. (With
 * TCP_USER_TIMEOUT the kernel would disconnect a client whose window is closed for this long.) Any thread. */
bool session_peer_is_dead(int fd);

/* ---- session_handover.c --------------------------------------------------------------- */

/* In s->ended: of a session that was taken from another program, until session_claim(). */
void session_unclaimed(void *ctx);

/* ---- session_handshake.c -------------------------------------------------------------- */

/* Prepares a new session for it. False: out of memory. */
bool handshake_init(struct session *s);
/* Sends these bytes to the client. ctx: the session. */
void handshake_send(void *ctx, const void *p, size_t n);
/* Greets the client; in the old style, that is all of the handshake. */
void handshake_greet(struct session *s);
/* Takes what has been received. False: disconnect it at once. */
bool handshake_step(struct session *s);
/* The client has been told so: TLS begins, and s goes on over another descriptor. False: close it. */
bool handshake_secure(struct session *s);
/* There is a result of that: s goes on, perhaps over the first descriptor again. False: close it. */
bool handshake_secured(struct session *s);

/* ---- key.c ---------------------------------------------------------------------------- */

/* s has the key of this name. False: no memory. */
bool key_hold(struct session *s, const char *name);
/* s has it no longer, if it had one. */
void key_drop(struct session *s);
/* Whether s may use the export of this name. */
bool key_may(const struct session *s, const char *export);

/* ---- session_room.c ------------------------------------------------------------------ */

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
/* Gives the buffer of x back, if there is one. */
void command_room_put(struct command *x);
/* The next n bytes of `whole` as a request of their own, with memory. NULL: out of memory. */
struct command *command_piece(struct command *whole, uint32_t n);

/* s, not one of a ublk device, gets its receive buffer, s->in: that which was used last, so it is still in the processor's
 * cache. */
void in_get(struct session *s);
/* Gives it back if nothing is in it. */
void in_put(struct session *s);

/*
 * For how many bytes of x, a READ or WRITE, a buffer may be taken now; 0: none. first: no other
 * buffer of its session has to be freed before x goes on, so x may have a little in any case.
 */
uint32_t room_for(const struct command *x, bool first);
/* Whether s has as many requests as it may, or its export. */
bool queue_is_full(const struct session *s);

/* ---- session_core.c -------------------------------------------------------------------- */

/* Gives x to the core, until command_done(). local: a READ with a buffer whose blocks are all local. */
void command_submit(struct command *x, bool local);
/* Reads x, all of whose blocks are local, into its buffer; then command_done(). */
void command_read(struct command *x);
/* Whether x, a READ of what is published, may be read here without asking the core, which may be told of it by a message.
 * False: the core is to be asked. */
bool command_try_read(struct command *x);
/* Those requests of s that wait for the origin are answered now. */
void session_abandon(struct session *s);
/* The same, and long zeroes and trims end with their current piece: s is closed. */
void session_leave(struct session *s);

/* ---- front.c --------------------------------------------------------------------------- */

/* Index of the loop that is to have the next session: one of those from `first` on. Core's thread. */
unsigned front_choose(unsigned first);

/* ---- session_in.c ---------------------------------------------------------------------- */

/* Takes requests from what was received. False: as of session_process(). */
bool session_parse(struct session *s);
/* Checks x, a request that has come, and gets it a buffer, if it needs one at once. False: it has to wait for
 * memory, and x is gone. */
bool request_admit(struct session *s, struct command *x);
/* Begins x, which was admitted; not a WRITE whose data is still to come, that is s->payload. */
void request_begin(struct command *x);
/* Memory for what comes next of the payload, as s->piece. False: there is none now. */
bool payload_room(struct session *s);
/* All of that has come. */
void payload_submit(struct session *s);
/* w, the payload, will not come any further. */
void payload_fail(struct session *s, uint32_t error);
/* Receives, and takes what has come. False: the same. */
bool session_receive(struct session *s);
/* Of a peer that has gone: throws away all that was not taken of it. Whether that had a DISC. */
bool session_has_disc(struct session *s);
/* Whether r may be done: NBD_SUCCESS, or the error to answer. */
uint32_t session_check(const struct session *s, const struct request *r);
/* Whether r covers whole sectors of its export. Any thread. */
bool is_aligned(const struct session *s, const struct request *r);
/* Gives up the WRITE whose data is still coming. */
void payload_drop(struct session *s);
/* p, a piece of a WRITE, is done. */
void write_piece_done(struct command *p);

/* ---- session_read.c -------------------------------------------------------------------- */

/* Queues x in `ready`: a READ without a buffer whose blocks are local, or a WRITE in pieces that is
 * to be synced. */
void command_ready(struct command *x);
/* p, a piece of a READ, was read. */
void read_piece_done(struct command *p);
/* Goes on with what is ready, while there is room for it. True: it did. */
bool session_read(struct session *s);

/* ---- reason.c -------------------------------------------------------------------------- */

/* Why x was answered with this error: static text, "" when there is nothing to say. */
const char *reason(const struct command *x, uint32_t error);

/* ---- verbose.c ------------------------------------------------------------------------- */

/* The name of the one behind fd, or of this address (e: NULL, it is asked for), as a word: "ADDRESS:PORT", "pid:N" of a
 * process of this machine, or "device". `to` has room for PEER_BYTES. */
void peer_name(char *to, int fd, const struct endpoint *e);
/* s has its export: it begins. */
void client_begins(const struct session *s);
/* s is about to be closed. */
void client_ends(const struct session *s);
/* Counts and logs that the client with this peer name was refused. Without --verbose only the reasons that an
 * administrator has to know are logged, each at most once every 10 seconds. key: its name; name: n bytes, the export
 * that it wanted; NULL: none. Core's thread. */
void client_refused(const char *peer, enum refusal why, const char *key, const char *name, size_t n);
/* The same of s, once. */
void session_refused(struct session *s, enum refusal why, const char *name, size_t n);
/* x was answered with this NBD error. */
void verbose_fails(const struct command *x, uint32_t error);

/* ---- counters.c ------------------------------------------------------------------------ */

/* The session's thread. s begins to use its export; s ends. */
void count_client(const struct session *s);
void count_end(const struct session *s);
/* x is done; one was answered with this NBD error. */
void count_done(const struct command *x);
void count_failed(const struct command *x, uint32_t error);
/* The reply to x, which is_timed, has left. */
void count_left(struct command *x, uint64_t now_us);
static inline void command_left(struct command *x, uint64_t now_us)
{
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS && x->is_timed)
		count_left(x, now_us);
}

/* Whether x has had to wait for the origin. The core's thread notes it, while the session's may want to know. */
static inline bool command_awaits(const struct command *x)
{
	return __atomic_load_n(&x->awaits, __ATOMIC_RELAXED);
}

/* ---- session_out.c --------------------------------------------------------------------- */

/* x has been answered: x->req.error. */
void command_done(struct command *x);
/* Queues the reply to x, which is freed when that has left. error: an NBD error. */
void reply(struct command *x, uint32_t error);
/* x, a request of a client, is done, or has failed: what there is to count and to tell of that. reply() calls them. */
void request_done(struct command *x);
void request_failed(struct command *x, uint32_t error);
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

/* ---- session_ublk.c -------------------------------------------------------------------- */

/* Takes requests from the kernel. */
void ublk_parse(struct session *s);
/* Answers x, which is freed. error: an NBD error. */
void ublk_reply(struct command *x, uint32_t error);
/* p, a piece of a READ, was read: hands it over, and frees it. */
void ublk_reply_piece(struct command *p);
/* Gives the kernel what was answered in this turn. */
void ublk_send(struct session *s);
/* s is closed. */
void ublk_close(struct session *s);

#endif
