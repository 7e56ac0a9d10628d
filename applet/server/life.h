/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The lifecycle of a server, for its files: begin.c has its start, server.c its signals and the turns of its loop,
 * end.c its shutdown, tls.c the keys of its clients.
 *
 * One thread: that of the start, later the loop's. What begins or ends may take turns of the loop, or die with one line.
 */
#ifndef SERVER_LIFE_H
#define SERVER_LIFE_H

#include "control/control.h"
#include "export/export.h"
#include "server/policy.h"

struct recording;

enum {
	SERVER_HAS_CONTROL = ENABLE_FEATURE_XNBD_SERVER_PROXY + ENABLE_XNBD_WRAPPER + ENABLE_FEATURE_XNBD_SERVER_CONTROL > 0,
	ORIGIN_WAIT_MS = 5000, /* how long a proxy that begins waits for an origin that it can do without */
};

/* An export that has a policy and timers: that of xnbd-server, and each proxy of xnbd-wrapper. */
struct served {
	struct export *export; /* NULL: not there yet */
	struct policy policy;
	struct recording *record; /* the boot trace that is written; NULL: none */
	struct served *next;
};

extern struct server {
	struct served one;      /* that of xnbd-server */
	struct served *served;  /* all of them */
	struct control_socket control; /* of all: of the one, or of xnbd-wrapper */
	uint64_t stopping_ms;  /* the first signal to end came then; 0: none has */
	bool is_ready;
	bool is_begun; /* the header refers to the files, and clients may connect soon: the files must not be removed */
	bool ending;
} server;

/* Each of them; s is a struct served *. */
#if ENABLE_FEATURE_XNBD_WRAPPER_PROXY
# define for_each_served(s) for ((s) = server.served; (s); (s) = (s)->next)
#else
# define for_each_served(s) if (((s) = &server.one)->export)
#endif

/* ---- begin.c ----------------------------------------------------------------------------------- */

void server_begin(void);
/* Instead of another program, whose state upgrade_found() has found. */
void server_begin_again(void);

/* ---- server.c ---------------------------------------------------------------------------------- */

/* Signals are events from here on. Before any thread is started. */
void server_signals(void);
/* One turn of the loop; waits for events until the deadline at the latest. */
void server_turn(uint64_t deadline_ms);
/* Does all that can be done before the next wait. */
void server_end_of_turn(void);
/* Runs the loop, on a thread that takes it over, and exits. */
void server_lead(void) NORETURN;

/* ---- end.c ------------------------------------------------------------------------------------- */

/* Shutdown: finishes what was accepted, gives up what waits for the origin. Returns the exit status. */
int server_end(void);
/* What an end would still have to do. */
const char *server_end_awaits(void);
void server_end_devices(bool keep);
/* The last thing before the process ends, however it does. */
void server_leave(void);

/* ---- tls.c ------------------------------------------------------------------------------------- */

/* Reads the file of keys; dies when it cannot. */
void keys_begin(const char *path);
/* Has workers read it again, and those that the keys of origins come from. */
void keys_reload(void);
/* For another program in this process, or from it: the keys of clients; those of origins follow. As psk_handover(). */
void keys_handover(void);

#endif
