/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-wrapper's database. The text is generated from the current exports, so no second copy of the list exists; only
 * images that could not be opened are kept here. A change is done first, then written (database_file.c).
 */
#include "libbb.h"
#include "control/control.h"
#include "nbd/nbd.h"
#include "reactor/loop.h"
#include "server/database.h"
#include "server/database_file.h"
#include "server/life.h"
#include "server/proxies.h"
#include "server/server.h"

enum {
	START_MS = 8000, /* so long a start waits for what it opens: longer than for an origin that a proxy can do without */
	TOLD_MAX = 10,   /* of those that could not be opened together: others have messages, too */
};

/* An image that is not served. */
struct kept {
	struct kept_image shown; /* first */
	const struct database_image *image;
	bool is_tried;   /* right now */
	bool is_removed; /* ... and is no longer wanted */
	char why[200];
	struct kept *next;
};

static struct {
	struct database_image *images; /* as the start has found them, forever: what is kept points into it */
	char *parsed;                  /* its strings */
	struct kept *kept; /* in the order of the file */
	unsigned tried;    /* so many of them are */
	unsigned told;     /* so many of them could not be, since the last time that none was tried */
	struct waiter *reloads;
} db;

static void forget(struct kept *k)
{
	struct kept **p = &db.kept;

	while (*p != k)
		p = &(*p)->next;
	*p = k->next;
	free(k);
}

/* ---- what the file has ------------------------------------------------------------------------------ */

/* Not of names that the file cannot hold: they were refused, or are the command line's. */
static bool is_writable(const struct database_image *i)
{
	unsigned f;
	bool all = nbd_utf8(i->name, strlen(i->name)) == strlen(i->name);

	for (f = 0; f < DATABASE_FIELDS; f++)
		if (i->field[f] && nbd_utf8(i->field[f], strlen(i->field[f])) != strlen(i->field[f]))
			all = false;
	return all;
}

static void put_export(struct database_text *t, const struct export *e)
{
	struct database_image i = { .name = e->nbd.name, .field = { "target", e->disk.path[FILE_IMAGE] } };

	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && e->disk.words && !proxy_describe(e, &i))
		t->lacks = true;
	if (is_writable(&i))
		database_put(t, &i);
}

static void make_text(struct database_text *t)
{
	const struct export *e;
	const struct kept *k;

	*t = (struct database_text){ 0 };
	database_begin_text(t);
	for (e = exports; e; e = e->next)
		if (!e->removed)
			put_export(t, e);
	for (k = db.kept; k; k = k->next)
		if (!k->is_removed && !export_named(k->image->name)) {
			struct database_image i = *k->image;

			i.field[DATABASE_KEPT] = k->why;
			database_put(t, &i);
		}
	database_end_text(t);
}

/* Another one has come by this name. */
static void forget_served(void)
{
	struct kept *k, *next;

	for (k = db.kept; k; k = next) {
		next = k->next;
		if (!k->is_tried && export_named(k->image->name))
			forget(k);
	}
}

void database_make_text(struct database_text *t)
{
	forget_served();
	make_text(t);
}

/* ---- kept ------------------------------------------------------------------------------------------ */

static void tell_kept(const struct kept *k)
{
	bb_error_msg("'%.100s' of the database is not served: %s; it is kept, and retried by \"reload\"", k->image->name, k->why);
}

/* unsaved: why the file has not what was opened, or NULL. */
static void reloaded(void *ctx UNUSED_PARAM, const char *unsaved)
{
	const struct kept *k = db.kept;
	char why[400] = "";
	unsigned n = 0;

	if (db.tried) /* another reload, which answers all */
		return;
	for (; k; k = k->next)
		n++;
	if (n)
		snprintf(why, sizeof(why), "%u of the database could not be opened; '%.100s': %s", n, db.kept->image->name, db.kept->why);
	waiters_answer(&db.reloads, n ? why : unsaved);
}

static void reload_done(void)
{
	if (db.tried)
		return;
	if (db.told > TOLD_MAX)
		bb_error_msg("%u more of the database are not served", db.told - TOLD_MAX);
	db.told = 0;
	if (control_database) /* the start itself writes at its end */
		database_save(reloaded, NULL);
}

static void kept_tried(void *ctx, const char *why)
{
	struct kept *k = ctx;
	const char *name = k->image->name;

	k->is_tried = false;
	db.tried--;
	if (!why && k->is_removed)
		export_remove(export_named(name));
	if (!why || k->is_removed || export_named(name)) {
		forget(k);
	} else {
		snprintf(k->why, sizeof(k->why), "%s", why);
		k->why[nbd_utf8(k->why, strlen(k->why))] = '\0'; /* it is cut, or an origin's */
		if (db.told++ < TOLD_MAX)
			tell_kept(k);
	}
	if (control_database && !why) /* words for one start, such as clear-bitmap, have had it */
		database_save(NULL, NULL);
	reload_done();
}

static void try_kept(struct kept *k)
{
	const struct database_image *i = k->image;
	const char *why;

	k->is_tried = true;
	db.tried++;
	strcpy(k->why, "it is being opened");
	if (i->field[DATABASE_MODE][0] == 't')
		why = export_add_later(i->name, i->field[DATABASE_IMAGE], true, kept_tried, k) ? NULL : "out of memory";
	else if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY)
		why = proxy_add_image(i, true, kept_tried, k);
	else
		why = "this xnbdbox has no proxies";
	if (why)
		kept_tried(k, why);
}

