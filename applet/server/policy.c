/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What a proxy does by itself when its disk is complete: compare, switch, run the hook. */
#include "libbb.h"
#include "control/control.h"
#include "server/init.h"
#include "server/policy.h"
#include "server/server.h"

static struct commit_waiter own_switch; /* asked for by a signal or by ourselves; done NULL: none */

static void own_switch_done(struct commit_waiter *w, int error)
{
	w->done = NULL; /* the next may come */
	if (error)
		bb_simple_error_msg("not switched: the cache could not be synced to disk");
}

const char *policy_switch(struct core *c)
{
	const char *why = NULL;

	if (!own_switch.done) {
		own_switch.done = own_switch_done;
		why = core_switch(c, false, &own_switch);
		if (why)
			own_switch.done = NULL;
	}
	return why;
}

/* --verify: all is compared with the origin as soon as all is here. True: it was found
 * well. */
static bool is_verified(struct core *c)
{
	static bool begun, told;
	struct core_status s;
	const char *text;
	bool good;

	if (core_verify_is_running(c)) /* also one that was asked for before */
		return false;
	if (!begun) {
		begun = map_is_complete(core_map(c)) && core_verify(c, server_config->rate_bytes) == 0;
		return false;
	}
	core_status(c, &s);
	good = control_verify_result(&s, &text);
	if (!good && !told)
		bb_error_msg("not switched: %s", text);
	told = !good;
	return good;
}

static bool hook_done;

void policy_apply(struct core *c)
{
	if (core_is_proxy(c)) {
		if (server_config->auto_switch && (!ENABLE_FEATURE_XNBD_SERVER_VERIFY || !server_config->verify || is_verified(c)))
			policy_switch(c); /* refused until it can be done */
	} else if (server_config->hook && !hook_done && map_is_complete(core_map(c))) {
		hook_done = true;
		init_run_hook();
	}
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void policy_handover(void)
{
	uint64_t done = hook_done;

	handover_number(&done);
	hook_done = done;
}
#endif
