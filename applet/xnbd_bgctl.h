/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What the files of xnbd-bgctl share. xnbd_bgctl.c has the command line and the text protocol; xnbd_bgctl_socket.c the
 * control socket; xnbd_bgctl_progress.c --progress; xnbd_bgctl_watch.c --watch; xnbd_bgctl_xnbd04.c the protocol of
 * xNBD 0.4; xnbd_bgctl_all.c --all. The last four can be left out. All of them except xnbd_bgctl_all.c also build
 * inside a BusyBox tree: besides this header, they include only libbb.h.
 *
 * One thread. Functions that fail end the program with one line on stderr.
 */
#ifndef XNBD_BGCTL_H
#define XNBD_BGCTL_H

/* The options, as bits; those of a feature that is left out are 0. */
enum {
	OPT_QUERY = 1 << 0,
	OPT_SWITCH = 1 << 1,
	OPT_CACHE_ALL = 1 << 2,
	OPT_FORCE = 1 << 3,
	OPT_BLOCKS = 1 << 4,
	OPTBIT_CACHE_ALL2 = 5,
	OPTBIT_PROGRESS = OPTBIT_CACHE_ALL2 + ENABLE_FEATURE_XNBD_BGCTL_CACHE_ALL2,
	OPTBIT_RECONNECT = OPTBIT_PROGRESS + ENABLE_FEATURE_XNBD_BGCTL_PROGRESS,
	OPTBIT_EXPORTNAME = OPTBIT_RECONNECT + ENABLE_FEATURE_XNBD_BGCTL_RECONNECT,
	OPTBIT_PAUSE = OPTBIT_EXPORTNAME + ENABLE_FEATURE_XNBD_BGCTL_EXPORTNAME,
	OPT_CACHE_ALL2 = ENABLE_FEATURE_XNBD_BGCTL_CACHE_ALL2 << OPTBIT_CACHE_ALL2,
	OPT_PROGRESS = ENABLE_FEATURE_XNBD_BGCTL_PROGRESS << OPTBIT_PROGRESS,
	OPT_RECONNECT = ENABLE_FEATURE_XNBD_BGCTL_RECONNECT << OPTBIT_RECONNECT,
	OPT_EXPORTNAME = ENABLE_FEATURE_XNBD_BGCTL_EXPORTNAME << OPTBIT_EXPORTNAME,
	OPT_PAUSE = ENABLE_FEATURE_XNBD_BGCTL_JOB << OPTBIT_PAUSE,
	OPT_RESUME = ENABLE_FEATURE_XNBD_BGCTL_JOB << (OPTBIT_PAUSE + 1),
	OPT_CANCEL = ENABLE_FEATURE_XNBD_BGCTL_JOB << (OPTBIT_PAUSE + 2),
	OPTBIT_VERIFY = OPTBIT_PAUSE + 4 * ENABLE_FEATURE_XNBD_BGCTL_JOB,
	OPT_VERIFY = ENABLE_FEATURE_XNBD_BGCTL_VERIFY << OPTBIT_VERIFY,
	OPTBIT_HOLD = OPTBIT_VERIFY + ENABLE_FEATURE_XNBD_BGCTL_VERIFY,
	OPT_HOLD = ENABLE_FEATURE_XNBD_BGCTL_HOLD << OPTBIT_HOLD,
	OPTBIT_UPGRADE = OPTBIT_HOLD + ENABLE_FEATURE_XNBD_BGCTL_HOLD,
	OPT_UPGRADE = ENABLE_FEATURE_XNBD_BGCTL_UPGRADE << OPTBIT_UPGRADE,
	OPTBIT_CLIENTS = OPTBIT_UPGRADE + ENABLE_FEATURE_XNBD_BGCTL_UPGRADE,
	OPT_CLIENTS = ENABLE_FEATURE_XNBD_BGCTL_CLIENTS << OPTBIT_CLIENTS,
	OPT_METRICS = ENABLE_FEATURE_XNBD_BGCTL_CLIENTS << (OPTBIT_CLIENTS + 1),
	OPTBIT_WATCH = OPTBIT_CLIENTS + 2 * ENABLE_FEATURE_XNBD_BGCTL_CLIENTS,
	OPT_WATCH = ENABLE_FEATURE_XNBD_BGCTL_WATCH << OPTBIT_WATCH,
	OPTBIT_ALL = OPTBIT_WATCH + ENABLE_FEATURE_XNBD_BGCTL_WATCH,
	OPT_ALL = ENABLE_FEATURE_XNBD_BGCTL_ALL << OPTBIT_ALL,
	OPT_DBPATH = ENABLE_FEATURE_XNBD_BGCTL_ALL << (OPTBIT_ALL + 1),
};

