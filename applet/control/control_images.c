/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The control socket of xnbd-wrapper: adds, removes and lists images. */
#include "libbb.h"
#include "control/connection.h"

/* What is told of a proxy, or of what was one before its switch. */
static void emit_proxy(struct control *k, const struct export *e)
{
	const struct map *m = core_map(e->disk.core);

	control_emit_string(k, "mode", core_is_proxy(e->disk.core) ? "proxy" : "target");
	control_emit_number(k, "blocks", m->blocks);
	control_emit_number(k, "cached", m->local);
}

/* What could not be opened. False: the rest is for later. */
static bool list_kept(struct control *k)
{
	const struct kept_image *i;

	while ((i = control_database->next_kept(k->list_next))) {
		if (!control_has_room(k))
			return false;
		k->list_next = i->serial + 1;
		if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && k->talks) {
			talk_list_kept(k, i);
			continue;
		}
		control_emit_string(k, "image", i->name);
		control_emit_string(k, "path", i->path);
		control_emit_string(k, "state", "kept");
		control_emit_string(k, "why", i->why);
	}
	return true;
}

void images_list(struct control *k)
{
	const struct export *e;

	k->listing = true;
	for (e = exports; e; e = e->next) {
		if (e->nbd.serial < k->list_next)
			continue;
		if (!control_has_room(k))
			return; /* goes on when that has been read */
		k->list_next = e->nbd.serial + 1;
		if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && k->talks) {
			if (!e->removed)
				talk_list(k, e);
			continue;
		}
		control_emit_string(k, "image", e->nbd.name);
		control_emit_string(k, "path", e->disk.path[FILE_IMAGE]);
		control_emit_number(k, "size", e->nbd.size_bytes);
		control_emit_number(k, "sessions", e->sessions);
		control_emit_string(k, "state", e->removed ? "removed" : "served");
		if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && e->disk.words)
			emit_proxy(k, e);
	}
	if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && control_database && !list_kept(k))
		return;
	if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && k->talks)
		talk_list_end(k);
	k->listing = false;
	k->list_next = 0;
	control_answer(k, NULL);
}

const struct control_database *control_database;

static void image_added(void *ctx, const char *why)
{
	if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && control_database && !why)
		control_database->save(control_saved, ctx);
	else
		control_answer_late(ctx, why);
}

/* What is not UTF-8 could not come back from the database. */
static bool can_be_kept(const char *text)
{
	return !ENABLE_FEATURE_XNBD_WRAPPER_DBPATH || !control_database || nbd_utf8(text, strlen(text)) == strlen(text);
}

static const char no_utf8[] = "what is not UTF-8 cannot be kept in the database";

/* No image is added for clients that give no name: "" is that of the command line. */
static const char *wrong_name(const char *name)
{
	if (!*name)
		return "a name has at least one byte";
	return strlen(name) > NBD_NAME_MAX ? "a name has at most 4096 bytes" : NULL;
}

/* The file is opened by a worker: its disk may hang. */
void image_add(struct control *k, const char *name, const char *path)
{
	const char *why = wrong_name(name);

	if (!can_be_kept(name) || !can_be_kept(path))
		why = no_utf8;
	else if (!why)
		why = export_add_later(name, path, false, image_added, k) ? NULL : "out of memory";
	if (why)
		control_answer(k, why);
	else
		k->waiting = true;
}

#if ENABLE_FEATURE_XNBD_WRAPPER_PROXY
const char *(*control_add_proxy_words)(const char *const *words, control_done *added, void *ctx);

const char *proxy_add_words(struct control *k, const char *const *words)
{
	unsigned i;
	const char *why = wrong_name(words[0]);

	for (i = 0; i < 7 && words[i]; i++)
		if (!can_be_kept(words[i]))
			why = no_utf8;
	if (!why)
		why = control_add_proxy_words(words, image_added, k);
	k->waiting = !why;
	return why;
}

const char *(*control_add_proxy)(const char *name, const char *text, void (*added)(void *ctx, const char *why), void *ctx);

/* What is behind its name is still encoded. */
static bool proxy_can_be_kept(const char *name, const char *rest)
{
	char *decoded;
	bool can;

	if (!ENABLE_FEATURE_XNBD_WRAPPER_DBPATH || !control_database)
		return true;
	decoded = strdup(rest);
	can = decoded && can_be_kept(name) && (!nbd_percent_decode(decoded) || can_be_kept(decoded));
	free(decoded);
	return can;
}

static void proxy_request(struct control *k, char *rest)
{
	char *name = strsep(&rest, " ");
	const char *why = "it is add-proxy NAME URI cache=FILE bitmap=FILE control=PATH";

	if (name && rest && nbd_percent_decode(name)) {
		why = wrong_name(name);
		if (!why)
			why = proxy_can_be_kept(name, rest) ? control_add_proxy(name, rest, image_added, k) : no_utf8;
	}
	if (why)
		control_answer(k, why);
	else
		k->waiting = true;
}
#else
static void proxy_request(struct control *k UNUSED_PARAM, char *rest UNUSED_PARAM)
{
}
#endif

/* Those that follow the copy of a proxy which is removed hold it, and would until the copy is complete. */
static void followers_end(const struct export *e)
{
	struct control *k;

	for (k = controls; k; k = k->next)
		if (k->talks && k->follow && k->export == e) {
			k->follow = k->owns_job = false;
			control_answer(k, "the image was removed");
		}
}

void image_remove(struct control *k, const char *name)
{
	struct export *e = export_named(name);
	bool keeps = ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && control_database;
	bool was_kept = keeps && control_database->drop_kept(name);

	if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && ENABLE_FEATURE_XNBD_WRAPPER_PROXY && e)
		followers_end(e);
	if (e)
		export_remove(e);
	if (!e && !was_kept) {
		control_answer(k, "there is no image of this name");
	} else if (keeps) {
		k->waiting = true;
		control_database->save(control_saved, k);
	} else {
		control_answer(k, NULL);
	}
}

void images_reload(struct control *k)
{
	if (!control_database) {
		control_answer(k, "there is no database: see --dbpath");
		return;
	}
	k->waiting = true;
	control_database->reload(control_saved, k);
}

void images_save(struct control *k)
{
	if (!ENABLE_FEATURE_XNBD_WRAPPER_DBPATH || !control_database) {
		control_answer(k, "there is no database: see --dbpath");
		return;
	}
	k->waiting = true;
	control_database->save(control_saved, k);
}

void images_request(struct control *k, const char *verb, char *rest)
{
	char *name, *path;
	bool decoded;

	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && strcmp(verb, "add-proxy") == 0) {
		proxy_request(k, rest);
		return;
	}
	name = strsep(&rest, " ");
	path = strsep(&rest, " ");
	decoded = (!name || nbd_percent_decode(name)) && (!path || nbd_percent_decode(path)) && !rest;
	if (strcmp(verb, "list") == 0 && !name) {
		images_list(k);
	} else if (strcmp(verb, "add") == 0 && name && path && decoded) {
		image_add(k, name, path);
	} else if (strcmp(verb, "remove") == 0 && name && !path && decoded) {
		image_remove(k, name);
	} else if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && strcmp(verb, "reload") == 0 && !name) {
		images_reload(k);
	} else {
		control_answer(k, "unknown request to a wrapper (each proxy has a socket): it is list, status, add NAME PATH" IF_FEATURE_XNBD_WRAPPER_PROXY(", add-proxy NAME URI ...") IF_FEATURE_XNBD_WRAPPER_DBPATH(", reload") " or remove NAME");
	}
}
