/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The file of xnbd-wrapper's database: locked, and written after each change.
 *
 * A worker makes a new file, which replaces the old one when it is on the disk. Only then is the request for the change
 * answered. If writing fails, the old file stays as it is, and writing is retried.
 */
#include "libbb.h"
#include "reactor/handover.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/database.h"
#include "server/database_file.h"
#include "server/life.h"
#include "storage/own_paths.h"
#include "storage/paths.h"

#include <sys/file.h>

enum {
	RETRY_MS = 10000, /* so often a file is tried that could not be written */
	END_MS = 3000,    /* so long the end waits for it */
};

const char *database_path;

static struct {
	const char *new_path, *directory;
	int fd; /* of the file as it is, locked */
	struct repeated_job write;
	struct waiter *waiting, *writing; /* for the next write, for this one */
	struct database_text text;        /* of this one */
	struct timer retry;
	int error;                        /* of the last one: errno, or 0 */
	bool has_failed;                  /* ... and that was told */
} file = { .fd = -1 };

/* ---- who waits ----------------------------------------------------------------------------------- */

void waiter_add(struct waiter **list, control_done *done, void *ctx)
{
	struct waiter *w;

	if (!done)
		return;
	w = malloc(sizeof(*w));
	if (!w) {
		done(ctx, "out of memory");
		return;
	}
	*w = (struct waiter){ .done = done, .ctx = ctx, .next = *list };
	*list = w;
}

void waiters_answer(struct waiter **list, const char *why)
{
	struct waiter *w = *list, *next;

	*list = NULL;
	for (; w; w = next) {
		next = w->next;
		w->done(w->ctx, why);
		free(w);
	}
}

/* ---- opened ------------------------------------------------------------------------------------------ */

/* Like the pid file, it is locked as long as this process lives, and may be replaced by who has the lock. */
static void open_and_lock(void)
{
	struct stat st, there;

	for (;;) {
		close(file.fd);
		file.fd = open(database_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (file.fd < 0 && errno == ENOENT) {
			file.fd = open(database_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
			if (file.fd >= 0)
				path_own(NULL, database_path, true);
			else if (errno == EEXIST)
				continue;
		}
		if (file.fd < 0)
			bb_perror_msg_and_die("cannot open '%s'", database_path);
		if (fstat(file.fd, &st) < 0 || !S_ISREG(st.st_mode))
			bb_error_msg_and_die("'%s' is not a regular file", database_path);
		if (flock(file.fd, LOCK_EX | LOCK_NB) < 0)
			bb_perror_msg_and_die("'%s' is the database of another server: cannot lock it", database_path);
		if (stat(database_path, &there) == 0 && is_same_file(&there, &st))
			return;
	}
}

/* path: absolute; it is kept. */
static void use_path(char *path)
{
	char *slash;

	database_path = path;
	file.new_path = xasprintf("%s.new", path);
	file.directory = slash = xstrdup(path);
	slash = strrchr(slash, '/');
	slash[slash == file.directory] = '\0';
}

char *database_file_begin(const char *path, size_t *bytes)
{
	use_path(xpath_absolute(path));
	open_and_lock();
	return database_xread(file.fd, database_path, bytes);
}

/* ---- written ------------------------------------------------------------------------------------------ */

/* A new file with the text, on the disk. Errno, or 0. */
static int write_text(const struct database_text *t)
{
	struct stat st;
	int fd, error = 0;

	unlink(file.new_path);
	fd = open(file.new_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return errno;
	if (fstat(file.fd, &st) == 0) /* what the administrator has made of it */
		fchmod(fd, st.st_mode & 0777);
	errno = ENOSPC;
	if (full_write(fd, t->text, t->bytes) != (ssize_t)t->bytes || fsync(fd) < 0)
		error = errno;
	close(fd);
	return error;
}

/* It replaces the old one, locked, and not open for writing: its file system may be remounted. -1 with errno. */
static int put_in_place(void)
{
	int error, fd = open(file.new_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || (flock(fd, LOCK_EX | LOCK_NB) == 0 && rename(file.new_path, database_path) == 0))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int sync_name(void)
{
	int fd = open(file.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) /* that: the file system has no such thing */
		error = errno;
	if (fd >= 0)
		close(fd);
	return error;
}

/* On a worker, which has file.text and file.fd meanwhile. */
static void write_run(struct job *j UNUSED_PARAM)
{
	int fd = -1;

	file.error = write_text(&file.text);
	if (!file.error && (fd = put_in_place()) < 0)
		file.error = errno;
	if (file.error) {
		unlink(file.new_path);
		return;
	}
	close(file.fd);
	file.fd = fd;
	file.error = sync_name();
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

	snprintf(why, sizeof(why), "that is done, but cannot be written to '%.250s': %s; trying again", database_path, error);
	if (!file.has_failed)
		bb_error_msg("cannot write '%s': %s; trying again", database_path, error);
	file.has_failed = true;
	file.retry.fire = write_again;
	timer_set(&file.retry, loop_now_ms() + RETRY_MS);
	waiters_answer(&file.writing, why);
}

static void write_done(struct job *j UNUSED_PARAM)
{
	free(file.text.text);
	if (file.error) {
		write_failed(strerror(file.error));
	} else {
		if (file.has_failed)
			bb_error_msg("'%s' can be written again", database_path);
		file.has_failed = false;
		waiters_answer(&file.writing, NULL);
	}
	if (repeated_end(&file.write))
		write_begin();
}

const char *database_is_too_large(const struct database_text *t)
{
	if (t->lacks)
		return "out of memory";
	return t->bytes > DATABASE_BYTES_MAX || t->images > DATABASE_IMAGES_MAX ? "more than 10000 images, or 16 MiB" : NULL;
}

static void write_begin(void)
{
	if (!repeated_begin(&file.write))
		return;
	timer_clear(&file.retry);
	file.writing = file.waiting;
	file.waiting = NULL;
	database_make_text(&file.text);
	if (!database_is_too_large(&file.text)) {
		repeated_submit(&file.write, JOB_SLOW, write_run, write_done); /* not behind images on a disk that hangs */
		return;
	}
	free(file.text.text);
	repeated_end(&file.write);
	write_failed(database_is_too_large(&file.text));
}

void database_save(control_done *saved, void *ctx)
{
	waiter_add(&file.waiting, saved, ctx);
	write_begin();
}

bool database_is_unwritten(void)
{
	return file.has_failed || file.write.busy;
}

bool database_is_writing(void)
{
	return file.write.busy;
}

void database_end(void)
{
	uint64_t until_ms = loop_now_ms() + END_MS;

	if (file.has_failed)
		write_begin();
	server_end_of_turn(); /* a turn begins with a wait */
	while (file.write.busy && loop_now_ms() < until_ms)
		server_turn(until_ms);
	if (file.has_failed || file.write.busy)
		bb_error_msg("'%s' lacks the latest changes", database_path);
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void database_file_handover(void)
{
	char *path = (char *)database_path;

	if (file.write.busy)
		handover.why = handover_busy;
	handover_text(&path);
	handover_fd(&file.fd);
	if (handover.reads && (!path || *path != '/'))
		handover_die();
	if (handover.reads)
		use_path(path);
}
#endif
