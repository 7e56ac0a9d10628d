/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The server: from its beginning to its end. */
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"
#include "control/control.h"
#include "device/ublk.h"
#include "origin/origin.h"
#include "reactor/buf.h"
#include "reactor/log.h"
#include "reactor/loop.h"
#include "reactor/message.h"
#include "reactor/pool.h"
#include "secure/relay.h"
#include "server/daemon.h"
#include "server/device.h"
#include "server/init.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/upgrade.h"
#include "storage/header.h"
#include "storage/holes.h"
#include "storage/own_paths.h"
#include "storage/paths.h"
#include "storage/resident.h"
#include "storage/snapshot.h"
#include "storage/store.h"
#include "storage/trace_file.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

enum {
	HUNG_EXPORTS = 3, /* so many disks may hang, each with all workers of an export; others still get some */
	START_MS = 5000,     /* how long a start waits for an origin that it can do without */
	SAME_SIGNAL_MS = 1000, /* timeout(1) signals its child, then the group with the child in it */
	TELL_MS = 5000,      /* how often a shutdown that takes long says why */
	PART_MS = 50,        /* for a client that is still sending to notice the end */
	STOP_MS = 3000,      /* how long a shutdown waits for clients to read their last replies */
	HAVE_CONTROL = ENABLE_FEATURE_XNBD_SERVER_PROXY || ENABLE_XNBD_WRAPPER,
};

const struct server_config *server_config;

static struct export *export; /* that of xnbd-server; NULL: many, of xnbd-wrapper */
static struct event signal_event;
static bool is_ready;
static bool is_begun; /* there are files that a header speaks of, and soon clients: they stay */
/* ---- keys ------------------------------------------------------------------------------------ */

static struct {
	struct job job;
	char *path; /* absolute: a daemon leaves its directory */
	char error[PSK_ERROR_BYTES];
	bool busy, again;
} keys;

static void keys_run(struct job *j UNUSED_PARAM)
{
	struct psk_list *l = psk_read(keys.path, keys.error);

	if (l)
		psk_use(l);
	else
		bb_error_msg("%s; those that were read before stay", keys.error);
}

static void keys_reload(void);

static void keys_done(struct job *j UNUSED_PARAM)
{
	keys.busy = false;
	if (keys.again)
		keys_reload();
}

static void keys_reload(void)
{
	keys.again = keys.busy;
	if (!keys.path || keys.busy)
		return;
	keys.busy = true;
	keys.job.run = keys_run;
	keys.job.done = keys_done;
	keys.job.class = JOB_SLOW;
	pool_submit(&keys.job);
}

static void keys_begin(const char *path)
{
	struct psk_list *l;

	keys.path = xpath_absolute(path);
	l = psk_read(keys.path, keys.error);
	if (!l)
		bb_simple_error_msg_and_die(keys.error);
	psk_use(l);
}

void server_tls(struct server_config *config, const char *mode)
{
	config->limits.tls = config->tls_psk ? NBD_TLS_ON : NBD_TLS_UNKNOWN;
	if (!mode)
		return;
	if (strcmp(mode, "off") == 0)
		config->limits.tls = NBD_TLS_OFF;
	else if (strcmp(mode, "require") == 0)
		config->limits.tls = NBD_TLS_REQUIRE;
	else if (strcmp(mode, "on") != 0)
		bb_error_msg_and_die("TLS is off, on or require, not '%s'", mode);
	if (config->limits.tls != NBD_TLS_OFF && !config->tls_psk)
		bb_simple_error_msg_and_die("TLS needs keys: give " IF_LONG_OPTS("--tls-psk") IF_NOT_LONG_OPTS("-E"));
	if (config->limits.tls == NBD_TLS_REQUIRE && (config->limits.oldstyle || config->past_handshake))
		bb_simple_error_msg_and_die("TLS cannot be required of clients without a newstyle handshake");
}

#if ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY
void server_key_rules(struct server_config *config, const llist_t *rules)
{
	key_rules_check(rules);
	config->limits.key_rules = rules;
	if (rules && config->limits.tls < NBD_TLS_ON)
		bb_simple_error_msg_and_die("nobody has a key without TLS: give " IF_LONG_OPTS("--tls-psk") IF_NOT_LONG_OPTS("-E"));
}
#endif

