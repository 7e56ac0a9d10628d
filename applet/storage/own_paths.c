/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Paths that the process removes at its end. */
#include "libbb.h"
#include "storage/own_paths.h"
#include "storage/paths.h"

#include <sys/stat.h>

static struct own {
	struct own *next;
	char *path;
	struct stat st;
	bool unless_ready;
} *own;

/* A path that leads to another file by now is not ours. */
void paths_remove(bool ready)
{
	const struct own *o;
	struct stat st;

	for (o = own; o; o = o->next)
		if ((!o->unless_ready || !ready) && lstat(o->path, &st) == 0 && is_same_file(&st, &o->st))
			unlink(o->path);
}

void path_own(const char *path, bool unless_ready)
{
	struct own *o = xzalloc(sizeof(*o));

	(void)lstat(path, &o->st);
	o->path = xpath_absolute(path);
	o->unless_ready = unless_ready;
	o->next = own;
	own = o;
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
static void path_get(const struct handed_path *r)
{
	struct own *o = xzalloc(sizeof(*o));

	o->path = xstrdup(handover.more);
	o->st.st_dev = r->dev;
	o->st.st_ino = r->ino;
	o->next = own;
	own = o;
}

void paths_handover(void)
{
	const struct own *o;
	struct handed_path *r;

	for (o = own; o; o = o->next) {
		if (o->unless_ready) /* this server was: they stay, whatever becomes of the next program */
			continue;
		r = handover_put(HANDED_PATH, o->path, strlen(o->path));
		r->dev = o->st.st_dev;
		r->ino = o->st.st_ino;
	}
	while (handover.reads && (r = handover_get(HANDED_PATH)))
		path_get(r);
}
#endif
