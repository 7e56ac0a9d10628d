/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The end of a proxy of xnbd-wrapper: removed while others are in use, or not begun. */
#include "libbb.h"
#include "origin/origin.h"
#include "reactor/loop.h"
#include "server/life.h"
#include "server/proxy.h"
#include "server/server.h"
#include "storage/header.h"
#include "storage/own_paths.h"

static void proxy_free(struct proxy *p)
{
	struct hook *h = &p->served.policy.hook;
	char **e = h->envp;

	while (e && e[1])
		e++;
	if (e)
		free(*e); /* the others are those of this process */
	free(h->envp);
	free(h->argv[0]);
	free(h->argv[1]);
	free(p->socket_path);
	free(p->uri_text.text);
	free(p->words_text.text);
	proxy_words_free(&p->words);
	free(p);
}

/* On a worker: the disk may hang. */
static void undo(void *arg)
{
	struct proxy *p = arg;

	paths_disown(disk_of_proxy(p), true);
	if (p->control.listener.event.fd >= 0) {
		close(p->control.listener.event.fd);
		paths_disown(&p->control, true);
	}
}

/* There may be anything of it: it failed in the middle. */
void proxy_step_failed(struct proxy *p)
{
	struct disk *d = disk_of_proxy(p);

	if (d->origin)
		origin_delete(d->origin);
	p->step = STEP_UNDONE;
	proxy_submit(p, undo);
}

void proxy_step_undone(struct proxy *p)
{
	proxy_answer(p, p->why);
	export_close(p->served.export);
	proxy_free(p);
}

static void committed(struct commit_waiter *w, int error UNUSED_PARAM)
{
	(container_of(w, struct proxy, commit_all))->is_committed = true;
}

void proxy_remove_socket(void *p)
{
	paths_disown(&((struct proxy *)p)->control, true);
}

static void end_proxy(struct proxy *p)
{
	struct core *c = disk_of_proxy(p)->core;

	p->has_ended = true;
	p->served.policy.auto_switch = false;
	p->served.policy.hook_done = true;
	control_end(&p->control); /* behind proxy_remove_socket(), so that nobody else could have the path; nobody asks for anything more */
	core_job_cancel(c);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		core_verify_cancel(c);
	origin_end(disk_of_proxy(p)->origin);
	p->commit_all.done = committed;
	core_commit(c, &p->commit_all);
	core_tick(c, loop_now_ms());
}

/* Nothing of it is under way. */
static bool is_at_rest(struct proxy *p)
{
	const struct disk *d = disk_of_proxy(p);

	return core_is_quiet(d->core) && !core_is_switching(d->core) && !d->save.write.busy && !p->served.policy.hook.busy;
}

void proxy_step_commit(struct proxy *p)
{
	struct disk *d = disk_of_proxy(p);

	if (!p->has_ended)
		end_proxy(p);
	if (!p->is_committed || !is_at_rest(p)) {
		proxy_check_again(p, PROXY_CHECK_MS);
		return;
	}
	if (!core_has_failed(d->core))
		header_finish(d);
	p->step = STEP_LEAVE;
	proxy_check_again(p, 0);
}

void proxy_step_leave(struct proxy *p)
{
	if (!is_at_rest(p)) {
		proxy_check_again(p, PROXY_CHECK_MS);
		return;
	}
	proxy_unlist(&server.served, p);
	proxies_share_memory();
	origin_delete(disk_of_proxy(p)->origin);
	export_close(p->served.export);
	proxy_free(p);
}