/* ---- signals -------------------------------------------------------------------------------- */

static uint64_t stopping_ms; /* the first signal to end came then; 0: none has */

/* What an end would still have to do. */
static const char *end_awaits(void)
{
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE && !devices_have_ended())
		return "a device is in use";
	if (ENABLE_FEATURE_XNBD_SERVER_SNAPSHOT && snapshot_is_busy())
		return "a snapshot is not complete";
	return "what clients have written may not be on the disk";
}

static void signal_ready(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct signalfd_siginfo info;
	const char *why;

	if (safe_read(e->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	} else if (info.ssi_signo == SIGUSR1) {
		if (ENABLE_FEATURE_XNBD_SERVER_SNAPSHOT && export)
			snapshot_begin(&export->disk);
	} else if (info.ssi_signo == SIGHUP) {
		if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && is_ready)
			daemon_reopen_log();
		if (ENABLE_FEATURE_XNBD_TLS && is_ready)
			keys_reload();
		if (ENABLE_FEATURE_XNBD_SERVER_PROXY && export && export->disk.origin)
			origin_hurry(export->disk.origin);
	} else if (info.ssi_signo != SIGUSR2) {
		if (!stopping_ms)
			stopping_ms = loop_now_ms();
		else if (loop_now_ms() - stopping_ms >= SAME_SIGNAL_MS)
			bb_error_msg_and_die("ended by a second signal before the end was reached: %s", end_awaits());
	} else if (ENABLE_FEATURE_XNBD_SERVER_PROXY && export && export->disk.words && export->disk.core) { /* a proxy, and begun */
		why = policy_switch(export->disk.core);
		if (why)
			bb_error_msg("not switched: %s", why);
	}
}

static void signals_begin(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGCHLD);
	signal_event.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	/* Blocked before any thread is started. These two as well: so a write to a pipe that nobody
	 * reads fails, and one to a terminal that others use does not stop us. */
	sigaddset(&set, SIGPIPE);
	sigaddset(&set, SIGTTOU);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal_event.ready = signal_ready;
	if (signal_event.fd < 0 || !event_add(&signal_event, EPOLLIN))
		bb_simple_perror_msg_and_die("signalfd");
}

/* ---- the loop --------------------------------------------------------------------------------- */

static bool ending;
static void loop_lead(void) NORETURN;

/* Does all that can be done before the next wait. */
static void end_of_turn(void)
{
	if (export)
		core_tick(export->disk.core, loop_now_ms());
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && export)
		header_tick(&export->disk);
	if (ENABLE_FEATURE_XNBD_SERVER_AUTO && export && export->disk.words)
		policy_apply(export->disk.core);
	do {
		do {
			sessions_turn();
			if (ENABLE_FEATURE_XNBD_SERVER_PROXY && export && export->disk.origin)
				origin_turn(export->disk.origin);
		} while (sessions_dirty());
		if (ENABLE_FEATURE_XNBD_SERVER_THREADS)
			message_flush(); /* answers do not wait for quick jobs, nor for who takes the loop over */
	} while (pool_flush(is_ready && !ending));
}

static void turn(uint64_t deadline_ms)
{
	/* The targets of a wrapper have no deadlines. */
	uint64_t at = export ? core_deadline(export->disk.core) : UINT64_MAX;

	if (ENABLE_FEATURE_XNBD_SERVER_THREADS && sessions_deadline() < at)
		at = sessions_deadline();
	loop_wait(at < deadline_ms ? at : deadline_ms);
	if (export)
		core_now(export->disk.core, loop_now_ms()); /* events came now, not when the wait began */
	loop_call();
	end_of_turn();
}

