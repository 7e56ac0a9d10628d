/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-wrapper's database. The text is generated from the current exports, so no second copy of the list exists; only
 * images that could not be opened are kept here.
 *
 * A change is done first, then written: a worker makes a new file, which replaces the old one when it is on
 * the disk. Only then is the request for the change answered. If writing fails, the old file stays as it is, and
 * writing is retried.
 */
#include "libbb.h"
#include "control/control.h"
#include "nbd/nbd.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/database.h"
#include "server/database_text.h"
#include "server/life.h"
#include "server/proxies.h"
#include "server/server.h"
#include "storage/own_paths.h"
#include "storage/paths.h"

#include <sys/file.h>

enum {
	START_MS = 8000,  /* so long a start waits for what it opens: longer than for an origin that a proxy can do without */
	RETRY_MS = 10000, /* so often a file is tried that could not be written */
	END_MS = 3000,    /* so long the end waits for it */
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

/* Who is answered when something has been done. */
struct waiter {
	control_done *done;
	void *ctx;
	struct waiter *next;
};

static struct {
	const char *path, *new_path, *directory;
	int fd; /* of the file as it is, locked */
	struct database_image *images; /* as the start has found them, forever: what is kept points into it */
	char *parsed;                  /* its strings */
	struct kept *kept; /* in the order of the file */
	unsigned tried;    /* so many of them are */
	struct waiter *reloads;

