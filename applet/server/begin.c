/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* How a server begins: as its command line says, or by replacing another program. */
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/buf.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/daemon.h"
#include "server/database.h"
#include "server/device.h"
#include "server/init.h"
#include "server/life.h"
#include "server/proxies.h"
#include "server/server.h"
#include "server/upgrade.h"
#include "storage/holes.h"
#include "storage/paths.h"
#include "storage/resident.h"
#include "storage/store.h"
#include "storage/trace_file.h"

enum {
	EXIT_SWITCHED = 3,
	HUNG_EXPORTS = 3, /* so many disks may hang, each with all workers of an export; others still get some */
};

static struct {
	bool ended, away;
	char error[256];
} first_attempt;

static void first_attempt_ended(void *ctx UNUSED_PARAM, const char *error, bool refused)
{
	first_attempt.ended = true;
	first_attempt.away = refused;
	snprintf(first_attempt.error, sizeof(first_attempt.error), "%s", error ? error : "");
}

bool server_reach_origin(struct disk *d, bool needed)
{
	const struct server_config *s = server_config;
	uint64_t until_ms = needed ? UINT64_MAX : loop_now_ms() + ORIGIN_WAIT_MS;

	d->origin = origin_new(d, &s->origin, first_attempt_ended, NULL);
	while (!first_attempt.ended && !server.stopping_ms && loop_now_ms() < until_ms) {
		pool_flush(false);
		if (!first_attempt.ended)
			loop_once(until_ms);
		origin_turn(d->origin);
	}
	if (server.stopping_ms)
		bb_error_msg_and_die("origin %s:%s: ended by a signal before it answered", s->origin.host, s->origin.port);
	if (first_attempt.error[0] && (needed || !first_attempt.away))
		bb_error_msg_and_die("origin %s:%s: %s", s->origin.host, s->origin.port, first_attempt.error);
	return first_attempt.ended && !first_attempt.error[0];
}

void server_check_in_use(const struct disk *d)
{
	if (!d->in_use)
		return;
	xfunc_error_retval = EXIT_SWITCHED;
	store_die_in_use(d);
}

static void begin_proxy(struct served *proxy)
{
	struct export *e = proxy->export;
	struct disk *d = &e->disk;
	const struct server_config *s = server_config;
	const struct fingerprint *fp = NULL;
	const char *wrong;
	uint64_t size_bytes;
	bool complete, all_dirty;

	d->adopt = s->adopt_bitmap;
	d->accept = s->accept_image;
	d->wants_cover = s->cover;
	complete = store_inspect(d, s->image, s->bitmap, s->commit, s->clear_bitmap);
	server_check_in_use(d);
	if (complete) /* needs no origin, not even to start */
		d->origin = origin_new(d, &s->origin, NULL, NULL);
	else if (server_reach_origin(d, !d->words))
		fp = origin_fingerprint(d->origin);
	size_bytes = fp ? origin_size_bytes(d->origin) : d->header.size_bytes;
	if ((wrong = export_misfit(e, size_bytes)))
		bb_simple_error_msg_and_die(wrong);
	store_open(d, size_bytes, fp, s->clear_bitmap, &all_dirty);
	d->holes_known = holes_known(d->fd[FILE_IMAGE]);
	if (ENABLE_FEATURE_XNBD_SERVER_INIT && s->exports.root_storage)
		resident_files(d);
	if (!export_begin(e, size_bytes, all_dirty))
		bb_simple_error_msg_and_die("out of memory");
	if (d->switched) {
		proxy->policy.hook_done = true;
		origin_end(d->origin);
		return;
	}
	origin_start(d->origin);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && s->record)
		record_begin(proxy->record, d, NULL, 0);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && s->prefetch)
		prefetch_begin(d, s->prefetch);
}

/* NAME=PATH. NULL, or why not. */
static const char *add_named(const char *text)
{
	const char *equals = strchr(text, '=');
	char *name;
	const char *why;

	if (!equals)
		bb_error_msg_and_die("'%s' must be NAME=PATH", text);
	name = xstrdup(text);
	name[equals - text] = '\0';
	why = !*name ? "a name has at least one byte" : strlen(name) > NBD_NAME_MAX ? "the name of an export has at most 4096 bytes" : export_add(name, equals + 1);
	free(name);
	return why;
}

/* What is said of an image that nobody can add any more. */
static void check_named(const char *option, const char *name, size_t n)
{
	if (!export_find(name, n))
		bb_error_msg_and_die("'%s': there is no image of this name", option);
}

static void check_names(const struct server_config *s)
{
	const llist_t *l;

	for (l = s->limits.key_rules; l; l = l->link) {
		const char *image = strchr(l->data, '=') + 1; /* key_rules_check() */

		check_named(l->data, image, strlen(image));
	}
	for (l = s->exports.descriptions; l; l = l->link)
		check_named(l->data, l->data, (size_t)(strchr(l->data, '=') - (char *)l->data));
}