/* ---- the beginning ------------------------------------------------------------------------------ */

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
	uint64_t until_ms = needed ? UINT64_MAX : loop_now_ms() + START_MS;

	d->origin = origin_new(d, s->origin_host, s->origin_port, s->origin_export, s->origin_psk, first_attempt_ended, NULL);
	while (!first_attempt.ended && !stopping_ms && loop_now_ms() < until_ms) {
		pool_flush(false);
		if (!first_attempt.ended)
			loop_once(until_ms);
		origin_turn(d->origin);
	}
	if (stopping_ms)
		bb_error_msg_and_die("origin %s:%s: ended by a signal before it answered", s->origin_host, s->origin_port);
	if (first_attempt.error[0] && (needed || !first_attempt.away))
		bb_error_msg_and_die("origin %s:%s: %s", s->origin_host, s->origin_port, first_attempt.error);
	return first_attempt.ended && !first_attempt.error[0];
}

static void begin_proxy(struct export *e)
{
	struct disk *d = &e->disk;
	const struct server_config *s = server_config;
	const struct fingerprint *fp = NULL;
	uint64_t size_bytes;
	bool all_dirty;

	d->adopt = s->adopt_bitmap;
	d->accept = s->accept_image;
	if (store_inspect(d, s->image, s->bitmap, s->commit, s->clear_bitmap)) /* complete: needs no origin, not even to start */
		d->origin = origin_new(d, s->origin_host, s->origin_port, s->origin_export, s->origin_psk, NULL, NULL);
	else if (server_reach_origin(d, !d->words))
		fp = origin_fingerprint(d->origin);
	size_bytes = fp ? origin_size_bytes(d->origin) : d->header.size_bytes;
	store_open(d, size_bytes, fp, s->clear_bitmap, &all_dirty);
	d->holes_known = holes_known(d->fd[FILE_IMAGE]);
	if (ENABLE_FEATURE_XNBD_SERVER_INIT && s->exports.root_storage)
		resident_files(d);
	if (!export_begin(e, size_bytes, all_dirty))
		bb_simple_error_msg_and_die("out of memory");
	origin_start(d->origin);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && s->record)
		record_begin(d);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && s->prefetch)
		prefetch_begin(d, s->prefetch);
}

static void begin_exports(void)
{
	const struct server_config *s = server_config;
	const char *why = NULL;
	const llist_t *l;

	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && s->bitmap) {
		export = export_new("");
		if (!export)
			bb_simple_error_msg_and_die("out of memory");
		export_enlist(export);
		begin_proxy(export);
	} else if (s->image) {
		why = export_add("", s->image);
		export = exports;
	} else if (ENABLE_XNBD_WRAPPER) {
		for (l = s->images; l && !why; l = l->link)
			why = export_add(l->data, l->data);
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
			bb_error_msg_and_die("'%s' has to be NAME=DEVICE", name);
		*equals = '\0';
		device_prepare(name, equals + 1, s->connections, again);
	}
}

static void wait_for_end(bool (*is_done)(void));

static void end_devices(bool keep)
{
	devices_end(keep);
	end_of_turn(); /* a turn begins with a wait */
	wait_for_end(devices_have_ended);
}

static void begin_devices(void)
{
	devices_begin();
	end_of_turn(); /* a turn begins with a wait */
	while (!devices_are_ready() && !stopping_ms)
		turn(loop_now_ms() + 100);
	if (!devices_have_failed())
		return;
	end_devices(false);
	devices_die();
}

static void leave(void)
{
	paths_remove(is_begun);
	log_end();
}

/* Loops, workers and memory. */
static void begin_threads(void)
{
	const struct server_config *s = server_config;
	bool root_storage = ENABLE_FEATURE_XNBD_SERVER_INIT && s->exports.root_storage;

	loop_init(LOOP_CORE, !root_storage);
	signals_begin();
	pool_start(s->image ? export_workers() : (HUNG_EXPORTS + 1) * export_workers() + 2 * HUNG_EXPORTS, root_storage, loop_lead);
	buf_init(s->max_buf_bytes);
	if (root_storage)
		buf_reserve();
	fronts_begin(s->threads, !root_storage);
}

/* In the place of another program. */
static void begin_again(void)
{
	const struct server_config *s = server_config;

	if (ENABLE_FEATURE_XNBD_SERVER_INIT && s->exports.root_storage) /* also in a trial: it may have lost the right to */
		init_root_storage(true);
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE)
		prepare_devices(s, true);
	upgrade_is_tried();
	die_func = leave;
	begin_threads();
	export = upgrade_restore();
	listen_begin();
	is_begun = is_ready = true;
	daemon_ready();
}

