/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The end of a server. */
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/log.h"
#include "reactor/loop.h"
#include "reactor/verbose.h"
#include "secure/relay.h"
#include "server/database.h"
#include "server/device.h"
#include "server/life.h"
#include "server/proxies.h"
#include "server/server.h"
#include "storage/header.h"
#include "storage/own_paths.h"
#include "storage/snapshot.h"
#include "storage/trace_file.h"

enum {
	TELL_MS = 5000, /* how often a shutdown that takes long says why */
	PART_MS = 50,   /* for a client that is still sending to notice the end */
	STOP_MS = 3000, /* how long a shutdown waits for clients to read their last replies; then, for the last headers */
};

const char *server_end_awaits(void)
{
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE && !devices_have_ended())
		return "a device is in use";
	if (ENABLE_FEATURE_XNBD_SERVER_SNAPSHOT && snapshot_is_busy())
		return "a snapshot is not complete";
	return "what clients have written may not be on the disk";
}

/* Serves until it is done, and tells from time to time what that takes. */
static void wait_for_end(bool (*is_done)(void))
{
	uint64_t tell_ms = loop_now_ms() + TELL_MS;

	while (!is_done()) {
		server_turn(loop_now_ms() + 100);
		if (loop_now_ms() < tell_ms)
			continue;
		bb_error_msg("shutdown is waiting (a second signal ends it at once): %s", server_end_awaits());
		tell_ms = loop_now_ms() + TELL_MS;
	}
}

void server_end_devices(bool keep)
{
	devices_end(keep);
	server_end_of_turn(); /* a turn begins with a wait */
	wait_for_end(devices_have_ended);
}

static unsigned commits; /* under way */
static int commit_error;

static void last_commit_done(struct commit_waiter *w UNUSED_PARAM, int error)
{
	commits--;
	if (error)
		commit_error = error;
}

static bool commits_are_done(void)
{
	const struct export *e;

	for (e = ENABLE_FEATURE_XNBD_SERVER_COVER ? exports : NULL; e; e = e->next)
		if (e->disk.words && core_is_switching(e->disk.core)) /* a worker has its files */
			return false;
	return !commits && !exports_are_closing() && !(ENABLE_FEATURE_XNBD_SERVER_SNAPSHOT && snapshot_is_busy());
}

/* Everything is made durable. */
static void last_commits(void)
{
	struct export *e;

	for (e = exports; e; e = e->next) {
		if (!e->users || (export_config.readonly && !e->disk.words))
			continue;
		commits++;
		export_hold(e); /* it may be removed meanwhile */
		e->last_commit.done = last_commit_done;
		core_commit(e->disk.core, &e->last_commit);
		core_tick(e->disk.core, loop_now_ms());
	}
	server_end_of_turn();
	wait_for_end(commits_are_done);
}

/* Writes into the headers of all proxies how their files are left, if it is certain that nothing is missing: the next
 * start then compares them with that. False: not yet. */
static bool files_are_left(void)
{
	const struct served *s;
	bool all = true;

	for_each_served(s) {
		struct disk *d = &s->export->disk;
		bool is_proxy = ENABLE_FEATURE_XNBD_SERVER_PROXY && d->words;

		if (is_proxy && core_is_quiet(d->core) && !core_has_failed(d->core) && !d->save.write.busy && !d->header.clean)
			header_finish(d);
		all &= !is_proxy || (core_is_quiet(d->core) && !d->save.write.busy);
	}
	return all;
}

/* Behind everything else, so it has time of its own: nobody who was slow before has used that up. */
static void leave_files(void)
{
	uint64_t deadline = loop_now_ms() + STOP_MS;

	while (!files_are_left() && loop_now_ms() < deadline) {
		server_end_of_turn(); /* a turn begins with a wait */
		server_turn(loop_now_ms() + PART_MS);
	}
}

static void end_recording(struct recording *r, uint64_t deadline_ms)
{
	record_end(r);
	server_end_of_turn(); /* a turn begins with a wait */
	while (record_is_busy(r) && loop_now_ms() < deadline_ms)
		server_turn(deadline_ms);
}

int server_end(void)
{
	const struct served *s;
	uint64_t deadline;

	server.ending = true;
	if (ENABLE_FEATURE_XNBD_SERVER_INIT)
		log_notify("STOPPING=1");
	listen_end();
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE)
		server_end_devices(server_config->keep_device);
	for_each_served(s) {
		if (ENABLE_FEATURE_XNBD_SERVER_PROXY)
			core_job_cancel(s->export->disk.core);
		if (ENABLE_FEATURE_XNBD_SERVER_TRACE && s->record)
			end_recording(s->record, loop_now_ms() + STOP_MS);
		if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
			core_verify_cancel(s->export->disk.core);
	}
	if (ENABLE_FEATURE_XNBD_SERVER_THREADS) {
		fronts_leave();
		server_end_of_turn(); /* a turn begins with a wait */
		wait_for_end(fronts_have_left);
	}
	sessions_stop();
	deadline = loop_now_ms() + STOP_MS; /* a device may have taken long */
	server_end_of_turn(); /* what is given up is answered at once */
	while (sessions_in_flight() && loop_now_ms() < deadline)
		server_turn(deadline);
	while (sessions_part() && loop_now_ms() < deadline)
		server_turn(loop_now_ms() + PART_MS);
	/* They give up by themselves, and nobody waits for the end of a server of one client. */
	while (ENABLE_FEATURE_XNBD_TLS && relays_serving() && (!server.stopping_ms || loop_now_ms() < deadline))
		server_turn(loop_now_ms() + PART_MS);
	for_each_served(s)
		if (ENABLE_FEATURE_XNBD_SERVER_PROXY && s->export->disk.origin)
			origin_end(s->export->disk.origin); /* nothing may change the files behind files_are_left() */
	last_commits();
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY)
		leave_files();
	if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && server_config->dbpath)
		database_end();
	if (SERVER_HAS_CONTROL && server_config->control)
		control_end(&server.control);
	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY)
		proxies_end();
	if (commit_error)
		bb_simple_error_msg("the image could not be synced to disk: do not trust it");
	return commit_error || exports_unsynced;
}

void server_leave(void)
{
	if (is_verbose() && this_loop)
		verbose_end();
	paths_remove(server.is_begun);
	log_end();
}
