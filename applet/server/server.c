/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The server: its signals, and the turns of its loop. */
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/descriptors.h"
#include "reactor/loop.h"
#include "reactor/message.h"
#include "reactor/pool.h"
#include "reactor/verbose.h"
#include "secure/kernel_tls.h"
#include "server/daemon.h"
#include "server/database.h"
#include "server/life.h"
#include "server/policy.h"
#include "server/proxies.h"
#include "server/server.h"
#include "server/upgrade.h"
#include "storage/header.h"
#include "storage/snapshot.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

enum {
	SAME_SIGNAL_MS = 1000, /* timeout(1) signals its child, then the group with the child in it */
};

const struct server_config *server_config;
struct server server;

static struct event signal_event;

/* ---- signals -------------------------------------------------------------------------------- */

static void switch_by_signal(struct served *s)
{
	const char *why;

	if (!s->export || !s->export->disk.words || !s->export->disk.core) /* no proxy, or not begun */
		return;
	why = policy_switch(&s->policy, s->export->disk.core);
	if (why)
		disk_error_msg(&s->export->disk, "not switched: %s", why);
}

/* xNBD's xnbd-bgctl says by a control socket which one it means, then sends the signal. */
static void switch_awaited(void)
{
	struct served *s;

	/* cppcheck-suppress uninitvar ; without a wrapper it is not a pointer to something local */
	for_each_served(s)
		if (s != &server.one && control_awaits_switch(s->export))
			switch_by_signal(s);
}

static void hurry(void)
{
	const struct served *s;

	for_each_served(s)
		if (s->export->disk.origin)
			origin_hurry(s->export->disk.origin);
}

static bool hangs_up; /* at the start */

/* SIGHUP. One that comes while the server begins waits for the end of that. */
static void hang_up(void)
{
	hangs_up = !server.is_ready;
	if (server.is_ready) {
		if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE)
			daemon_reopen_log();
		if (ENABLE_FEATURE_XNBD_TLS)
			keys_reload();
		if (ENABLE_FEATURE_XNBD_SERVER_RENEW)
			exports_reopen();
		if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH)
			database_reload();
	}
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY)
		hurry();
}

static void signal_ready(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct signalfd_siginfo info;

	if (safe_read(e->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	} else if (info.ssi_signo == SIGUSR1) {
		if (ENABLE_FEATURE_XNBD_SERVER_SNAPSHOT && server.one.export)
			snapshot_begin(&server.one.export->disk);
	} else if (info.ssi_signo == SIGHUP) {
		hang_up();
	} else if (info.ssi_signo != SIGUSR2) {
		if (ENABLE_FEATURE_XNBD_SERVER_RESTART)
			daemon_ends();
		if (!server.stopping_ms)
			server.stopping_ms = loop_now_ms();
		else if (loop_now_ms() - server.stopping_ms >= SAME_SIGNAL_MS)
			bb_error_msg_and_die("ended by a second signal during shutdown: %s", server_end_awaits());
	} else if (ENABLE_FEATURE_XNBD_SERVER_PROXY) {
		switch_by_signal(&server.one);
		if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && ENABLE_FEATURE_XNBD_SERVER_OLD_CONTROL)
			switch_awaited();
	}
}

void server_signals(void)
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

void server_end_of_turn(void)
{
	struct served *s;

	for_each_served(s) {
		struct disk *d = &s->export->disk;

		core_tick(d->core, loop_now_ms());
		if (ENABLE_FEATURE_XNBD_SERVER_PROXY)
			header_tick(d);
		if (ENABLE_FEATURE_XNBD_SERVER_PROXY && d->words)
			policy_tell(&s->policy, d->core);
		if (ENABLE_FEATURE_XNBD_SERVER_AUTO && d->words)
			policy_apply(&s->policy, d->core);
	}
	do {
		do {
			sessions_turn();
			for_each_served(s)
				if (ENABLE_FEATURE_XNBD_SERVER_PROXY && s->export->disk.origin)
					origin_turn(s->export->disk.origin);
			if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY)
				proxies_turn();
		} while (sessions_dirty());
		if (ENABLE_FEATURE_XNBD_SERVER_THREADS)
			message_flush(); /* answers do not wait for quick jobs, nor for who takes the loop over */
	} while (pool_flush(server.is_ready && !server.ending));
}