enum {
	BLOCK_BYTES = 4096,
	QUERY_TIMEOUT_S = 30,
	NAME_MAX_BYTES = 4096,                 /* NBD: the longest name of an export */
	REPLY_BYTES = 3 * NAME_MAX_BYTES + 64, /* the longest line of a server: a name, encoded */
	EXIT_PARTIAL = 2, /* of --verify: nothing differs, but not all was compared */
};

/* What stands behind the options; NULL: not given. */
struct arguments {
	char *blocks, *name, *rate, *hold, *program, *dbpath;
	char **argv; /* CONTROL_SOCKET; for OPT_RECONNECT also REMOTE_HOST, REMOTE_PORT */
};

/* ---- xnbd_bgctl.c ----------------------------------------------------------------------- */

/* To stdout. */
void bgctl_print(const char *text, size_t n) FAST_FUNC;

/* ---- xnbd_bgctl_progress.c ---------------------------------------------------------------- */

/* The state of a copy or a comparison. The server sends it as groups of lines, see CONTROL SOCKET
 * in xnbd-server(8). */
struct progress {
	unsigned long long blocks;
	unsigned long long cached; /* blocks that are done */
	unsigned long long found;  /* blocks that were done before */
	unsigned long long rate;   /* bytes a second */
	char eta[24];
	char percent[16];
	char origin[12];
	bool terminal;
	bool drawn; /* the cursor stands behind a bar */
	bool ended;
	bool paced; /* the rate is known */
	unsigned groups;
	unsigned long long began_ms, first_ms; /* asked for, first group */
	unsigned long long first;              /* blocks that were done then */
};

/* --all: of several disks, one. Their bars stand one below the other, and the cursor below the last one. */
struct progress_row {
	const char *name; /* of the disk; NULL: there is one, whose bar is in the row of the cursor */
	int width;        /* bytes that all names have room for */
	unsigned above;   /* so many rows above the cursor; 0: no bars, but lines */
	const char *kept; /* why its wrapper does not serve it; NULL: it does, or that is not known */
};
extern struct progress_row bgctl_row;

void bgctl_progress_begin(struct progress *p) FAST_FUNC;
/* Takes a line of the server; shows the state when a group is complete. */
void bgctl_progress_line(struct progress *p, const char *key, const char *value) FAST_FUNC;
/* Shows the last state and the mean rate, if anything was shown. Further calls do nothing. */
void bgctl_progress_end(struct progress *p) FAST_FUNC;

/* ---- xnbd_bgctl_all.c ----------------------------------------------------------------------- */

/* A process for each proxy that this database names. Returns there, with its control socket instead of argv, and
 * the name of its disk before each message. The caller's process waits for all of them, and ends. */
char **bgctl_all(unsigned opt, const char *dbpath) FAST_FUNC;

/* ---- xnbd_bgctl_watch.c --------------------------------------------------------------------- */

/* What is shown of a terminal. */
struct picture {
	unsigned rows, columns; /* that are left below */
	unsigned at;            /* so much of the row is full */
	bool begins;            /* nothing is shown yet: a last message stays below the picture before */
};

void bgctl_picture_begin(struct picture *p) FAST_FUNC;
/* A line of the server, of n bytes: in a row of its own, or behind the last one if there is room. */
void bgctl_picture_line(struct picture *p, const char *text, size_t n, bool own_row) FAST_FUNC;
/* Nothing more is shown. wait: until it is time for the next picture. */
void bgctl_picture_end(struct picture *p, bool wait) FAST_FUNC;

/* ---- xnbd_bgctl_socket.c ------------------------------------------------------------------ */

/* The control socket, and what has been read of it. */
struct control {
	const char *path;
	int fd;
	bool answered;       /* something has come */
	unsigned away;       /* so often it was told that the origin is not there */
	unsigned first, end; /* unread bytes of in */
	char *in;            /* REPLY_BYTES */
	struct picture picture; /* --watch */
};

/* A connection to a Unix socket; the caller closes it. Waits QUERY_TIMEOUT_S for its place. */
int bgctl_connect(const char *path) FAST_FUNC;
/* Reads of fd, writes and a connect fail with EAGAIN after so many seconds without data; 0: never. */
void bgctl_set_timeout(int fd, unsigned seconds) FAST_FUNC;

/* Sends n bytes, and fd with them, which is closed. */
void bgctl_send_fd(int to, const char *p, size_t n, int fd) FAST_FUNC;

/* n bytes, of which those that a terminal might obey become '?'. */
void bgctl_make_printable(char *p, size_t n) FAST_FUNC;

/* The next line, without its '\n', and with nothing else that a terminal might obey. The caller may change it; the next call overwrites it. NULL: the
 * server hung up without any answer, so it does not know this protocol. */
char *bgctl_read_line(struct control *c) FAST_FUNC;

/* ---- xnbd_bgctl_xnbd04.c ------------------------------------------------------------------ */

/* Does what the options say with a server of xNBD 0.4. Returns the exit status. */
int bgctl_xnbd04(unsigned opt, const struct arguments *a) FAST_FUNC;

#endif
