/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record of what clients have written: CACHE_BITMAP_IMAGE.written.
 *
 * It is there between a server's good end and the next start only, which takes it away
 * before it serves: so it never tells less than was written. Without one, or with one that
 * is not of these files as they are, all that is local counts as written.
 */
#include "libbb.h"
#include "server/export.h"

#include <fcntl.h>
#include <sys/stat.h>

static char *record_path(const struct export *e)
{
	return xasprintf("%s.written", e->path[FILE_BITMAP]);
}

static uint64_t changed_ns(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
}

/* What a record of the files has to say, but for its bits. A device does not tell when it
 * was written. */
static struct written_header expected(const struct export *e, uint64_t size_bytes)
{
	return (struct written_header){
		.size_bytes = size_bytes,
		.image_ns = e->is_device ? 0 : changed_ns(e->fd[FILE_IMAGE]),
		.commit_ns = changed_ns(e->fd[FILE_COMMIT]),
	};
}

static void alloc_words(struct export *e, uint64_t size_bytes)
{
	uint64_t n = written_words(size_bytes) + 1;

	free(e->written);
	e->written = n > SIZE_MAX / sizeof(uint64_t) ? NULL : calloc((size_t)n, sizeof(uint64_t));
	if (!e->written)
		bb_simple_error_msg_and_die("out of memory");
}

/* Fills e->written. NULL, or why it could not: then it may hold anything. */
static const char *read_record(struct export *e, int fd, uint64_t size_bytes)
{
	struct written_header h = { 0 }, want = expected(e, size_bytes);
	size_t n = (size_t)written_words(size_bytes) * sizeof(uint64_t);
	uint8_t raw[WRITTEN_HEADER_BYTES];
	ssize_t got = pread(fd, raw, sizeof(raw), 0);
	const char *why = got < 0 ? strerror(errno) : written_decode(raw, (size_t)got, &h);

	if (why)
		return why;
	if (h.size_bytes != want.size_bytes || h.image_ns != want.image_ns || h.commit_ns != want.commit_ns)
		return "image or commit file have been changed since";
	got = pread(fd, e->written, n, WRITTEN_HEADER_BYTES);
	if (got < 0)
		return strerror(errno);
	if ((size_t)got != n)
		return "cut short";
	return fingerprint_sample((uint8_t *)e->written, n) == h.sum ? NULL : "checksum wrong";
}

const char *written_read(struct export *e, uint64_t size_bytes)
{
	const char *why = "absent";
	char *path = record_path(e);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	free(path);
	alloc_words(e, size_bytes);
	if (fd >= 0) {
		why = read_record(e, fd, size_bytes);
		close(fd);
	}
	if (why)
		memset(e->written, 0, (size_t)written_words(size_bytes) * sizeof(uint64_t));
	return why;
}

void written_load(struct export *e, enum state_start how, uint64_t size_bytes)
{
	bool trusted = how == START_BOTH || how == START_COMMIT;

	if (!trusted)
		alloc_words(e, size_bytes);
	if (!trusted || written_read(e, size_bytes))
		written_from_local(e->written, e->words, size_bytes);
}

void written_forget(const struct export *e)
{
	char *path = record_path(e);

	if (unlink(path) < 0 && errno != ENOENT)
		bb_perror_msg_and_die("cannot remove '%s'", path);
	free(path);
}

/* 0 or errno. */
static int write_record(const struct export *e, const char *path, const char *unfinished)
{
	uint64_t size = e->core.size_bytes;
	size_t n = (size_t)written_words(size) * sizeof(uint64_t);
	struct written_header h = expected(e, size);
	uint8_t raw[WRITTEN_HEADER_BYTES];
	int fd = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int error = 0;

	if (fd < 0)
		return errno;
	h.sum = fingerprint_sample((uint8_t *)e->written, n);
	written_encode(raw, &h);
	errno = ENOSPC; /* of a write that is short */
	if (pwrite(fd, raw, sizeof(raw), 0) != (ssize_t)sizeof(raw) ||
	    pwrite(fd, e->written, n, WRITTEN_HEADER_BYTES) != (ssize_t)n || fsync(fd) < 0 || rename(unfinished, path) < 0)
		error = errno;
	close(fd);
	return error;
}

void written_save(const struct export *e)
{
	char *path = record_path(e);
	char *unfinished = xasprintf("%s.new", path);
	int error = write_record(e, path, unfinished);

	if (error) {
		bb_error_msg("'%s': %s: what is local now will not be compared", path, strerror(error));
		unlink(unfinished);
	}
	free(path);
	free(unfinished);
}
