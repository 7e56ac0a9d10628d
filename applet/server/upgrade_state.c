/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The state of a server for another program in its process: put together, found at the start, taken over. */
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/handover.h"
#include "reactor/log.h"
#include "server/daemon.h"
#include "server/database.h"
#include "server/device.h"
#include "server/life.h"
#include "server/proxies.h"
#include "server/server.h"
#include "server/upgrade.h"
#include "server/upgrade_state.h"
#include "storage/own_paths.h"
#include "storage/resident.h"
#include "storage/trace_file.h"

#include <limits.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static void proxy_put(const struct export *e)
{
	struct handed_proxy *r = handover_put(HANDED_PROXY, NULL, 0);
	const struct core *c = e->disk.core;
	struct core_status s;

	core_status(c, &s);
	r->export = e->nbd.serial;
	r->hold_ms = core_hold_ms(c);
	r->copy = s.copy.state;
	r->copy_rate = s.copy.rate_limit;
	r->verify = s.verify.state;
	r->verify_rate = s.verify.rate_limit;
}

static void proxy_begin(struct disk *d, const struct handed_proxy *r)
{
	if (ENABLE_FEATURE_XNBD_SERVER_INIT && export_config.root_storage)
		resident_files(d);
	if (map_is_complete(core_map(d->core)))
		origin_start(d->origin);
	else if (!d->switched)
		origin_resume(d->origin);
	core_hold(d->core, r->hold_ms);
	if (r->copy == JOB_RUNNING || r->copy == JOB_PAUSED)
		core_job_start(d->core, 0, r->copy_rate);
	if (r->copy == JOB_PAUSED)
		core_job_pause(d->core);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && r->verify == JOB_RUNNING)
		core_verify(d->core, r->verify_rate);
}

static void origin_handover(struct disk *d)
{
	char *at[4] = { NULL };
	struct origin_address a = { .psk = NULL };
	unsigned i;

	if (!handover.reads) {
		a = *origin_address(d->origin);
		at[0] = (char *)a.host;
		at[1] = (char *)a.port;
		at[2] = (char *)a.name;
		at[3] = (char *)a.psk_file;
	}
	for (i = 0; i < ARRAY_SIZE(at); i++)
		handover_text(&at[i]);
	if (ENABLE_FEATURE_XNBD_TLS && at[3])
		a.psk = psk_handover_next(a.psk);
	if (!handover.reads)
		return;
	if (!a.psk != !at[3]) /* never without TLS where there was TLS */
		handover_die();
	a = (struct origin_address){ at[0] ? at[0] : "", at[1] ? at[1] : "", at[2] ? at[2] : "", a.psk, at[3] };
	d->origin = origin_new(d, &a, NULL, NULL);
	for (i = 0; i < ARRAY_SIZE(at); i++)
		free(at[i]);
}

/* r: NULL when writing. */
static void served_handover(struct served *s, const struct handed_proxy *r)
{
	struct disk *d = &s->export->disk;

	origin_handover(d);
	if (ENABLE_FEATURE_XNBD_SERVER_AUTO)
		policy_handover(&s->policy);
	if (r)
		proxy_begin(d, r);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE)
		trace_handover(&s->record, d, server_config->record);
	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && s != &server.one)
		control_handover(proxy_control(s), s->export);
}

static void proxies_put(void)
{
	struct served *s = &server.one; /* cppcheck does not see it set, where there is but one */

	for_each_served(s)
		if (s->export->disk.words) {
			proxy_put(s->export);
			if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && s != &server.one)
				proxy_handover(s, s->export);
			served_handover(s, NULL);
		}
}

static void proxies_get(void)
{
	const struct handed_proxy *r;
	struct export *e;

	while ((r = handover_get(HANDED_PROXY))) {
		struct served *s = &server.one;

		e = export_by_serial(r->export);
		if (!e || !e->disk.words || e->disk.origin)
			handover_die();
		if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && !server_config->image)
			s = proxy_handover(NULL, e);
		if (s->export != e)
			handover_die();
		served_handover(s, r);
	}
	for (e = exports; e; e = e->next)
		if (e->disk.words && !e->disk.origin) /* what clients have asked needs it */
			handover_die();
}

void upgrade_handover(void)
{
	if (!handover.reads) /* else upgrade_found() has taken it */
		handover_put(HANDED_TEXT, HANDOVER_VERSION, sizeof(HANDOVER_VERSION) - 1);
	paths_handover();
	daemon_handover();
	log_handover();
	listen_handover();
	exports_handover();
	if (ENABLE_FEATURE_XNBD_TLS)
		keys_handover();
	if (handover.reads && server_config->image) {
		server.one.export = export_find("", 0);
		if (!server.one.export)
			handover_die();
		server.served = &server.one;
	}
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY)
		handover.reads ? proxies_get() : proxies_put();
	if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && server_config->dbpath)
		database_handover();
	sessions_handover();
	if (server_config->control) /* else a wrapper was asked by the socket of a proxy */
		control_handover(&server.control, server.one.export);
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE)
		devices_handover();
}

/* ---- at the start -------------------------------------------------------------------------------- */

/* The byte behind it. */
static uint8_t *what_becomes(void)
{
	return handover.bytes + handover.count;
}

bool upgrade_found(void)
{
	char *text = getenv(UPGRADE_VARIABLE);
	struct stat st;
	int fd;

	if (handover.reads)
		return true;
	if (!text || !*text)
		return false;
	fd = (int)xatou_range(text, 0, INT_MAX);
	*text = '\0'; /* who is called by this process does not get it: unsetenv(3) is 0.2 KB of libc */
	handover.reads = true;
	if (fstat(fd, &st) < 0 || !st.st_size)
		handover_die();
	handover.count = (size_t)st.st_size - 1;
	handover.bytes = mmap(NULL, handover.count + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (handover.bytes == MAP_FAILED || !handover_walk(*what_becomes() == UPGRADE_NEW ? 0 : FIOCLEX) ||
	    !handover_get(HANDED_TEXT) || strcmp(handover.more, HANDOVER_VERSION) != 0)
		handover_die();
	prctl(PR_SET_NAME, applet_name); /* after execveat(2) it is the number of a descriptor */
	return true;
}

void upgrade_is_tried(void)
{
	if (*what_becomes() != UPGRADE_NEW)
		return;
	*what_becomes() = UPGRADE_TRIED;
	_exit(EXIT_SUCCESS); /* what was allocated for it goes with the process */
}

void upgrade_restore(void)
{
	upgrade_handover();
	if (handover.at != handover.count)
		handover_die();
	exports_got();
	munmap(handover.bytes, handover.count + 1);
	memset(&handover, 0, sizeof(handover));
}