	struct repeated_job write;
	struct waiter *waiting, *writing; /* for the next write, for this one */
	struct database_text text;        /* of this one */
	struct timer retry;
	int error;                        /* of the last one: errno, or 0 */
	bool has_failed;                  /* ... and that was told */
} db = { .fd = -1 };

static void forget(struct kept *k)
{
	struct kept **p = &db.kept;

	while (*p != k)
		p = &(*p)->next;
	*p = k->next;
	free(k);
}

static const char no_memory[] = "out of memory";

/* ---- waiting ----------------------------------------------------------------------------------- */

static void wait_in(struct waiter **list, control_done *done, void *ctx)
{
	struct waiter *w;

	if (!done)
		return;
	w = malloc(sizeof(*w));
	if (!w) {
		done(ctx, no_memory);
		return;
	}
	*w = (struct waiter){ .done = done, .ctx = ctx, .next = *list };
	*list = w;
}

static void answer_all(struct waiter **list, const char *why)
{
	struct waiter *w = *list, *next;

	*list = NULL;
	for (; w; w = next) {
		next = w->next;
		w->done(w->ctx, why);
		free(w);
	}
}

/* ---- written ------------------------------------------------------------------------------------- */

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

/* A new file with the text, on the disk. Errno, or 0. */
static int write_text(const struct database_text *t)
{
	struct stat st;
	int fd, error = 0;

	unlink(db.new_path);
	fd = open(db.new_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return errno;
	if (fstat(db.fd, &st) == 0) /* what the administrator has made of it */
		fchmod(fd, st.st_mode & 0777);
	errno = ENOSPC;
	if (full_write(fd, t->text, t->bytes) != (ssize_t)t->bytes || fsync(fd) < 0)
		error = errno;
	close(fd);
	return error;
}

/* It takes the place of the old one, locked, and not open for writing: its file system may be remounted. -1 with errno. */
static int put_in_place(void)
{
	int error, fd = open(db.new_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || (flock(fd, LOCK_EX | LOCK_NB) == 0 && rename(db.new_path, db.path) == 0))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int sync_name(void)
{
	int fd = open(db.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) /* that: the file system has no such thing */
		error = errno;
	if (fd >= 0)
		close(fd);
	return error;
}

/* On a worker, which has db.text and db.fd meanwhile. */
static void write_run(struct job *j UNUSED_PARAM)
{
	int fd = -1;

	db.error = write_text(&db.text);
	if (!db.error && (fd = put_in_place()) < 0)
		db.error = errno;
	if (db.error) {
		unlink(db.new_path);
		return;
	}
	close(db.fd);
	db.fd = fd;
	db.error = sync_name();
}

static void write_begin(void);

static void write_again(struct timer *t UNUSED_PARAM)
{
	write_begin();
}

/* What was asked for is done, and is not in the file. */
static void write_failed(const char *error)
{
	char why[400];

	snprintf(why, sizeof(why), "that is done, but cannot be written to '%.250s': %s; it is tried again", db.path, error);
	if (!db.has_failed)
		bb_error_msg("cannot write '%s': %s; it is tried again", db.path, error);
	db.has_failed = true;
	db.retry.fire = write_again;
	timer_set(&db.retry, loop_now_ms() + RETRY_MS);
	answer_all(&db.writing, why);
}

static void write_done(struct job *j UNUSED_PARAM)
{
	free(db.text.text);
	if (db.error) {
		write_failed(strerror(db.error));
	} else {
		if (db.has_failed)
			bb_error_msg("'%s' is written again", db.path);
		db.has_failed = false;
		answer_all(&db.writing, NULL);
	}
	if (repeated_end(&db.write))
		write_begin();
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

static void write_begin(void)
{
	if (!repeated_begin(&db.write))
		return;
	timer_clear(&db.retry);
	db.writing = db.waiting;
	db.waiting = NULL;
	forget_served();
	make_text(&db.text);
	if (!db.text.lacks && db.text.bytes <= DATABASE_BYTES_MAX && db.text.images <= DATABASE_IMAGES_MAX) {
		repeated_submit(&db.write, JOB_SLOW, write_run, write_done); /* not behind images on a disk that hangs */
		return;
	}
	free(db.text.text);
	repeated_end(&db.write);
	write_failed(db.text.lacks ? no_memory : "more than 10000 images, or 16 MiB");
}

static void save(control_done *saved, void *ctx)
{
	wait_in(&db.waiting, saved, ctx);
	write_begin();
}

/* ---- kept ------------------------------------------------------------------------------------------ */

static void tell_kept(const struct kept *k)
{
	bb_error_msg("'%.100s' of the database is not served: %s; it is kept, and tried again at \"reload\"", k->image->name, k->why);
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
	answer_all(&db.reloads, n ? why : unsaved);
}

static void reload_done(void)
{
	if (!db.tried && db.reloads)
		save(reloaded, NULL);
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
		tell_kept(k);
	}
	if (control_database) /* words for one start, such as clear-bitmap, have had it; the start itself writes at its end */
		save(NULL, NULL);
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
		why = export_add_later(i->name, i->field[DATABASE_IMAGE], true, kept_tried, k) ? NULL : no_memory;
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
	wait_in(&db.reloads, done, ctx);
	try_all();
}

void database_reload(void)
{
	if (db.path)
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

static const struct control_database functions = { .save = save, .reload = reload, .drop_kept = drop_kept, .next_kept = next_kept };

/* ---- the start --------------------------------------------------------------------------------------- */

/* Like the pid file, it is locked as long as this process lives, and may be replaced by who has the lock. */
static void open_and_lock(void)
{
	struct stat st, there;

	do {
		close(db.fd);
		db.fd = open(db.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (db.fd < 0 && errno == ENOENT) {
			db.fd = open(db.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
			if (db.fd >= 0)
				path_own(NULL, db.path, true);
			else if (errno == EEXIST)
				continue;
		}
		if (db.fd < 0)
			bb_perror_msg_and_die("cannot open '%s'", db.path);
		if (fstat(db.fd, &st) < 0 || !S_ISREG(st.st_mode))
			bb_error_msg_and_die("'%s' is not a regular file", db.path);
		if (flock(db.fd, LOCK_EX | LOCK_NB) < 0)
			bb_perror_msg_and_die("'%s' is the database of another server: cannot lock it", db.path);
	} while (stat(db.path, &there) < 0 || !is_same_file(&there, &st));
}

/* What clients wrote after a switch by force is nowhere but in the image, which a proxy would fill from the origin; and
 * only the database knows of that switch. */
static void check_switched(const struct database_image *i, const struct export *e)
{
	const char *words = i->field[DATABASE_WORDS], *at = words ? strstr(words, "switched") : NULL;

	if (at && (at == words || at[-1] == ' ') && core_is_proxy(e->disk.core) && strcmp(i->field[DATABASE_IMAGE], e->disk.path[FILE_IMAGE]) == 0)
		bb_error_msg_and_die("proxy '%s' was switched, says '%s': let the command line not name it, or take its 'switched' out there",
				     i->name, db.path);
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
		serial++;
		*last = k;
		last = &k->next;
	}
}

/* What a start would change of the file. */
static void write_if_changed(const char *text, size_t n)
{
	struct database_text now;

	make_text(&now);
	if (now.lacks || now.bytes != n || memcmp(now.text, text, n) != 0)
		save(NULL, NULL);
	free(now.text);
}

void database_begin(const char *path)
{
	uint64_t until_ms = loop_now_ms() + START_MS;
	char *text, *slash;
	size_t n;

	db.path = xpath_absolute(path);
	db.new_path = xasprintf("%s.new", db.path);
	db.directory = slash = xpath_absolute(path);
	slash = strrchr(slash, '/');
	slash[slash == db.directory] = '\0';
	open_and_lock();
	text = database_xread(db.fd, db.path, &n);
	db.parsed = xzalloc(n + 1); /* the parser changes it */
	memcpy(db.parsed, text, n);
	db.images = database_xparse(db.parsed, n, db.path);
	keep();
	try_all();
	server_end_of_turn(); /* a turn begins with a wait */
	while (db.tried && !server.stopping_ms && loop_now_ms() < until_ms)
		server_turn(until_ms);
	if (db.tried && server.stopping_ms)
		bb_simple_error_msg_and_die("ended by a signal before all images of the database had begun");
	control_database = &functions; /* a switch may end from now on */
	write_if_changed(text, n);
	server_end_of_turn(); /* a turn begins with a wait */
	while (db.write.busy && !server.stopping_ms && loop_now_ms() < until_ms)
		server_turn(until_ms);
	free(text);
}

void database_end(void)
{
	uint64_t until_ms = loop_now_ms() + END_MS;

	if (db.has_failed)
		write_begin();
	server_end_of_turn(); /* a turn begins with a wait */
	while (db.write.busy && loop_now_ms() < until_ms)
		server_turn(until_ms);
	if (db.has_failed || db.write.busy)
		bb_error_msg("'%s' lacks the last changes", db.path);
}
