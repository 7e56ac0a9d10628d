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
#include "server/device.h"
#include "server/life.h"
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

static void proxy_put(const struct core *c)
{
	struct handed_proxy *r = handover_put(HANDED_PROXY, NULL, 0);
	struct core_status s;

	core_status(c, &s);
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

/* psk: reading: the key of its origin, or NULL. */
static void proxy_handover(struct disk *d, const struct psk *psk)
{
	static char *at[4];
	const struct handed_proxy *r = NULL;
	struct origin_address a;
	unsigned i;

	if (handover.reads) {
		r = handover_get(HANDED_PROXY);
		if (!r) /* what clients have asked needs an origin */
			handover_die();
	} else {
		proxy_put(d->core);
		at[0] = (char *)origin_address(d->origin)->host;
		at[1] = (char *)origin_address(d->origin)->port;
		at[2] = (char *)origin_address(d->origin)->name;
		at[3] = (char *)origin_address(d->origin)->psk_file;
	}
	for (i = 0; i < ARRAY_SIZE(at); i++)
		handover_text(&at[i]);
	if (!r)
		return;
	if (!psk != !at[3]) /* never without TLS where there was TLS */
		handover_die();
	a = (struct origin_address){ at[0] ? at[0] : "", at[1] ? at[1] : "", at[2] ? at[2] : "", psk, at[3] };
	d->origin = origin_new(d, &a, NULL, NULL);
	proxy_begin(d, r);
}

void upgrade_handover(void)
{
	const struct psk *psk = NULL; /* of the origin */
	bool is_proxy;
	struct export *e;

	if (!handover.reads) /* else upgrade_found() has taken it */
		handover_put(HANDED_TEXT, HANDOVER_VERSION, sizeof(HANDOVER_VERSION) - 1);
	paths_handover();
	daemon_handover();
	log_handover();
	if (ENABLE_FEATURE_XNBD_SERVER_AUTO)
		policy_handover(&server.one.policy);
	listen_handover();
	exports_handover();
	e = server_config->image ? export_find("", 0) : NULL;
	is_proxy = ENABLE_FEATURE_XNBD_SERVER_PROXY && server_config->bitmap && e;
	if (is_proxy && !handover.reads)
		psk = origin_address(e->disk.origin)->psk;
	if (ENABLE_FEATURE_XNBD_TLS)
		keys_handover(&psk);
	if (is_proxy)
		proxy_handover(&e->disk, psk);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && is_proxy)
		trace_handover(&server.one.record, &e->disk, server_config->record);
	if (handover.reads) {
		server.one.export = e;
		server.served = e ? &server.one : NULL;
	}
	sessions_handover();
	control_handover(&server.control, e);
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
	control_upgrade = upgrade_begin;
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
