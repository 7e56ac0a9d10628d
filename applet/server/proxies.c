/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The proxies of xnbd-wrapper: how they start, and the functions for other files. The steps are in proxy.h.
 *
 * What a worker does of this is what xnbd-server does at its start, where anything wrong ends the process. Here only
 * that call dies (bb_survives()), and its last words are the reply.
 */
#include "libbb.h"
#include "client/listen.h"
#include "nbd/nbd.h"
#include "origin/origin.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/life.h"
#include "server/proxies.h"
#include "server/proxy.h"
#include "server/proxy_words.h"
#include "server/server.h"
#include "storage/cover.h"
#include "storage/holes.h"
#include "storage/own_paths.h"
#include "storage/paths.h"
#include "storage/resident.h"
#include "storage/store.h"

#include <limits.h>

static unsigned beginning;    /* so many are between OPEN and SERVED */
static struct served *asking; /* those that are at ORIGIN */

static struct proxy *proxy_of(struct served *s)
{
	return container_of(s, struct proxy, served);
}

void proxy_check_again(struct proxy *p, unsigned ms)
{
	timer_set(&p->timer, loop_now_ms() + ms);
}

void proxies_share_memory(void)
{
	struct served *s;
	unsigned n = 0;

	for_each_served(s)
		n++;
	export_config.proxies = n;
	for_each_served(s)
		core_share(s->export->disk.core, export_share());
}

void proxy_unlist(struct served **list, const struct proxy *p)
{
	while (*list != &p->served)
		list = &(*list)->next;
	*list = p->served.next;
}

/* ---- a worker's steps ------------------------------------------------------------------------------ */

/* What clients wrote after the switch is nowhere but in the image, which a new proxy would fill from the origin. */
static void check_switched(const struct disk *d)
{
	if (!d->words)
		bb_simple_error_msg_and_die("it was switched, but its image or commit file is missing: serve its image as a target, or start over with clear-bitmap");
	if (cover_is_on(d) || d->wants_cover)
		bb_simple_error_msg_and_die("it was switched, but the image is covered: it is another one");
}

static void parse_words(struct proxy *p)
{
	proxy_words_parse(&p->words);
	p->served.policy.auto_switch = p->words.auto_switch;
	p->served.policy.verify = p->words.verify;
	disk_of_proxy(p)->rate_bytes = p->words.rate_bytes;
}

static void proxy_open_files(void *arg)
{
	struct proxy *p = arg;
	struct disk *d = disk_of_proxy(p);

	parse_words(p);
	listen_check(p->words.socket);
	d->adopt = p->words.adopt;
	d->accept = p->words.accept;
	d->wants_cover = p->words.cover;
	p->is_complete = store_inspect(d, p->words.image, p->words.bitmap, p->words.commit, p->words.clear);
	if (d->in_use)
		store_die_in_use(d);
	if (p->words.switched && !p->words.clear && !d->switched) {
		check_switched(d);
		d->switched = true;
	}
	if (!d->switched)
		return;
	p->is_complete = true;
	p->served.policy.hook_done = true;
}

/* Paths as seen from the root, while the current directory is that of the request. */
static void remember(struct proxy *p)
{
	p->socket_path = xpath_absolute(p->words.socket);
}

static void proxy_write_files(void *arg)
{
	struct proxy *p = arg;
	struct disk *d = disk_of_proxy(p);
	const char *wrong = export_misfit(p->served.export, p->size_bytes);

	if (wrong)
		bb_simple_error_msg_and_die(wrong);
	p->control.listener.event.fd = listen_unix(p->words.socket, &p->control); /* first: a cache is not thrown away for nothing */
	store_open(d, p->size_bytes, p->has_fingerprint ? &p->fingerprint : NULL, p->words.clear, &p->all_dirty);
	d->holes_known = holes_known(d->fd[FILE_IMAGE]);
	if (ENABLE_FEATURE_XNBD_SERVER_INIT && export_config.root_storage)
		resident_files(d);
	if (ENABLE_FEATURE_XNBD_SERVER_AUTO && p->words.hook)
		hook_init(&p->served.policy.hook, xpath_absolute(p->words.hook), xpath_absolute(p->words.image));
	if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH || ENABLE_FEATURE_XNBD_SERVER_UPGRADE)
		remember(p);
}

