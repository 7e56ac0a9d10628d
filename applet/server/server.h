/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The server: runs what the command line describes, from start to shutdown. It connects the rooms below, and makes the
 * decisions that no client requests: when to switch, compare or exit.
 *
 * For the applets, and the files of this room. One thread, which then runs the loop.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "libbb.h"
#include "client/client.h"
#include "export/export.h"
#include "origin/origin.h"

/* What a command line asks for. Strings are the caller's and live forever. */
struct server_config {
	const char *image;          /* NULL: xnbd-wrapper, which serves many */
	const llist_t *images;      /* of a wrapper: PATH, served from the start */
	const llist_t *named_images; /* of a wrapper: NAME=PATH, served from the start */
	const llist_t *proxies;      /* of a wrapper: NAME=URI,..., served from the start */
	const char *dbpath;          /* of a wrapper: the database, or NULL */
	char *origin_uri;           /* what the names of the origin point into, if it was given so */
	const char *bitmap;         /* proxy, else NULL */
	const char *commit;         /* its commit file; NULL: beside the bitmap */
	const char *control;        /* path of the control socket, or NULL */
	struct origin_address origin; /* proxy; its name "": the default export */
	const char *laddr;          /* NULL = any */
	const char *lport;          /* NULL = no TCP */
	const char *unix_path;      /* NULL = no Unix socket */
	const char *tls_psk;        /* file of keys for clients; NULL = no TLS */
	const char *allow;          /* addresses that may connect; NULL = all */
	const char *pidfile, *logpath;
	unsigned threads;           /* with a loop, 1..LOOPS_MAX */
	uint64_t max_buf_bytes;     /* 0 = no limit */
	struct client_limits limits;
	struct export_config exports;
	bool one_client;            /* does not listen: serves the client on client_fd */
	bool past_handshake;        /* the handshake of that client is already done */
	int client_fd;
	const char *device;         /* of the kernel, that is the disk; or NULL */
	const llist_t *devices;     /* of a wrapper: NAME=DEVICE */
	unsigned connections;       /* to each device, 1..KERNEL_NBD_CONNECTIONS_MAX */
	bool keep_device;           /* devices stay when the server ends */
	const char *hook;           /* program to run once when the disk is complete and switched, or NULL */
	const char *record;         /* boot trace to write, or NULL */
	const char *prefetch;       /* boot trace to fetch, or NULL */
	char **argv;                /* the command line, for another program that takes this one's place */
	bool auto_switch;           /* switch as soon as that can be done */
	bool verify;                /* auto_switch only after a good comparison with the origin */
	bool daemonize, clear_bitmap, adopt_bitmap, accept_image, cover, syslog, verbose;
	bool restart;               /* with daemonize: what was killed is started again */
};

/* Defaults, as they are written on a command line. */
#define SERVER_PORT      "8520"
#define SERVER_CLIENTS   "128"
#define SERVER_QUEUE     "4096"
#define SERVER_BUF_BYTES "33554432"
#define SERVER_THREADS   "0" /* one a processor */

/* ---- options.c: options of both command lines ------------------------------------------------- */

/* Takes these numbers, and looks whether there is something to listen on; and whether --root-storage can hold what it promises. Dies
 * with one line. */
void server_limits(struct server_config *config, const char *clients, const char *queue, const char *buf, const char *threads);

/* --connections (NULL: not given) and --keep-device; the devices are set. Dies if there is none, or it cannot be kept. */
void server_devices(struct server_config *config, const char *connections);

/* --sector-size and --discard (NULL: not given). Dies if a value is invalid. */
void server_sectors(struct server_config *config, const char *sector, const char *discard);

/* --cow-client, with --cow-limit (NULL: not given). Dies if the combination makes no sense. */
void server_cow_client(struct server_config *config, const char *limit);

/* --description NAME=TEXT of a wrapper. Dies if one is malformed. */
void server_descriptions(struct server_config *config, const llist_t *list);

/* --tls MODE (NULL: not given), when c->tls_psk is set. Dies of what makes no sense. */
void server_tls(struct server_config *config, const char *mode);

/* --allow-key: rules of client_limits, behind server_tls(). Dies of what makes no sense. */
void server_key_rules(struct server_config *config, const llist_t *rules);

/* ------------------------------------------------------------------------------------------------ */

/* Serves until SIGTERM or SIGINT; returns the exit status. Dies with one line
 * when it cannot begin. */
int server_run(const struct server_config *config);

/* --check, of a proxy that does not run: tells on stdout what its files hold. Dies with one line
 * when a start would refuse them. With config->origin.host: also compares them with that origin.
 * Returns the exit status. */
int server_check(const struct server_config *config);

extern const struct server_config *server_config;

/* Reaches the origin of d for the first time. needed: dies when it is not there or not an NBD
 * server. Else waits for a few seconds only; false: it may come later. Dies when it serves another
 * disk. */
bool server_reach_origin(struct disk *d, bool needed);
/* After a look at the files of d: dies, with an exit status of its own, if it was switched and others have the image. */
void server_check_in_use(const struct disk *d);

#endif
