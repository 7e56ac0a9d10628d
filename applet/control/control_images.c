/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The control socket of xnbd-wrapper: images come and go. */
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

void images_list(struct control *k)
{
	const struct export *e;

	k->listing = true;
	for (e = exports; e; e = e->next) {
		if (e->serial < k->list_next)
			continue;
		if (k->out_bytes > CONTROL_OUT_BYTES_MAX / 2)
			control_flush(k);
		if (k->out_bytes > CONTROL_OUT_BYTES_MAX / 2)
			return; /* goes on when that has been read */
		control_emit_string(k, "image", e->nbd.name);
		control_emit_string(k, "path", e->disk.path[FILE_IMAGE]);
		control_emit_number(k, "size", e->nbd.size_bytes);
		control_emit_number(k, "sessions", e->users - !e->removed);
		control_emit_string(k, "state", e->removed ? "removed" : "served");
		if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && e->disk.words)
			emit_proxy(k, e);
		k->list_next = e->serial + 1;
	}
	k->listing = false;
	k->list_next = 0;
	control_answer(k, NULL);
}

static void image_added(void *ctx, const char *why)
{
	control_answer_late(ctx, why);
}

/* The file is opened by a worker: its disk may hang. */
static void image_add(struct control *k, const char *name, const char *path)
{
	const char *why = "a name has at most 4096 bytes";

	if (strlen(name) <= NBD_NAME_MAX)
		why = export_add_later(name, path, image_added, k) ? NULL : "out of memory";
	if (why)
		control_answer(k, why);
	else
		k->waiting = true;
}

#if ENABLE_FEATURE_XNBD_WRAPPER_PROXY
const char *(*control_add_proxy)(const char *name, const char *text, void (*added)(void *ctx, const char *why), void *ctx);

static void proxy_request(struct control *k, char *rest)
{
	char *name = strsep(&rest, " ");
	const char *why = "it is add-proxy NAME URI cache=FILE bitmap=FILE control=PATH";

	if (name && *name && rest && nbd_percent_decode(name))
		why = strlen(name) > NBD_NAME_MAX ? "a name has at most 4096 bytes" : control_add_proxy(name, rest, image_added, k);
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

void images_request(struct control *k, const char *verb, char *rest)
{
	char *name, *path;
	bool decoded;
	struct export *e;

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
		e = *name ? export_find(name, strlen(name)) : NULL; /* not the default one */
		if (e)
			export_remove(e);
		control_answer(k, e ? NULL : "there is no image of this name");
	} else {
		control_answer(k, "unknown request: it is list, status, add NAME PATH" IF_FEATURE_XNBD_WRAPPER_PROXY(", add-proxy NAME URI ...") " or remove NAME");
	}
}
