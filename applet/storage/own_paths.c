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
void paths_put(struct handover *h)
{
	const struct own *o;

	for (o = own; o; o = o->next) {
		if (o->unless_ready) /* this server was: they stay, whatever becomes of the next program */
			continue;
		handover_put_string(h, o->path);
		handover_put(h, o->st.st_dev);
		handover_put(h, o->st.st_ino);
	}
	handover_put_string(h, NULL);
}

void paths_get(struct handover *h)
{
	struct own **last = &own;
	char *path;

	while ((path = handover_get_string(h))) {
		struct own *o = xzalloc(sizeof(*o));

		o->path = path;
		o->st.st_dev = handover_get(h);
		o->st.st_ino = handover_get(h);
		*last = o;
		last = &o->next;
	}
}
#endif