static void job_run(struct job *j)
{
	struct proxy *p = (struct proxy *)j;

	p->well = bb_survives(p->steps, p, p->why, sizeof(p->why));
}

static void job_done(struct job *j)
{
	struct proxy *p = (struct proxy *)j;

	if (!p->well)
		p->step = STEP_FAILED;
	proxy_check_again(p, 0);
}

void proxy_submit(struct proxy *p, void (*steps)(void *p))
{
	p->steps = steps;
	p->job.run = job_run;
	p->job.done = job_done;
	export_submit_files(&p->job, p->batch);
}

/* ---- the origin -------------------------------------------------------------------------------------- */

static void attempt_ended(void *ctx, const char *error, bool refused)
{
	struct proxy *p = ctx;

	if (p->step != STEP_ORIGIN)
		return;
	p->has_answered = true;
	p->is_away = refused;
	snprintf(p->why, sizeof(p->why), "%s", error ? error : "");
	proxy_check_again(p, 0);
}

static void new_origin(struct proxy *p, origin_callback *first)
{
	struct disk *d = disk_of_proxy(p);

	d->origin = origin_new(d, &p->words.origin, first, p);
}

static void proxy_open_origin(void *arg)
{
	new_origin(arg, attempt_ended);
}

static void step_open(struct proxy *p)
{
	struct disk *d = disk_of_proxy(p);

	p->size_bytes = d->header.size_bytes;
	p->step = p->is_complete ? STEP_CLOSE : STEP_ORIGIN;
	if (p->is_complete) {
		proxy_check_again(p, 0);
		return;
	}
	p->served.next = asking;
	asking = &p->served;
	if (d->words)
		proxy_check_again(p, ORIGIN_WAIT_MS);
	if (!bb_survives(proxy_open_origin, p, p->why, sizeof(p->why))) {
		proxy_unlist(&asking, p);
		p->step = STEP_FAILED;
		proxy_check_again(p, 0);
	}
}

void proxies_turn(void)
{
	const struct served *s;

	for (s = asking; s; s = s->next)
		origin_turn(s->export->disk.origin);
}

static void step_origin(struct proxy *p)
{
	struct disk *d = disk_of_proxy(p);
	char why[sizeof(p->why)];

	if (!p->has_answered)
		strcpy(p->why, "no answer yet");
	if (p->has_answered && !p->why[0]) {
		p->has_fingerprint = true;
		p->fingerprint = *origin_fingerprint(d->origin);
		p->size_bytes = origin_size_bytes(d->origin);
	}
	p->step = STEP_CLOSE;
	proxy_unlist(&asking, p);
	origin_delete(d->origin); /* of the core, which is not there yet, it could not ask anything */
	if (p->why[0]) {
		snprintf(why, sizeof(why), "origin %s:%s: %.300s", p->words.origin.host, p->words.origin.port, p->why);
		strcpy(p->why, why);
		if (!d->words || (p->has_answered && !p->is_away))
			p->step = STEP_FAILED;
		else
			disk_error_msg(d, "%s; continuing with local blocks", why);
	}
	proxy_check_again(p, 0);
}

/* The next step may throw a cache away, which is not for one that is then refused. */
static void step_close(struct proxy *p)
{
	if (export_named(p->served.export->nbd.name)) {
		strcpy(p->why, "there is an image of this name already");
		p->step = STEP_FAILED;
		proxy_check_again(p, 0);
		return;
	}
	p->step = STEP_WRITE;
	proxy_submit(p, proxy_write_files);
}

/* ---- served ------------------------------------------------------------------------------------------ */

static void end_begin(struct export *e)
{
	struct served *s = server.served;

	while (s->export != e)
		s = s->next;
	export_hold(e); /* for the end of the server, should that come first */
	proxy_of(s)->step = STEP_COMMIT;
	proxy_submit(proxy_of(s), proxy_remove_socket);
}

static void proxy_begin_export(void *arg)
{
	struct proxy *p = arg;
	struct export *e = p->served.export;
	struct disk *d = &e->disk;

	if (export_named(e->nbd.name))
		bb_simple_error_msg_and_die("there is an image of this name already");
	if (!export_begin(e, p->size_bytes, p->all_dirty))
		bb_simple_error_msg_and_die("out of memory");
	new_origin(p, NULL);
	control_begin(&p->control, e, NULL);
	/* nothing dies from here on */
	core_hold(d->core, p->words.hold_s * 1000ULL);
	if (d->switched)
		origin_end(d->origin);
	else if (map_is_complete(core_map(d->core)))
		origin_start(d->origin);
	else
		origin_resume(d->origin);
}

