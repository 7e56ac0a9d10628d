/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The control socket: changes the address of a proxy's origin. */
//config:config FEATURE_XNBD_SERVER_RECONNECT_URI
//config:	bool "A new origin as a URI (590 bytes)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY
//config:	help
//config:	The control socket takes the new address of the origin as a URI, too,
//config:	also one with TLS: xnbd-bgctl --reconnect CONTROL_SOCKET URI.
#include "libbb.h"
#include "control/connection.h"
#include "origin/origin.h"
#include "reactor/pool.h"

static void reconnect_done(void *ctx, const char *error, bool refused)
{
	struct control *k = ctx;
	char text[300];

	if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && control_database && !error) {
		control_database->save(control_saved, k);
		return;
	}
	if (error && refused)
		snprintf(text, sizeof(text), "the new origin is refused: %s; the old one stays", error);
	else if (error)
		snprintf(text, sizeof(text), "%s", error);
	control_answer_late(k, error ? text : NULL);
}

/* True: there is nothing to be done, and k has its answer. */
static bool refuse_switched(struct control *k)
{
	if (core_is_proxy(k->export->disk.core))
		return false;
	control_answer_late(k, "this server was switched: it needs no origin");
	return true;
}

static bool is_text(const char *p)
{
	return nbd_utf8(p, strlen(p)) == strlen(p);
}

static void begin(struct control *k, const struct origin_address *a, bool force)
{
	const char *why = "what is not UTF-8 cannot be kept in the database";

	if (!ENABLE_FEATURE_XNBD_WRAPPER_DBPATH || !control_database || (is_text(a->host) && is_text(a->port) && is_text(a->name)))
		why = origin_reconnect(k->export->disk.origin, a, force, reconnect_done, k);

	if (why)
		control_answer_late(k, why);
}

void reconnect_to(struct control *k, const char *host, const char *port, const char *name, bool force)
{
	struct origin_address a;

	k->waiting = true;
	if (refuse_switched(k))
		return;
	a = *origin_address(k->export->disk.origin);
	a.host = host;
	a.port = port;
	if (name)
		a.name = name;
	begin(k, &a, force);
}

#if ENABLE_FEATURE_XNBD_SERVER_RECONNECT_URI
/* Where the proxy is to go, while a worker finds out. */
struct place {
	struct job job;
	struct control *k; /* which is `waiting` */
	struct origin_address a;
	bool force, well;
	char why[512];
	char text[];
};

/* Dies of what is wrong. */
static void find_place(void *p)
{
	struct place *to = p;
	struct nbd_uri u;
	const char *wrong = nbd_uri_parse(to->text, &u);

	if (wrong)
		bb_error_msg_and_die("the URI of the origin %s", wrong);
	/* Who asks may be in another directory. */
	if ((u.path && *u.path != '/') || (u.psk_file && *u.psk_file != '/'))
		bb_simple_error_msg_and_die("in the URI of the origin, paths must begin with a slash");
	origin_address_of(&to->a, &u);
	if (ENABLE_FEATURE_XNBD_TLS && u.tls)
		to->a.psk = psk_one(u.psk_file, u.user);
}

static void place_run(struct job *j)
{
	struct place *to = (struct place *)j;

	to->well = bb_survives(find_place, to, to->why, sizeof(to->why));
}

static void place_done(struct job *j)
{
	struct place *to = (struct place *)j;

	if (!to->well || to->k->dead)
		control_answer_late(to->k, to->why);
	else if (!refuse_switched(to->k))
		begin(to->k, &to->a, to->force);
	if (ENABLE_FEATURE_XNBD_TLS && to->a.psk)
		secret_free((struct psk *)to->a.psk, sizeof(*to->a.psk));
	free((char *)to->a.host);
	free(to);
}

void reconnect_to_uri(struct control *k, const char *uri, bool force)
{
	static struct serial_queue queue = { .most = SLOW_KEYS }; /* files that hang leave workers to others */
	struct place *to = calloc(1, sizeof(*to) + strlen(uri) + 1);

	if (!to) {
		control_answer(k, "out of memory");
		return;
	}
	strcpy(to->text, uri);
	to->k = k;
	to->force = force;
	to->job.run = place_run;
	to->job.done = place_done;
	to->job.class = JOB_SLOW;
	to->job.queue = &queue;
	to->job.owner = k->export;
	k->waiting = true; /* from here on it lives until it is answered */
	pool_submit(&to->job);
}
#endif