void server_turn(uint64_t deadline_ms)
{
	const struct served *s;
	uint64_t at = UINT64_MAX; /* the targets of a wrapper have no deadlines */

	for_each_served(s) {
		uint64_t next_ms = core_deadline(s->export->disk.core);

		at = next_ms < at ? next_ms : at;
	}
	if (ENABLE_FEATURE_XNBD_SERVER_THREADS && sessions_deadline() < at)
		at = sessions_deadline();
	loop_wait(at < deadline_ms ? at : deadline_ms);
	for_each_served(s)
		core_now(s->export->disk.core, loop_now_ms()); /* events came now, not when the wait began */
	loop_call();
	server_end_of_turn();
}

static int run_loop(void)
{
	int status;

	while (!server.stopping_ms && !(ENABLE_FEATURE_XNBD_SERVER_INETD && server_config->one_client && !sessions_count())) {
		server_turn(UINT64_MAX);
		if (ENABLE_FEATURE_XNBD_SERVER_UPGRADE)
			upgrade_now();
	}
	status = server_end();
	if (ENABLE_FEATURE_XNBD_SERVER_INETD && server_config->one_client)
		inetd_end();
	server_leave();
	return status;
}

void server_lead(void)
{
	exit(run_loop());
}

/* What was asked for once has been done, or nobody may do it to a disk that is in use. What an initramfs had is gone. */
static void restarted(void)
{
	static struct server_config again;

	again = *server_config;
	again.clear_bitmap = again.adopt_bitmap = again.accept_image = false;
	again.record = again.prefetch = NULL;
	server_config = &again;
}

static void renewed(struct export *old, struct export *new)
{
	if (server.one.export == old)
		server.one.export = new;
	if (SERVER_HAS_CONTROL)
		control_renewed(&server.control, old, new);
}

int server_run(const struct server_config *config)
{
	bool is_again = false;

	server_config = config;
	descriptors_begin();
	verbose_is_on = config->verbose;
	client_limits = config->limits;
	if (ENABLE_FEATURE_XNBD_SERVER_ALLOW && config->allow)
		allow_parse(config->allow);
	if (ENABLE_FEATURE_XNBD_TLS_KERNEL)
		kernel_tls_off = ENABLE_FEATURE_XNBD_SERVER_INIT && config->exports.root_storage;
	export_config = config->exports;
	if (ENABLE_FEATURE_XNBD_SERVER_RENEW)
		export_replaced = renewed;
	server.one.policy.auto_switch = config->auto_switch;
	server.one.policy.verify = config->verify;
	control_config = (struct control_config){ config->max_buf_bytes, !config->image };
	if (ENABLE_FEATURE_XNBD_SERVER_UPGRADE && upgrade_found()) {
		server_begin_again();
		return run_loop();
	}
	if (ENABLE_FEATURE_XNBD_TLS && config->tls_psk && config->limits.tls != NBD_TLS_OFF)
		keys_begin(config->tls_psk);
	if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && config->daemonize) {
		is_again = daemonize() && ENABLE_FEATURE_XNBD_SERVER_RESTART;
		if (is_again)
			restarted();
		if (ENABLE_FEATURE_XNBD_TLS)
			psk_lock(config->origin.psk);
	}
	server_begin();
	if (ENABLE_FEATURE_XNBD_TLS && is_again)
		keys_reload(); /* they may have changed since the keeper was started */
	if (hangs_up)
		hang_up();
	return run_loop();
}