void proxy_answer(struct proxy *p, const char *why)
{
	beginning--;
	p->added(p->ctx, why);
}

static void serve(struct proxy *p)
{
	p->step = STEP_SERVED;
	p->batch = false; /* its end is asked for */
	p->served.export->unused = end_begin;
	p->served.next = server.served;
	server.served = &p->served;
	proxies_share_memory();
}

static void step_write(struct proxy *p)
{
	struct export *e = p->served.export;

	if (!bb_survives(proxy_begin_export, p, p->why, sizeof(p->why))) {
		p->step = STEP_FAILED;
		proxy_check_again(p, 0);
		return;
	}
	paths_disown(&e->disk, false); /* from now on a failure removes nothing */
	export_enlist(e);
	serve(p);
	proxy_answer(p, NULL);
}

/* ---- for the database ---------------------------------------------------------------------------------- */

/* Its text, without the space in front; NULL: it is empty. */
static const char *text_of(const struct database_text *t)
{
	return t->bytes ? t->text + 1 : NULL;
}

bool proxy_describe(const struct export *e, struct database_image *i)
{
	struct served *s = server.served;
	const struct disk *d = &e->disk;
	const struct origin_address *a = origin_address(d->origin);
	char user[TLS_NAME_MAX + 1] = "";
	struct proxy *p;

	while (s->export != e)
		s = s->next;
	p = proxy_of(s);
	free(p->uri_text.text);
	free(p->words_text.text);
	p->uri_text = p->words_text = (struct database_text){ 0 };
	p->words.switched = !core_is_proxy(d->core);
	proxy_words_put(&p->words, d->path[FILE_COMMIT], p->served.policy.hook.argv[0], &p->words_text);
	if (ENABLE_FEATURE_XNBD_TLS && a->psk_file) {
		memcpy(user, a->psk->name, a->psk->name_bytes);
		database_put_text(&p->uri_text, " ");
		proxy_words_put_uri(&p->uri_text, a->host, a->port, a->name, user, a->psk_file);
	}
	i->field[DATABASE_MODE] = "proxy";
	i->field[DATABASE_BITMAP] = d->path[FILE_BITMAP];
	i->field[DATABASE_CONTROL] = p->socket_path;
	i->field[DATABASE_HOST] = a->host;
	i->field[DATABASE_PORT] = a->port;
	i->field[DATABASE_EXPORT] = *a->name ? a->name : NULL;
	i->field[DATABASE_URI] = text_of(&p->uri_text);
	i->field[DATABASE_WORDS] = text_of(&p->words_text);
	return !p->uri_text.lacks && !p->words_text.lacks;
}

/* ---- the steps --------------------------------------------------------------------------------------- */

static void (*const steps[])(struct proxy *p) = {
	[STEP_OPEN] = step_open, [STEP_ORIGIN] = step_origin, [STEP_CLOSE] = step_close, [STEP_WRITE] = step_write,
	[STEP_COMMIT] = proxy_step_commit, [STEP_LEAVE] = proxy_step_leave, [STEP_FAILED] = proxy_step_failed, [STEP_UNDONE] = proxy_step_undone,
};

static void check_step(struct timer *t)
{
	struct proxy *p = container_of(t, struct proxy, timer);

	if (server.ending) /* it comes to its end with the others */
		return;
	/* They read the image. */
	if (p->step != STEP_ORIGIN && disk_of_proxy(p)->comparisons)
		proxy_check_again(p, PROXY_CHECK_MS);
	else
		steps[p->step](p);
}

/* ---- for the server ------------------------------------------------------------------------------------ */

static void prepare(struct proxy *p, struct export *e, const char *separator)
{
	p->words.separator = separator;
	p->timer.fire = check_step;
	p->served.export = e;
	e->disk.name = e->nbd.name;
}

