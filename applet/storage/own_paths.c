/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Paths that the process removes at its end. */
#include "libbb.h"
#include "reactor/lock.h"
#include "storage/own_paths.h"
#include "storage/paths.h"

#include <sys/stat.h>

static struct own {
	struct own *next;
	const void *owner;
	char *path;
	struct stat st;
	bool unless_ready;
} *own;

static struct mutex lock; /* of that list */

/* A path that leads to another file by now is not ours. */
static void remove_own(const struct own *o)
{
	struct stat st;

	if (lstat(o->path, &st) == 0 && is_same_file(&st, &o->st))
		unlink(o->path);
}

void paths_remove(bool ready)
{
	const struct own *o;

	mutex_lock(&lock); /* a worker may free some */
	for (o = own; o; o = o->next)
		if (!o->unless_ready || !ready)
			remove_own(o);
	mutex_unlock(&lock);
}

void path_own(const void *owner, const char *path, bool unless_ready)
{
	struct own *o = xzalloc(sizeof(*o));

	(void)lstat(path, &o->st);
	o->path = xpath_absolute(path);
	o->owner = owner;
	o->unless_ready = unless_ready;
	mutex_lock(&lock);
	o->next = own;
	own = o;
	mutex_unlock(&lock);
}

static struct own *own_pop(const void *owner)
{
	struct own **p = &own, *o;

	mutex_lock(&lock);
	while (*p && (*p)->owner != owner)
		p = &(*p)->next;
	o = *p;
	if (o)
		*p = o->next;
	mutex_unlock(&lock);
	return o;
}

void paths_disown(const void *owner, bool remove)
{
	struct own *o;

	while ((o = own_pop(owner))) {
		if (remove)
			remove_own(o);
		free(o->path);
		free(o);
	}
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

void paths_give(const void *owner, const char *path)
{
	struct own *o;

	for (o = own; o; o = o->next)
		if (strcmp(o->path, path) == 0)
			o->owner = owner;
}
#endif
