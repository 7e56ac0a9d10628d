/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Connections of the control socket: for the files of this room, and for --check (server/check.c), which writes its
 * lines with the same functions, into a connection without a socket.
 *
 * Core's thread; nothing here blocks. control.c owns the connections: others keep a pointer only
 * while it is `waiting`, which control_answer_late() ends, or until xnbd04_end().
 */
#ifndef CONTROL_CONNECTION_H
#define CONTROL_CONNECTION_H

#include "control/control.h"
#include "export/export.h"
#include "reactor/loop.h"

enum {
	CONTROL_IN_BYTES = 16384,         /* longest request: the longest name fits, encoded */
	CONTROL_OUT_BYTES_MAX = 64 << 10, /* what one connection may leave unread */
};

/* A connection. */
struct control {
	struct event event;
	struct timer timer; /* idle, or the next progress for a follower */
	char in[CONTROL_IN_BYTES];
	unsigned in_bytes;
	char out[CONTROL_OUT_BYTES_MAX]; /* part of it: no lack of memory in the middle of an answer */
	unsigned out_bytes;
	/* waiting to eof: as in struct handed_control. */
	bool waiting;  /* answered later: when a switch or a reconnect ends, or an image was opened */
	bool follow;   /* gets the progress of the copy, or of the comparison, until that ends */
	bool verifies; /* what it follows is the comparison */
	bool owns_job; /* what it follows is cancelled when this connection ends */
	bool heard;    /* it has sent something, so it gets no greeting */
	bool talks;    /* it has got a greeting: see control_talk.c */
	bool xnbd04_detects; /* binary protocol: waits for the switch */
	bool eof;      /* the client will send no more requests, but may still read the reply */
	bool listing;  /* the rest of a list is sent as the client reads: of clients, counters or images */
	uint64_t list_next;
	struct client_report *report; /* the list of clients; NULL: another one */
	bool tallies; /* the list is that of the counters of each export */
	unsigned list_part;
	bool metrics;  /* the counters are wanted as metrics */
	bool dead;     /* closed; freed when it no longer waits */
	struct commit_waiter commit;
	struct control_socket *socket; /* that it came from; NULL: it waits, and that has ended */
	struct export *export; /* as of that socket; one that talks: held, that its request is about */
	struct control *next;

	/* binary protocol */
	bool xnbd04;
	struct session *xnbd04_session; /* the one it handed over */
	int passed_fd;               /* came with a message; -1 = none */
};

/* Whether k is about a proxy, or what was one before its switch. */
static inline bool control_is_proxy(const struct control *k)
{
	return ENABLE_FEATURE_XNBD_SERVER_PROXY && k->export && k->export->disk.words;
}

/* The only export whose clients k is told of; NULL: all. Where there is one, it tells what has no export, too. */
static inline const struct export *control_subject(const struct control *k)
{
	return ENABLE_FEATURE_XNBD_WRAPPER_PROXY && control_config.is_wrapper ? k->export : NULL;
}

/* ---- control.c: connections --------------------------------------------------------------- */

extern struct control *controls;
extern struct control *control_upgrades; /* has asked for another program, and is `waiting`; NULL: none */