static void try_all(void)
{
	struct kept *k, *next;

	db.tried++; /* until all are: some fail at once */
	for (k = db.kept; k; k = next) {
		next = k->next;
		if (!k->is_tried)
			try_kept(k);
	}
	db.tried--;
	reload_done();
}

static void reload(control_done *done, void *ctx)
{
	waiter_add(&db.reloads, done, ctx);
	try_all();
}

void database_reload(void)
{
	if (database_path)
		try_all();
}

static bool drop_kept(const char *name)
{
	struct kept *k = db.kept;

	while (k && (k->is_removed || strcmp(k->image->name, name) != 0))
		k = k->next;
	if (!k)
		return false;
	k->is_removed = true;
	if (!k->is_tried)
		forget(k);
	return true;
}

static const struct kept_image *next_kept(uint64_t serial)
{
	const struct kept *k = db.kept;

	while (k && (k->is_removed || k->shown.serial < serial))
		k = k->next;
	return k ? &k->shown : NULL;
}

static const struct control_database functions = { .save = database_save, .reload = reload, .drop_kept = drop_kept, .next_kept = next_kept };

/* ---- the start --------------------------------------------------------------------------------------- */

/* Whether this word is one of those, which single spaces separate. */
static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	while (words) {
		if (strncmp(words, word, n) == 0 && (!words[n] || words[n] == ' '))
			return true;
		words = strchr(words, ' ');
		words += words != NULL;
	}
	return false;
}

/* What clients wrote after a switch by force is nowhere but in the image, which a proxy would fill from the origin; and
 * only the database knows of that switch. */
static void check_switched(const struct database_image *i, const struct export *e)
{
	if (has_word(i->field[DATABASE_WORDS], "switched") && core_is_proxy(e->disk.core) && strcmp(i->field[DATABASE_IMAGE], e->disk.path[FILE_IMAGE]) == 0)
		bb_error_msg_and_die("proxy '%s' was switched, according to '%s': remove it from the command line, or 'switched' from that file",
				     i->name, database_path);
}

/* Those that the command line does not name: they are not served yet. */
static void keep(void)
{
	const struct database_image *list = db.images;
	struct kept **last = &db.kept, *k;
	uint64_t serial = KEPT_SERIAL;

	for (; list; list = list->next) {
		const struct export *e = export_named(list->name);

		if (e) {
			check_switched(list, e);
			continue;
		}
		k = xzalloc(sizeof(*k));
		k->shown = (struct kept_image){ .serial = serial, .name = list->name, .path = list->field[DATABASE_IMAGE], .why = k->why };
		k->image = list;
		snprintf(k->why, sizeof(k->why), "%s", list->field[DATABASE_KEPT] ? list->field[DATABASE_KEPT] : "it could not be opened");
		serial++;
		*last = k;
		last = &k->next;
	}
}

/* n bytes of text with a 0 behind them, ours from now on. */
static void parse_entries(char *text, size_t n)
{
	db.parsed = text;
	db.images = database_xparse(db.parsed, n, database_path);
	keep();
}

/* What a start would change of the file. */
static void write_if_changed(const char *text, size_t n)
{
	struct database_text now;

	make_text(&now);
	if (now.lacks || now.bytes != n || memcmp(now.text, text, n) != 0)
		database_save(NULL, NULL);
	free(now.text);
}

void database_begin(const char *path)
{
	uint64_t until_ms = loop_now_ms() + START_MS;
	char *text;
	size_t n;

	text = database_file_begin(path, &n);
	parse_entries(memcpy(xzalloc(n + 1), text, n), n); /* the parser changes it */
	try_all();
	server_end_of_turn(); /* a turn begins with a wait */
	while (db.tried && !server.stopping_ms && loop_now_ms() < until_ms)
		server_turn(until_ms);
	if (db.tried && server.stopping_ms)
		bb_simple_error_msg_and_die("ended by a signal before all images of the database had begun");
	control_database = &functions; /* a switch may end from now on */
	write_if_changed(text, n);
	until_ms = loop_now_ms() + START_MS; /* what hung before has used up the other */
	server_end_of_turn(); /* a turn begins with a wait */
	while (database_is_writing() && !server.stopping_ms && loop_now_ms() < until_ms)
		server_turn(until_ms);
	/* It is for one start; what clients write from now on would be lost by the next. */
	if (!server.stopping_ms && database_is_unwritten() && strstr(text, "clear-bitmap"))
		bb_error_msg_and_die("'%s' cannot be written, and has clear-bitmap, which each start would do again", database_path);
	free(text);
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void database_handover(void)
{
	struct database_text now = { 0 };
	uint64_t is_late = database_is_unwritten();

	if (!handover.reads) {
		make_text(&now);
		if (database_is_too_large(&now))
			handover.why = database_is_too_large(&now);
		if (db.tried)
			handover.why = handover_busy;
	}
	database_file_handover();
	handover_number(&is_late);
	handover_text(&now.text);
	if (!handover.reads) {
		free(now.text);
		return;
	}
	if (!now.text)
		handover_die();
	parse_entries(now.text, strlen(now.text));
	control_database = &functions;
	if (is_late)
		database_save(NULL, NULL);
}
#endif
