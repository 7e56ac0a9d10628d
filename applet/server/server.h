/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server: what a command line asks for, and how the parts of server/ meet.
 * Everything here runs on the loop's thread.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "libbb.h"
#include "export/export.h"

/* What a command line asks for. Strings are the caller's and live for ever. */
struct server_config {
	const char *image;          /* NULL: xnbd-wrapper, which serves many */
	const llist_t *images;      /* ... of which it begins with these */
	const char *bitmap;         /* proxy, else NULL */
	const char *control;        /* proxy, wrapper: path of the control socket, or NULL */
	const char *origin_host;    /* proxy; "unix:PATH" is a Unix socket */
	const char *origin_port;
	const char *origin_export;  /* "" = default export */
	const char *laddr;          /* NULL = any */
	const char *lport;          /* NULL = no TCP */
	const char *unix_path;      /* NULL = no Unix socket */
	const char *pidfile, *logpath;
	uint64_t max_buf_bytes;     /* 0 = no limit */
	uint64_t rate_bytes;        /* of the background copy; 0 = no limit */
	unsigned max_queue;         /* requests in flight; 0 = no limit */
	unsigned max_clients;
	unsigned hold_s;            /* 0 = for ever */
	bool one_client;            /* does not listen: serves the client on this descriptor */
	bool past_handshake;        /* ... who has done it already */
	int client_fd;
	const char *hook;           /* program to run once when the disk is complete and switched, or NULL */
	const char *record;         /* boot trace to write, or NULL */
	const char *prefetch;       /* boot trace to fetch, or NULL */
	bool auto_switch;           /* ... which is done as soon as it can be */
	bool verify;                /* ... after a comparison with the origin */
	bool root_storage;          /* the root file system may depend on this server */
	bool readonly, cow, daemonize, clear_bitmap, adopt_bitmap, accept_image, oldstyle, syslog;
};

/* Defaults, as they are written on a command line. */
#define SERVER_PORT      "8520"
#define SERVER_CLIENTS   "128"
#define SERVER_QUEUE     "4096"
#define SERVER_BUF_BYTES "33554432"

/* Takes these numbers, and looks whether there is something to listen on. Dies with one
 * line. */
void server_limits(struct server_config *config, const char *clients, const char *queue, const char *buf);

/* Serves until SIGTERM or SIGINT; returns the exit status. Dies with one line
 * when it cannot begin. */
int server_run(const struct server_config *config);

/* Looks at a proxy's files, as they are without a server: tells on stdout what they hold,
 * and returns 0 when a start would take them, else dies with one line. With
 * config->origin_host: whether they are of that origin. */
int server_check(const struct server_config *config);

extern const struct server_config *server_config;

/* Reaches the origin of e for the first time. needed: dies when it is not there or not an NBD
 * server. Else waits for a moment only; false: it may come later. */
bool server_reach_origin(struct export *e, bool needed);

/* This path is removed when the server ends, however it ends by itself; unless_ready:
 * only if it ends before it serves, so that a start that fails leaves nothing. */
void server_owns_path(const char *path, bool unless_ready);

/* ---- init.c ---------------------------------------------------------------------- */

/* The i-th socket that systemd has opened for us (LISTEN_FDS, sd_listen_fds(3)), or -1. */
int init_socket(unsigned i);
/* Tells the service manager, if there is one (NOTIFY_SOCKET, sd_notify(3)); waits for it. */
void init_notify(const char *state);
/* From now on this process needs nothing that could be on the disk it serves; dies when it
 * may not. */
void init_root_storage(void);
/* ... and its files need no memory while they are used, as far as the kernel allows it. */
void init_root_files(struct export *e);
/* What init_run_hook() is to run, and the image's path, both absolute and kept. At the start:
 * dies when there is no memory. */
void init_hook(char *program, char *image);
/* Runs the program, once, with the image's path, which the environment has as XNBD_IMAGE;
 * the loop takes its end away. Takes no memory. */
void init_run_hook(void);

/* ---- trace_file.c: the boot trace of a proxy --------------------------------------------- */

/* Opens where it is to be written; dies when it cannot. */
void record_open(const char *path);
/* e begins to live: from now on it is recorded, what a trace names is fetched. */
void record_begin(struct export *e);
void prefetch_begin(struct export *e, const char *path);
/* Writes what is not written yet; not to wait for longer than the caller likes. */
void record_end(void);
bool record_is_busy(void);