/* Appends n bytes for the client; without room, or when it has gone, they are lost. */
void control_emit(struct control *k, const void *p, size_t n);
/* Appends text, of 511 bytes at most. */
void control_print(struct control *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Bytes that would break the line, or control a terminal, are written as %XX, and so are the bytes in `also`. */
void control_emit_escaped(struct control *k, const char *value, const char *also);
/* The character at p, encoded if it is '%', one that a terminal obeys, or if encoded. Returns its last byte. */
const char *control_emit_char(struct control *k, const char *p, bool encoded);
/* n bytes of text for people, as a part of one line: '?' replaces unprintable bytes. */
void control_emit_line(struct control *k, const char *text, size_t n);
/* "KEY VALUE": what would break the line, or a terminal, is %XX. */
void control_emit_string(struct control *k, const char *key, const char *value);
void control_emit_number(struct control *k, const char *key, uint64_t value);
/* Sends what can be sent. */
void control_flush(struct control *k);
/* Whether there is room for another part of a list in this turn; else the list goes on in one when that is being read. */
bool control_has_room(struct control *k);
/* The last line of a reply. error: NULL for "ok". */
void control_answer(struct control *k, const char *error);
/* The last line of a reply to one that was `waiting`, and may have gone meanwhile. */
void control_answer_late(struct control *k, const char *error);
/* The same, for who calls back with a struct control. */
void control_saved(void *k, const char *error);
/* The last line of a reply is there already: the reply is complete. */
void control_answered(struct control *k);
/* Closes it when all its output has been sent, but not from inside this call. */
void control_finish(struct control *k);
/* Closes and, unless an answer is still under way, frees it. */
void control_close(struct control *k);

/* ---- control_text.c: what a line asks for --------------------------------------------------- */

/* The end of the next line, if it may be taken now: the one before must have been answered, and
 * answers must be read. NULL: there is none. */
char *control_line_end(struct control *k);
/* Takes the lines that have come; each is answered now or later. False: one is too long. */
bool control_parse_lines(struct control *k);
/* k has followed a job in another program of this process: goes on with that. */
void control_follow_again(struct control *k);
/* k, which follows the copy or the comparison, is told the progress, and again in a moment. */
void control_follow(struct control *k);

/* "switch", "cache-all", "reconnect" and "query" ("status"): of k->export, which is a proxy. */
void control_bgctl(struct control *k, const char *verb, const char *host, const char *port, const char *name);

/* ---- control_reconnect.c: another origin, or the same one elsewhere ----------------------------- */

/* name: of the export; NULL: as before. Answered now or later. */
void reconnect_to(struct control *k, const char *host, const char *port, const char *name, bool force);
/* The file of keys that the URI names is read by a worker. */
void reconnect_to_uri(struct control *k, const char *uri, bool force);

/* ---- control_report.c: what is told ---------------------------------------------------------- */

/* Where the commit file lies behind the disk's end, if it does. */
void control_emit_commit_base(struct control *k, const struct disk *d);
/* The lines about a cache, of which these are local. */
void control_emit_cache(struct control *k, const struct disk *d, uint64_t size_bytes, const struct map *m);
/* The lines about the comparison with the origin. */
void control_emit_verify(struct control *k, const struct core_status *s);
/* All lines of "status", about a proxy. */
void control_emit_status(struct control *k);
/* The lines of "status" that are about clients. */
void control_emit_clients(struct control *k);
/* All lines of "status", about a target or a wrapper. */
void control_emit_target(struct control *k);
/* A group of lines for a follower; ends with `percent`. */
void control_emit_progress(struct control *k);

/* ---- control_counters.c ---------------------------------------------------------------- */

/* Answers k later, with the counters: as metrics, or as lines of "KEY VALUE". */
void control_counters(struct control *k, bool metrics);
/* The counters of each export of a wrapper, or the rest of them, as far as there is room. */
void control_tallies_list(struct control *k);
/* A report that k has waited for is there. False: k has gone meanwhile, and the report too. */
bool control_report_arrived(struct control *k, struct client_report *r);

/* ---- control_clients.c ----------------------------------------------------------------- */

/* Answers k later, with the list of clients. */
void control_clients(struct control *k);
/* Their list, or the rest of it, as far as there is room. */
void control_clients_list(struct control *k);

/* ---- control_images.c ------------------------------------------------------------------ */

/* A request to xnbd-wrapper: its verb, and what is behind it (NULL: nothing). */
void images_request(struct control *k, const char *verb, char *rest);
/* Its list, or the rest of it, as far as there is room. */
void images_list(struct control *k);
/* These answer k, or make it `waiting`. */
void image_add(struct control *k, const char *name, const char *path);
void image_remove(struct control *k, const char *name);
void images_reload(struct control *k);
void images_save(struct control *k);
/* words: NAME, HOST, PORT, CACHE_IMAGE, BITMAP_IMAGE, CONTROL_SOCKET and, or NULL, the name of the export. NULL: it answers
 * k later; else why not. */
const char *proxy_add_words(struct control *k, const char *const *words);

/* ---- control_talk.c --------------------------------------------------------------------- */

/* k, of a wrapper, has not sent anything: it is greeted, and is in the conversation. */
void talk_begin(struct control *k);
/* A line of it. */
void talk_request(struct control *k, char *line);
/* Its part of control_answer(), and of images_list(). */
void talk_answer(struct control *k, const char *error);
void talk_list(struct control *k, const struct export *e);
void talk_list_kept(struct control *k, const struct kept_image *i);
void talk_list_end(struct control *k);
/* It ends, or its request has been answered. */
void talk_release(struct control *k);

/* ---- control_xnbd04.c --------------------------------------------------------------------- */

/* Whether what has come begins a request of the binary protocol: a native integer, of 0
 * to 5 if it makes sense; text begins with a letter. */
bool xnbd04_begins(const struct control *k);
/* Takes what has come. False: close the connection. */
bool xnbd04_parse(struct control *k);
/* The connection ends. */
void xnbd04_end(struct control *k);

#endif