static const char *begin_to_add(const char *name, const char *text, const char *separator, bool batch, void (*added)(void *ctx, const char *why), void *ctx)
{
	struct proxy *p = calloc(1, sizeof(*p));
	struct export *e = NULL;

	if (p) {
		p->words.text = strdup(text);
		e = p->words.text ? export_new(name) : NULL;
	}
	if (!e) {
		if (p)
			free(p->words.text);
		free(p);
		return "out of memory";
	}
	prepare(p, e, separator);
	p->batch = batch;
	p->control.listener.event.fd = -1;
	p->added = added;
	p->ctx = ctx;
	beginning++;
	proxy_submit(p, proxy_open_files);
	return NULL;
}

const char *proxy_add(const char *name, const char *text, void (*added)(void *ctx, const char *why), void *ctx)
{
	return begin_to_add(name, text, " ", false, added, ctx);
}

const char *proxy_add_image(const struct database_image *i, bool batch, void (*added)(void *ctx, const char *why), void *ctx)
{
	char *text = proxy_words_text(i);
	const char *why = text ? begin_to_add(i->name, text, " ", batch, added, ctx) : "out of memory";

	free(text);
	return why;
}

const char *proxy_add_xnbd(const char *const *given, void (*added)(void *ctx, const char *why), void *ctx)
{
	struct database_image i = { .name = given[0] };

	i.field[DATABASE_HOST] = given[1];
	i.field[DATABASE_PORT] = given[2];
	i.field[DATABASE_IMAGE] = given[3];
	i.field[DATABASE_BITMAP] = given[4];
	i.field[DATABASE_CONTROL] = given[5];
	i.field[DATABASE_EXPORT] = given[6];
	return proxy_add_image(&i, false, added, ctx);
}

void proxies_end(void)
{
	struct served *s;

	for_each_served(s)
		if (s != &server.one && !proxy_of(s)->has_ended)
			control_end(&proxy_of(s)->control);
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
bool proxies_are_busy(void)
{
	struct served *s = server.served;

	while (s && proxy_of(s)->step == STEP_SERVED)
		s = s->next;
	return beginning || s;
}

struct control_socket *proxy_control(struct served *s)
{
	return &proxy_of(s)->control;
}

/* Without its origin, whose name may be anything by now. */
static char *words_of(const struct export *e)
{
	struct database_image i = { .name = NULL };
	bool well = proxy_describe(e, &i);

	i.field[DATABASE_IMAGE] = e->disk.path[FILE_IMAGE];
	i.field[DATABASE_URI] = "nbd://-";
	return well ? proxy_words_text(&i) : NULL;
}

struct served *proxy_handover(struct served *s, struct export *e)
{
	char *text = s ? words_of(e) : NULL;
	struct proxy *p;

	handover_text(&text);
	if (!text && !handover.reads)
		handover.why = "out of memory";
	if (s) {
		free(text);
		return s;
	}
	if (!text)
		handover_die();
	p = xzalloc(sizeof(*p));
	p->words.text = text;
	prepare(p, e, " ");
	parse_words(p);
	p->socket_path = xstrdup(p->words.socket);
	paths_give(&p->control, p->socket_path);
	serve(p);
	return &p->served;
}
#endif

static char first_failure[512];

/* ctx: its name, and more. */
static void begun(void *ctx, const char *why)
{
	if (why && !first_failure[0])
		snprintf(first_failure, sizeof(first_failure), "proxy '%.100s': %s", (const char *)ctx, why);
	free(ctx);
}

#if __GNUC__ >= 12 /* its analyzer does not see that a job owns the proxy in which it is */
# pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif
void proxies_begin(const llist_t *list)
{
	for (; list; list = list->link) {
		char *text = xstrdup(list->data), *equals = strchr(text, '=');
		const char *why;

		if (!equals)
			bb_error_msg_and_die("'%s' must be NAME=URI,cache=FILE,bitmap=FILE,control=PATH", text);
		*equals = '\0';
		why = strlen(text) > NBD_NAME_MAX ? "the name of an export has at most 4096 bytes" :
						    begin_to_add(text, equals + 1, ",", false, begun, text);
		if (why)
			bb_simple_error_msg_and_die(why);
	}
	server_end_of_turn(); /* a turn begins with a wait */
	while (beginning && !server.stopping_ms)
		server_turn(UINT64_MAX);
	if (first_failure[0])
		bb_simple_error_msg_and_die(first_failure);
	if (beginning)
		bb_simple_error_msg_and_die("ended by a signal before all proxies had begun");
}