static void begin(void)
{
	const struct server_config *s = server_config;

	die_func = leave;
	if (ENABLE_FEATURE_XNBD_SERVER_INETD && s->one_client)
		inetd_prepare(s->client_fd);
	/* Opened before anything is changed on disk. */
	if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && s->logpath)
		daemon_open_log(s->logpath);
	if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && s->pidfile)
		daemon_open_pidfile(s->pidfile);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && s->record)
		record_open(s->record);
	if (ENABLE_FEATURE_XNBD_SERVER_AUTO && s->hook)
		init_hook(xpath_absolute(s->hook), xpath_absolute(s->image)); /* a daemon leaves its directory */
	/* Before the workers are born: they inherit it. */
	if (ENABLE_FEATURE_XNBD_SERVER_INIT && s->exports.root_storage)
		init_root_storage(false);
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE)
		prepare_devices(s, false);
	begin_threads();
	if (!s->one_client)
		listen_bind(s->laddr, s->lport, s->unix_path);
	if (HAVE_CONTROL && s->control)
		listen_check(s->control);
	begin_exports();
	is_begun = true;
	if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && s->pidfile)
		daemon_write_pidfile(s->pidfile);
	/* First: a client that is greeted may use it at once. */
	if (ENABLE_FEATURE_XNBD_SERVER_UPGRADE)
		control_upgrade = upgrade_begin;
	if (HAVE_CONTROL && s->control)
		control_begin(export, s->control);
	if (!ENABLE_FEATURE_XNBD_SERVER_INETD || !s->one_client)
		listen_begin();
	else
		inetd_begin(s->client_fd, s->past_handshake ? export : NULL);
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE && !devices_are_ready())
		begin_devices();
	is_ready = true;
	if (!stopping_ms) /* else the end removes the devices again */
		daemon_ready();
}

/* ---- the end -------------------------------------------------------------------------------------- */

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
	return !commits && !exports_are_closing() && !(ENABLE_FEATURE_XNBD_SERVER_SNAPSHOT && snapshot_is_busy());
}

/* Serves until it is done, and tells from time to time what that takes. */
static void wait_for_end(bool (*is_done)(void))
{
	uint64_t tell_ms = loop_now_ms() + TELL_MS;

	while (!is_done()) {
		turn(loop_now_ms() + 100);
		if (loop_now_ms() < tell_ms)
			continue;
		bb_error_msg("the end waits for the disk, a second signal would not: %s", end_awaits());
		tell_ms = loop_now_ms() + TELL_MS;
	}
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
	end_of_turn();
	wait_for_end(commits_are_done);
}

/* Writes into the header how the files are left, if it is certain that nothing is missing: the next
 * start then compares them with that. */
static void leave_files(uint64_t deadline_ms)
{
	const struct core *c = export->disk.core;

	while ((!core_is_quiet(c) || export->disk.save.busy) && loop_now_ms() < deadline_ms)
		turn(deadline_ms);
	if (!core_is_quiet(c) || core_has_failed(c) || export->disk.save.busy)
		return;
	header_finish(&export->disk);
	end_of_turn(); /* a turn begins with a wait */
	while (export->disk.save.busy && loop_now_ms() < deadline_ms)
		turn(deadline_ms);
}

/* Shutdown: finishes what was accepted, gives up what waits for the origin. Returns the exit
 * status. */