static void begin_exports(void)
{
	const struct server_config *s = server_config;
	const char *name = s->exports.default_name ? s->exports.default_name : "";
	const char *why = NULL;
	const llist_t *l;

	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && s->bitmap) {
		server.one.export = export_new(name);
		if (!server.one.export)
			bb_simple_error_msg_and_die("out of memory");
		export_enlist(server.one.export);
		server.served = &server.one;
		begin_proxy(&server.one);
	} else if (s->image) {
		why = export_add(name, s->image);
		server.one.export = exports;
		server.served = exports ? &server.one : NULL;
	} else if (ENABLE_XNBD_WRAPPER) {
		for (l = s->images; l && !why; l = l->link)
			why = export_add(l->data, l->data);
		for (l = s->named_images; l && !why; l = l->link)
			why = add_named(l->data);
		if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && !why && s->proxies)
			proxies_begin(s->proxies);
		if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && !why && s->dbpath)
			database_begin(s->dbpath);
		if (!why && !s->control && s->exports.default_name && !export_find("", 0))
			why = IF_LONG_OPTS("--default") IF_NOT_LONG_OPTS("-n") ": there is no image of this name";
		if (!why && !s->control)
			check_names(s);
	}
	if (why)
		bb_simple_error_msg_and_die(why);
}

static void prepare_devices(const struct server_config *s, bool again)
{
	const llist_t *l;

	if (s->device)
		device_prepare("", s->device, s->connections, again);
	for (l = ENABLE_XNBD_WRAPPER ? s->devices : NULL; l; l = l->link) {
		char *name = xstrdup(l->data), *equals = strrchr(name, '=');

		if (!equals)
			bb_error_msg_and_die("'%s' must be NAME=DEVICE", name);
		*equals = '\0';
		device_prepare(name, equals + 1, s->connections, again);
	}
}

static void begin_devices(void)
{
	devices_begin();
	server_end_of_turn(); /* a turn begins with a wait */
	while (!devices_are_ready() && !server.stopping_ms)
		server_turn(loop_now_ms() + 100);
	if (!devices_have_failed())
		return;
	server_end_devices(false);
	devices_die();
}

/* Loops, workers and memory. */
static void begin_threads(void)
{
	const struct server_config *s = server_config;
	bool root_storage = ENABLE_FEATURE_XNBD_SERVER_INIT && s->exports.root_storage;

	loop_init(LOOP_CORE, !root_storage);
	server_signals();
	pool_start(s->image ? export_workers() : (HUNG_EXPORTS + 1) * export_workers() + 2 * HUNG_EXPORTS, root_storage, server_lead);
	buf_init(s->max_buf_bytes);
	if (root_storage)
		buf_reserve();
	fronts_begin(s->threads, !root_storage);
}

/* What the control sockets of all kinds of servers may ask for. */
static void enable_requests(void)
{
	if (ENABLE_FEATURE_XNBD_SERVER_UPGRADE)
		control_upgrade = upgrade_begin;
	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && !server_config->image)
		control_add_proxy = proxy_add;
	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && !server_config->image)
		control_add_proxy_words = proxy_add_xnbd;
}

void server_begin_again(void)
{
	const struct server_config *s = server_config;

	if (ENABLE_FEATURE_XNBD_SERVER_INIT && s->exports.root_storage) /* also in a trial: it may have lost the right to */
		init_root_storage(true);
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE)
		prepare_devices(s, true);
	upgrade_is_tried();
	die_func = server_leave;
	begin_threads();
	enable_requests();
	upgrade_restore();
	listen_begin();
	server.is_begun = server.is_ready = true;
	daemon_ready();
	if (ENABLE_FEATURE_XNBD_TLS)
		keys_reload(); /* a file that is there counts */
}

void server_begin(void)
{
	const struct server_config *s = server_config;

	die_func = server_leave;
	if (ENABLE_FEATURE_XNBD_SERVER_INETD && s->one_client)
		inetd_prepare(s->client_fd, s->origin.psk);
	/* Opened before anything is changed on disk. */
	if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && s->logpath)
		daemon_open_log(s->logpath);
	if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && s->pidfile)
		daemon_open_pidfile(s->pidfile);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && s->record)
		server.one.record = record_open(s->record);
	if (ENABLE_FEATURE_XNBD_SERVER_AUTO && s->hook)
		hook_init(&server.one.policy.hook, xpath_absolute(s->hook), xpath_absolute(s->image)); /* a daemon leaves its directory */
	/* Before the workers are born: they inherit it. */
	if (ENABLE_FEATURE_XNBD_SERVER_INIT && s->exports.root_storage)
		init_root_storage(false);
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE)
		prepare_devices(s, false);
	begin_threads();
	if (!s->one_client)
		listen_bind(s->laddr, s->lport, s->unix_path);
	if (SERVER_HAS_CONTROL && s->control)
		listen_check(s->control);
	begin_exports();
	server.is_begun = true;
	if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && s->pidfile)
		daemon_write_pidfile(s->pidfile);
	/* First: a client that is greeted may use it at once. */
	enable_requests();
	if (SERVER_HAS_CONTROL && s->control)
		control_begin(&server.control, server.one.export, s->control);
	if (!ENABLE_FEATURE_XNBD_SERVER_INETD || !s->one_client)
		listen_begin();
	else
		inetd_begin(s->client_fd, s->past_handshake ? server.one.export : NULL);
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE && !devices_are_ready())
		begin_devices();
	server.is_ready = true;
	if (!server.stopping_ms) /* else the end removes the devices again */
		daemon_ready();
}
