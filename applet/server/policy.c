/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What a proxy does by itself when its disk is complete: compare, switch, run the hook. */
//config:config FEATURE_XNBD_SERVER_AUTO
//config:	bool "--auto-switch and --exec (1.5 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY
//config:	help
//config:	The switch as soon as all blocks are here, and a program to run then:
#include "libbb.h"
#include "control/control.h"
#include "server/life.h"
#include "server/policy.h"
#include "server/server.h"

enum {
	AGAIN_MS = 10000, /* after a switch that has failed, a pause: writes waited for it */
};

static void own_switch_done(struct commit_waiter *w, int error)
{
	struct policy *p = container_of(w, struct policy, own_switch);
	const struct served *s = container_of(p, const struct served, policy);

	w->done = NULL; /* the next may come */
	if (!error) {
		if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && control_database)
			control_database->save(NULL, NULL);
		return;
	}
	p->again_ms = loop_now_ms() + AGAIN_MS;
	disk_error_msg(&s->export->disk, "not switched: the cache could not be synced to disk: %s", strerror(error));
}

const char *policy_switch(struct policy *p, struct core *c)
{
	const char *why = NULL;

	if (!p->own_switch.done) {
		p->own_switch.done = own_switch_done;
		why = core_switch(c, false, &p->own_switch);
		if (why)
			p->own_switch.done = NULL;
	}
	return why;
}

/* --verify: all is compared with the origin as soon as all is here. True: it was found
 * well. */
static bool verify_before_switch(struct policy *p, struct core *c)
{
	struct core_status s;
	const char *text;
	bool good;

	if (core_verify_is_running(c)) /* also one that was asked for before */
		return false;
	if (!p->has_begun) {
		p->has_begun = map_is_complete(core_map(c)) && core_verify(c, disk_of(c)->rate_bytes) == 0;
		return false;
	}
	core_status(c, &s);
	good = control_verify_result(&s, &text);
	if (!good && !p->has_told)
		disk_error_msg(core_owner(c), "not switched: %s", text);
	p->has_told = !good;
	return good;
}

void policy_apply(struct policy *p, struct core *c)
{
	if (core_is_proxy(c)) {
		if (p->auto_switch && loop_now_ms() >= p->again_ms && (!ENABLE_FEATURE_XNBD_SERVER_VERIFY || !p->verify || verify_before_switch(p, c)))
			policy_switch(p, c); /* refused until it can be done */
	} else if (p->hook.argv[0] && !p->hook_done && map_is_complete(core_map(c))) {
		p->hook_done = true;
		hook_begin(&p->hook);
	}
}

void policy_tell(struct policy *p, const struct core *c)
{
	bool complete = map_is_complete(core_map(c)), target = !core_is_proxy(c);
	const char *image = ((struct disk *)core_owner(c))->path[FILE_IMAGE];

	if (p->has_looked && target && !p->was_target)
		bb_error_msg("'%s': %s", image, complete ? "switched" : "switched by force: not all blocks are local");
	else if (p->has_looked && complete && !p->was_complete && !target)
		bb_error_msg("'%s': all blocks are local", image);
	p->has_looked = true;
	p->was_complete = complete;
	p->was_target = target;
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void policy_handover(struct policy *p)
{
	uint64_t done = p->hook_done;

	hook_handover(&p->hook);
	handover_number(&done);
	p->hook_done = done;
}
#endif
