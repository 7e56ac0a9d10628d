/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The control socket of xnbd-wrapper: images come and go. */
#include "libbb.h"
#include "control/connection.h"

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

void images_request(struct control *k, const char *verb, char *rest)
{
	char *name = strsep(&rest, " ");
	char *path = strsep(&rest, " ");
	bool decoded = (!name || nbd_percent_decode(name)) && (!path || nbd_percent_decode(path)) && !rest;
	struct export *e;

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
		control_answer(k, "unknown request: it is list, status, add NAME PATH or remove NAME");
	}
}