/* ---- snapshot.c ------------------------------------------------------------------ */

/* Begins to copy the image of e, a target; tells of an error by a message. */
void snapshot_begin(struct export *e);
bool snapshot_is_busy(void);

/* ---- listen.c ------------------------------------------------------------------ */

/* Binds ports that the configuration asks for, and looks whether Unix sockets can be made;
 * dies when not. Nobody is accepted before listen_begin(), which makes them: whoever waits
 * for the file of one is served. */
void listen_bind(void);
void listen_begin(void);
/* Accepts nobody any more. */
void listen_end(void);
/* After accept(2) failed, of any listener. True: not because nobody is there; told by a
 * message now and then, and the caller is not to try again at once. */
bool listen_failed(void);
/* Binds a Unix socket that listen_check() has allowed: a stale file is replaced, anything
 * else in the way is fatal. Returns the descriptor. */
int listen_unix(const char *path);
void listen_check(const char *path);

/* ---- inetd.c ----------------------------------------------------------------- */

/* For a client that is connected to this descriptor, before there is a second thread and before the
 * first message: nothing goes to standard error or output when that is the client too. Standard
 * input and output that are pipes become one socket; dies when that cannot be. */
void inetd_prepare(int fd);
/* It is served; dies when it cannot be. past_handshake: NULL, or the export it is past its handshake for. */
void inetd_begin(int fd, struct export *past_handshake);

/* ---- session.c ------------------------------------------------------------------ */

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

/* ---- reason.c --------------------------------------------------------------------- */

/* Why r was answered with this error: static text, "" when there is nothing to say. */
const char *reason(const struct core *c, const struct request *r, uint32_t error);

/* ---- origin.c, link.c ------------------------------------------------------------ */

/* How an attempt to reach an origin ended: error NULL for well, else one line; refused:
 * it is not in use. The first attempt of all: not refused with an error, it is another disk's. */
typedef void origin_callback(void *ctx, const char *error, bool refused);

/* An origin at this address; strings are copied. Connects at once. `first` is
 * called once, when the first attempt has ended. Dies when there is no memory. */
struct origin *origin_new(struct export *e, const char *host, const char *port, const char *name, origin_callback *first,
			  void *ctx);
/* After the first attempt went well: what the origin is. */
uint64_t origin_size_bytes(const struct origin *o);
const struct fingerprint *origin_fingerprint(const struct origin *o);
/* The core exists from now on: gives it the link. One that has not been reached yet is, then
 * or later, and has to be the one that e->header tells of. */
void origin_start(struct origin *o);
/* Drops the links and tries another address; the old one is kept when that is
 * refused. One at a time. name NULL: as before. NULL, or why it was not begun: one line. */
const char *origin_reconnect(struct origin *o, const char *host, const char *port, const char *name, bool force,
		      origin_callback *done, void *ctx);
/* The same with a connection to the new address that is past its handshake and gives
 * simple replies. NULL: fd is the origin's. */
const char *origin_adopt(struct origin *o, int fd, origin_callback *done);
/* The commit file's header is on the disk, or (error: errno) is not. */
void origin_header_saved(struct origin *o, int error);
/* An attempt to reach it begins now, not after a pause. */
void origin_hurry(struct origin *o);
const char *origin_host(const struct origin *o);
const char *origin_port(const struct origin *o);
const char *origin_export(const struct origin *o);
const char *origin_state(const struct origin *o);
/* Why it is lost, or refused: one line; "none" */
const char *origin_error(const struct origin *o);
/* At the end of each turn of the loop: sends what was asked. */
void origin_turn(struct origin *o);
/* The server ends: what the origin still sends is not stored. Loop's thread. */
void origin_end(struct origin *o);

/* ---- control.c -------------------------------------------------------------------- */

/* Listens from now on; dies when it cannot. e: the proxy's, NULL for a wrapper. */
void control_begin(struct export *e);
/* The job moved: those who follow it are told. */
void control_job_changed(struct export *e);
/* How the last comparison with the origin has ended. NULL: well; else one line, valid until
 * the next call. */
bool control_verdict(const struct core *c, const char **text);
/* The origin is no longer needed: those who wait for it are told. */
void control_switched(void);
void control_end(void);

#endif