static int end(void)
{
	uint64_t deadline = loop_now_ms() + STOP_MS;

	ending = true;
	if (ENABLE_FEATURE_XNBD_SERVER_INIT)
		log_notify("STOPPING=1");
	listen_end();
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE)
		end_devices(server_config->keep_device);
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && export)
		core_job_cancel(export->disk.core);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE) {
		record_end();
		end_of_turn(); /* a turn begins with a wait */
		while (record_is_busy() && loop_now_ms() < deadline)
			turn(deadline);
	}
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && export)
		core_verify_cancel(export->disk.core);
	if (ENABLE_FEATURE_XNBD_SERVER_THREADS) {
		fronts_leave();
		end_of_turn(); /* a turn begins with a wait */
		wait_for_end(fronts_have_left);
	}
	sessions_stop();
	end_of_turn(); /* what is given up is answered at once */
	while (sessions_in_flight() && loop_now_ms() < deadline)
		turn(deadline);
	while (sessions_part() && loop_now_ms() < deadline)
		turn(loop_now_ms() + PART_MS);
	while (ENABLE_FEATURE_XNBD_TLS && relays_are_sending() && loop_now_ms() < deadline)
		turn(loop_now_ms() + PART_MS);
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && export && export->disk.origin)
		origin_end(export->disk.origin); /* nothing may change the files behind leave_files() */
	last_commits();
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && export && export->disk.words)
		leave_files(deadline);
	if (HAVE_CONTROL && server_config->control)
		control_end();
	if (commit_error)
		bb_simple_error_msg("the image could not be synced to disk: do not trust it");
	return commit_error || exports_unsynced;
}

static int run_loop(void)
{
	int status;

	while (!stopping_ms && !(ENABLE_FEATURE_XNBD_SERVER_INETD && server_config->one_client && !sessions_count())) {
		turn(UINT64_MAX);
		if (ENABLE_FEATURE_XNBD_SERVER_UPGRADE && !stopping_ms) /* the next program would not know of it */
			upgrade_now(export);
	}
	status = end();
	if (ENABLE_FEATURE_XNBD_SERVER_INETD && server_config->one_client)
		inetd_end();
	leave();
	return status;
}

static void NORETURN loop_lead(void)
{
	exit(run_loop());
}

static unsigned thread_count(const struct server_config *config, const char *threads)
{
	unsigned n = xatou_range(threads, 0, LOOPS_MAX);

	if (!n)
		n = get_cpu_count();
	/* A read through the page cache beside a direct write needs the core's ranges. */
	if (config->one_client || config->exports.root_storage)
		n = 1;
	return n < LOOPS_MAX ? n : LOOPS_MAX;
}

/* Its requests come to one thread for ever, which the core's loop has not. */
static bool has_ublk(const struct server_config *config)
{
	const llist_t *l;

	for (l = config->devices; l; l = l->link) {
		const char *equals = strrchr(l->data, '=');

		if (equals && ublk_index(equals + 1) >= 0)
			return true;
	}
	return config->device && ublk_index(config->device) >= 0;
}

void server_limits(struct server_config *config, const char *clients, const char *queue, const char *buf, const char *threads)
{
	config->limits.sessions = xatou(clients);
	config->limits.requests = xatou(queue);
	config->max_buf_bytes = xatoull(buf);
	config->threads = ENABLE_FEATURE_XNBD_SERVER_THREADS ? thread_count(config, threads) : 1;
	if (ENABLE_FEATURE_XNBD_SERVER_UBLK && config->threads == 1 && has_ublk(config))
		config->threads = 2;
	config->exports.fronts = config->threads > 1;
	if (xatou_range(config->lport, 0, 65535) == 0)
		config->lport = NULL;
	if (!config->lport && !config->unix_path && !config->one_client && !config->device && !config->devices)
		bb_simple_error_msg_and_die("nothing to listen on: give " IF_LONG_OPTS("--lport or --unix") IF_NOT_LONG_OPTS("-l or -u"));
}

int server_run(const struct server_config *config)
{
	server_config = config;
	client_limits = config->limits;
	if (ENABLE_FEATURE_XNBD_SERVER_ALLOW && config->allow)
		allow_parse(config->allow);
	if (ENABLE_FEATURE_XNBD_TLS && config->tls_psk && config->limits.tls != NBD_TLS_OFF)
		keys_begin(config->tls_psk);
	export_config = config->exports;
	control_config = (struct control_config){ config->max_buf_bytes, config->rate_bytes };
	if (ENABLE_FEATURE_XNBD_SERVER_UPGRADE && upgrade_found()) {
		begin_again();
		return run_loop();
	}
	if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && config->daemonize) {
		daemonize();
		if (ENABLE_FEATURE_XNBD_TLS)
			psk_lock(config->origin_psk);
	}
	begin();
	return run_loop();
}
