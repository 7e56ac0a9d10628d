/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files at a start: image, bitmap and commit file. */
#include "libbb.h"
#include "storage/holes.h"
#include "server/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define IN_USE "'%s' is in use: mounted, swap, RAID, LVM (see lsblk)"

enum {
	LOAD_BYTES = 64 << 10,
	MOUNTS_BYTES = 256 << 10, /* of mountinfo: some thousand mounts */
	BUSY_TRIES = 40, /* to open a block device; two seconds */
	BUSY_WAIT_MS = 50,
};

/* ---- opening ---------------------------------------------------------------- */

char *path_absolute(const char *path)
{
	char *cwd, *full;

	if (*path == '/')
		return bb_asprintf("%s", path);
	cwd = getcwd(NULL, 0);
	full = cwd ? bb_asprintf("%s/%s", cwd, path) : NULL;
	free(cwd);
	return full;
}

char *xpath_absolute(const char *path)
{
	char *full = path_absolute(path);

	if (!full)
		bb_perror_msg_and_die("'%s'", path);
	return full;
}

/* False: it does not exist. O_EXCL: of a block device the kernel has one exclusive user at a
 * time. Mounts, swap, RAID, LVM and the mkfs programs are such users, and a proxy is one too.
 * Programs that udev runs after a write to the device are, for a moment. */
static bool open_file(struct export *e, enum io_file file, int flags)
{
	unsigned tries = BUSY_TRIES;

	do /* O_NONBLOCK: a FIFO is refused, not waited for. */
		e->fd[file] = open(e->path[file], flags | O_EXCL | O_CLOEXEC | O_NONBLOCK);
	while (e->fd[file] < 0 && errno == EBUSY && --tries && poll(NULL, 0, BUSY_WAIT_MS) == 0);
	if (e->fd[file] >= 0)
		return true;
	if (errno == EBUSY)
		bb_error_msg_and_die(IN_USE " or another server", e->path[file]);
	if (errno != ENOENT)
		bb_perror_msg_and_die("cannot open '%s'", e->path[file]);
	return false;
}

/* What is wrong with a file: one line, the export's, valid until the next, or NULL. Those who
 * start with one die of it; one that is added later is refused. */
static const char *perror_of(struct export *e, const char *what, const char *path)
{
	snprintf(e->wrong, sizeof(e->wrong), "%s '%s': %s", what, path, strerror(errno));
	return e->wrong;
}

#ifndef SYS_fcntl64 /* where a long has 64 bits there is only one */
# define SYS_fcntl64 SYS_fcntl
#endif

static const char *kind_error(struct export *e, enum io_file file, bool *regular)
{
	struct stat st;

	if (fstat(e->fd[file], &st) < 0)
		return perror_of(e, "cannot stat", e->path[file]);
	*regular = S_ISREG(st.st_mode);
	if (file == FILE_IMAGE)
		e->is_device = S_ISBLK(st.st_mode);
	if (*regular || S_ISBLK(st.st_mode))
		return NULL;
	snprintf(e->wrong, sizeof(e->wrong), "'%s' is neither a regular file nor a block device", e->path[file]);
	return e->wrong;
}

/* 0, or -1 and errno. how: LOCK_SH or LOCK_EX. Not flock(2) for block devices: udev takes that
 * for each of its events, and puts them off while another has it. */
static int lock(int fd, bool regular, int how)
{
	struct flock l = { .l_type = how == LOCK_SH ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	if (regular)
		return flock(fd, how | LOCK_NB);
	return syscall(SYS_fcntl64, fd, F_OFD_SETLK, &l) < 0 && errno != EINVAL ? -1 : 0; /* that: Linux before 3.15 */
}

/* A target may share its image with other targets, a proxy with nobody. */
static const char *lock_error(struct export *e, enum io_file file, int how)
{
	bool regular;
	const char *error = kind_error(e, file, &regular);

	if (error || lock(e->fd[file], regular, how) == 0)
		return error;
	if (errno != EWOULDBLOCK)
		return perror_of(e, "cannot lock", e->path[file]);
	snprintf(e->wrong, sizeof(e->wrong), "'%s' is in use by another server: stop that one first", e->path[file]);
	return e->wrong;
}

static const char *size_error(struct export *e, enum io_file file, uint64_t *bytes)
{
	off_t n = e->fd[file] < 0 ? 0 : lseek(e->fd[file], 0, SEEK_END);

	*bytes = (uint64_t)n;
	return n < 0 ? perror_of(e, "cannot measure", e->path[file]) : NULL;
}

static void die_of(const char *error)
{
	if (error)
		bb_simple_error_msg_and_die(error);
}

static void lock_file(struct export *e, enum io_file file, int how)
{
	die_of(lock_error(e, file, how));
}

uint64_t store_bytes(struct export *e, enum io_file file)
{
	uint64_t bytes;

	die_of(size_error(e, file, &bytes));
	return bytes;
}

static bool is_regular(struct export *e, enum io_file file)
{
	bool regular;

	die_of(kind_error(e, file, &regular));
	return regular;
}

/* What others write to a device while it is copied makes the copy one of no moment. A file system
 * that is mounted read-only writes nothing. */
static void look_for_writers(const struct export *e)
{
	int fd = open(e->path[FILE_IMAGE], O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
	bool in_use = fd < 0 && errno == EBUSY;
	char *text, *line, *end;
	char key[32];
	struct stat st;

	close(fd);
	if (!in_use)
		return;
	fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	text = calloc(1, MOUNTS_BYTES + 1);
	if (text && fstat(e->fd[FILE_IMAGE], &st) == 0 && full_read(fd, text, MOUNTS_BYTES) > 0) {
		int n = snprintf(key, sizeof(key), " %u:%u ", major(st.st_rdev), minor(st.st_rdev));

		for (line = text; *line && strncmp(line, key, (size_t)n) != 0; line++)
			;
		end = strchrnul(line, '\n');
		*end = '\0';
		while (end > line && *end != ' ') /* the last field is of the file system, an earlier one of this mount */
			end--;
		in_use = strncmp(end, " ro", 3) != 0;
	}
	if (in_use)
		bb_error_msg(IN_USE ": no copy of it is good; unmount it, or mount it read-only", e->path[FILE_IMAGE]);
	close(fd);
	free(text);
}

const char *store_open_target(struct export *e, const char *image, bool readonly)
{
	const char *error;

	e->path[FILE_IMAGE] = path_absolute(image);
	if (!e->path[FILE_IMAGE])
		return perror_of(e, "cannot open", image);
	/* O_NONBLOCK: a FIFO is refused, not waited for. */
	e->fd[FILE_IMAGE] = open(image, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (e->fd[FILE_IMAGE] < 0)
		return perror_of(e, "cannot open", image);
	error = lock_error(e, FILE_IMAGE, LOCK_SH);
	if (!error)
		error = size_error(e, FILE_IMAGE, &e->header.size_bytes);
	if (!error && e->is_device)
		look_for_writers(e);
	return error;
}

/* A start that something may be done about: told with the file. */
NORETURN static void refuse(const struct export *e, enum io_file file, const char *why, bool acceptable)
{
	bb_error_msg_and_die("'%s': %s%s; --clear-bitmap would forget all that is cached and start anew", e->path[file], why,
			     acceptable ? "; --accept-image would take the files as they are" : "");
}

/* ---- bits --------------------------------------------------------------------- */

/* Adds the bits of a file to words in memory. Reads what is there: what was never
 * written, of a large disk nearly all, would take seconds. Words that are zero are not touched,
 * so that they cost no memory. */
static void load_bits(struct export *e, uint64_t *to, enum io_file file, uint64_t offset, uint64_t n)
{
	uint64_t *part = xmalloc(LOAD_BYTES);
	bool known = fdatasync(e->fd[file]) == 0 && holes_known(e->fd[file]);
	uint64_t end = offset + n, first = offset;

	while ((offset = holes_data(e->fd[file], known, offset) & ~7ULL) < end) {
		size_t step = end - offset < LOAD_BYTES ? (size_t)(end - offset) : LOAD_BYTES;
		ssize_t got = pread(e->fd[file], part, step, (off_t)offset);
		uint64_t *words = to + (offset - first) / 8;
		size_t i;

		if (got < 0)
			bb_perror_msg_and_die("cannot read '%s'", e->path[file]);
		if (!got)
			break;
		for (i = 0; i < (size_t)got / 8; i++)
			if (part[i])
				words[i] |= part[i];
		if (got % 8)
			refuse(e, file, "truncated", false);
		offset += (uint64_t)got;
	}
	free(part);
}

/* Room for words: zero pages, which cost memory only once they are written. */
static uint64_t *alloc_words(uint64_t *old, uint64_t n)
{
	free(old);
	old = n >= SIZE_MAX - 8 ? NULL : calloc(1, (size_t)n + 8); /* a size_t may have 32 bits */
	if (!old)
		bb_error_msg_and_die("out of memory: the bitmap takes %llu bytes", (unsigned long long)n);
	return old;
}

void store_load(struct export *e, enum state_start how, uint64_t size_bytes)
{
	e->words = alloc_words(e->words, map_bytes(size_bytes));
	if (how == START_ADOPT || how == START_BOTH)
		load_bits(e, e->words, FILE_BITMAP, 0, map_bytes(size_bytes));
	if (how == START_COMMIT || how == START_BOTH)
		load_bits(e, e->words, FILE_COMMIT, COMMIT_HEADER_BYTES, map_bytes(size_bytes));
}

bool store_load_written(struct export *e, enum state_start how, uint64_t size_bytes)
{
	e->written = alloc_words(e->written, written_bytes(size_bytes));
	if (how == START_COMMIT || how == START_BOTH)
		load_bits(e, e->written, FILE_COMMIT, commit_written_offset(size_bytes), written_bytes(size_bytes));
	/* Another program does not note what it writes; neither do we, so configured. */
	if (how == START_ADOPT || (e->accept && how != START_NEW) || !ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		written_forget(e->written, size_bytes);
	return ENABLE_FEATURE_XNBD_SERVER_VERIFY && written_from_local(e->written, e->words, size_bytes);
}

static bool is_complete(const struct export *e, uint64_t size_bytes)
{
	struct map m;
	bool complete = map_init(&m, size_bytes, e->words, false) && map_is_complete(&m);

	map_free(&m);
	return complete;
}

/* ---- deciding ------------------------------------------------------------------- */

static void read_header(struct export *e)
{
	const char *why = header_read(e->fd[FILE_COMMIT], &e->header);

	if (!why && store_bytes(e, FILE_COMMIT) < commit_file_bytes(e->header.size_bytes))
		why = "cut short"; /* bits that are not there are not zero */
	e->commit_found = !why ? COMMIT_GOOD : why == state_old_version ? COMMIT_OLD_VERSION : COMMIT_DAMAGED;
	e->commit_trouble = why;
}

enum state_start store_decide(struct export *e, uint64_t size_bytes, const struct fingerprint *fp, bool clear)
{
	struct state_found f = {
		.clear = clear,
		.adopt = e->adopt,
		.accept = e->accept,
		.size_bytes = size_bytes,
		.bitmap_bytes = store_bytes(e, FILE_BITMAP),
		.commit = e->commit_found,
		.commit_size_bytes = e->header.size_bytes,
		.same_boot = identity_same_boot(e),
		.same_origin = !fp || fingerprint_match(fp, &e->header.fingerprint),
	};
	const char *why = NULL;
	enum state_start how;

	if (f.commit == COMMIT_ABSENT && f.bitmap_bytes && f.bitmap_bytes == map_bytes(size_bytes)) {
		store_load(e, START_ADOPT, size_bytes);
		f.bitmap_set = bits_next(e->words, 0, map_blocks(size_bytes), 0) < map_blocks(size_bytes);
	}
	identity_look(e, &f);
	how = state_decide(&f, &why);
	if (how == START_REFUSE)
		refuse(e, FILE_BITMAP, why, why == f.other || why == f.changed);
	return how;
}

/* Two of the files are one: writing one would destroy the other. */
static void check_distinct(struct export *e)
{
	struct stat st[3];
	int i, k;

	for (i = 0; i < 3; i++) {
		if (stat(e->path[i], &st[i]) < 0)
			st[i].st_ino = 0;
		for (k = 0; k < i; k++)
			if (strcmp(e->path[i], e->path[k]) == 0 ||
			    (st[i].st_ino && st[i].st_ino == st[k].st_ino && st[i].st_dev == st[k].st_dev))
				bb_error_msg_and_die("'%s' and '%s' are the same file", e->path[k], e->path[i]);
	}
}

/* What exists of them. flags: of open(2); how: of lock(). */
static void open_files(struct export *e, const char *image, const char *bitmap, int flags, int how)
{
	e->path[FILE_IMAGE] = xpath_absolute(image);
	e->path[FILE_BITMAP] = xpath_absolute(bitmap);
	e->path[FILE_COMMIT] = xasprintf("%s.commit", e->path[FILE_BITMAP]);
	check_distinct(e);
	if (open_file(e, FILE_IMAGE, flags))
		lock_file(e, FILE_IMAGE, how);
	if (open_file(e, FILE_BITMAP, flags))
		lock_file(e, FILE_BITMAP, how);
	if (open_file(e, FILE_COMMIT, flags))
		read_header(e);
}

void store_peek(struct export *e, const char *image, const char *bitmap)
{
	open_files(e, image, bitmap, O_RDONLY, LOCK_SH);
	if (e->fd[FILE_COMMIT] >= 0)
		is_regular(e, FILE_COMMIT); /* others cannot be opened for writing, or hold nothing */
}

/* What is local, and what clients have written. */
static void load(struct export *e, enum state_start how, uint64_t size_bytes)
{
	store_load(e, how, size_bytes);
	store_load_written(e, how, size_bytes);
}

/* An image that is too short for the bits that speak of it has lost blocks. */
static void check_image(struct export *e, uint64_t size_bytes, uint64_t have_bytes)
{
	struct map m;
	uint64_t first;

	if (have_bytes >= size_bytes)
		return;
	if (!map_init(&m, size_bytes, e->words, false))
		bb_simple_error_msg_and_die("out of memory");
	first = map_next_local(&m, have_bytes / BLOCK_BYTES, m.blocks);
	if (first < m.blocks)
		refuse(e, FILE_IMAGE, "shorter than its bitmap says: it is not the image of this bitmap", false);
	map_free(&m);
}

void store_check_content(struct export *e, enum state_start how)
{
	const char *why = NULL;

	if ((how == START_BOTH || how == START_COMMIT) && !e->accept)
		why = identity_content(e, how == START_BOTH);
	if (why)
		refuse(e, FILE_IMAGE, why, true);
}

void store_check_room(struct export *e, uint64_t size_bytes, uint64_t have_bytes)
{
	if (e->fd[FILE_IMAGE] >= 0 && !is_regular(e, FILE_IMAGE) && have_bytes < size_bytes)
		bb_error_msg_and_die("'%s' is too small: it has %llu bytes, the disk %llu", e->path[FILE_IMAGE],
				     (unsigned long long)have_bytes, (unsigned long long)size_bytes);
	check_image(e, size_bytes, have_bytes);
}

bool store_look(struct export *e, const char *image, const char *bitmap, bool clear)
{
	enum state_start how;

	open_files(e, image, bitmap, O_RDWR, LOCK_EX);
	if (clear || e->commit_found != COMMIT_GOOD || e->fd[FILE_IMAGE] < 0)
		return false;
	how = store_decide(e, e->header.size_bytes, NULL, false);
	load(e, how, e->header.size_bytes);
	store_check_room(e, e->header.size_bytes, store_bytes(e, FILE_IMAGE));
	store_check_content(e, how); /* before an origin that was compared with it is blamed */
	return is_complete(e, e->header.size_bytes);
}

/* ---- creating --------------------------------------------------------------------- */

/* A file's name survives a power cut only with this (fsync(2)). */
static void sync_directory(const char *path)
{
	char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');
	int fd;

	slash[slash == dir] = '\0';
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) /* that: the file system has no such thing */
		bb_perror_msg_and_die("cannot sync '%s'", dir);
	close(fd);
	free(dir);
}

/* A file that was not there: it goes again if the start fails. */
static void create_file(struct export *e, enum io_file file)
{
	e->fd[file] = open(e->path[file], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (e->fd[file] < 0 && errno == EEXIST) /* not when we looked: it is somebody else's */
		bb_error_msg_and_die("'%s' has just been created by another: is a second server starting?", e->path[file]);
	if (e->fd[file] < 0)
		bb_perror_msg_and_die("cannot create '%s'", e->path[file]);
	lock_file(e, file, LOCK_EX); /* else another was quicker, and it is his */
	server_owns_path(e->path[file], true);
}

/* Gives the file its space now: a full file system shows at the start, not later
 * in the middle of a write. */
static void reserve(struct export *e, enum io_file file, uint64_t n, int mode)
{
	if (n && fallocate(e->fd[file], mode, 0, (off_t)n) < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		bb_perror_msg_and_die("no room for '%s' (%llu bytes)", e->path[file], (unsigned long long)n);
}

static void allocate(struct export *e, enum io_file file, uint64_t n)
{
	if (ftruncate(e->fd[file], (off_t)n) < 0)
		bb_perror_msg_and_die("no room for '%s' (%llu bytes)", e->path[file], (unsigned long long)n);
	reserve(e, file, n, 0);
}

/* The bits in memory, n bytes, into this file. */
static void write_bits(struct export *e, enum io_file file, uint64_t offset, const uint64_t *words, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i += LOAD_BYTES) {
		size_t step = n - i < LOAD_BYTES ? (size_t)(n - i) : LOAD_BYTES;

		if (pwrite(e->fd[file], (const uint8_t *)words + i, step, (off_t)(offset + i)) != (ssize_t)step)
			bb_perror_msg_and_die("cannot write '%s'", e->path[file]);
	}
}

/* All of it, also what is in the file already: that may not be on the disk, and would never be,
 * after a sync that has failed. It is synced with the header. */
static void write_written(struct export *e, uint64_t size_bytes)
{
	write_bits(e, FILE_COMMIT, commit_written_offset(size_bytes), e->written, written_bytes(size_bytes));
}

/* A commit file, without a bit or with those in memory, whose blocks are on the disk: all
 * of it but its header, and its room, but not yet in its place. Returns its name, to be freed. */
static char *prepare_commit(struct export *e, uint64_t size_bytes, bool with_bits)
{
	char *name = xasprintf("%s.new", e->path[FILE_COMMIT]);

	if (e->fd[FILE_COMMIT] >= 0)
		close(e->fd[FILE_COMMIT]);
	e->fd[FILE_COMMIT] = open(name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (e->fd[FILE_COMMIT] < 0)
		bb_perror_msg_and_die("cannot create '%s'", name);
	server_owns_path(name, true);
	allocate(e, FILE_COMMIT, commit_file_bytes(size_bytes));
	if (with_bits)
		write_bits(e, FILE_COMMIT, COMMIT_HEADER_BYTES, e->words, map_bytes(size_bytes));
	write_written(e, size_bytes);
	return name;
}

static void place_commit(struct export *e, char *name)
{
	if (rename(name, e->path[FILE_COMMIT]) < 0)
		bb_perror_msg_and_die("cannot rename '%s'", name);
	if (e->commit_found == COMMIT_ABSENT)
		server_owns_path(e->path[FILE_COMMIT], true);
	free(name);
}

static void create_bitmap(struct export *e, uint64_t size_bytes)
{
	if (e->fd[FILE_BITMAP] < 0) {
		create_file(e, FILE_BITMAP);
	} else if (is_regular(e, FILE_BITMAP)) {
		/* What it says is lost only when there is room for what takes its place. */
		reserve(e, FILE_BITMAP, map_bytes(size_bytes), FALLOC_FL_KEEP_SIZE);
		if (ftruncate(e->fd[FILE_BITMAP], 0) < 0)
			bb_perror_msg_and_die("cannot empty '%s'", e->path[FILE_BITMAP]);
	}
	allocate(e, FILE_BITMAP, map_bytes(size_bytes));
}

static void grow_image(struct export *e, uint64_t size_bytes, uint64_t have_bytes)
{
	if (have_bytes < size_bytes && ftruncate(e->fd[FILE_IMAGE], (off_t)size_bytes) < 0)
		bb_perror_msg_and_die("cannot grow '%s' to %llu bytes", e->path[FILE_IMAGE],
				      (unsigned long long)size_bytes);
}

/* What the header says from now on. */
static void set_header(struct export *e, enum state_start how, uint64_t size_bytes, const struct fingerprint *fp)
{
	struct state_header *h = &e->header;
	uint64_t counter = h->counter;

	if (how == START_NEW)
		memset(h, 0, sizeof(*h));
	memset(h->recent, 0, sizeof(h->recent)); /* what is not committed may have been lost */
	h->counter = counter + 1;
	h->size_bytes = size_bytes;
	if (fp)
		fingerprint_add(&h->fingerprint, fp);
	identity_set(e);
}

void store_open(struct export *e, uint64_t size_bytes, const struct fingerprint *fp, bool clear, bool *all_dirty)
{
	enum state_start how = store_decide(e, size_bytes, fp, clear);
	uint64_t image_bytes = store_bytes(e, FILE_IMAGE);
	char *new_commit = NULL;

	if (!e->written) /* else store_look() has read all; nobody else writes these files */
		load(e, how, size_bytes);
	store_check_room(e, size_bytes, image_bytes);
	if (e->fd[FILE_IMAGE] < 0)
		create_file(e, FILE_IMAGE);
	/* From now on a power cut leaves only what is committed: what xNBD has left has to
	 * be, clients' writes among it. */
	if (how == START_ADOPT && fdatasync(e->fd[FILE_IMAGE]) < 0)
		bb_perror_msg_and_die("cannot sync '%s'", e->path[FILE_IMAGE]);
	/* Whatever may fail for lack of room comes before anything is forgotten. */
	if (how == START_NEW || how == START_ADOPT)
		new_commit = prepare_commit(e, size_bytes, how == START_ADOPT);
	if (how == START_NEW || e->fd[FILE_BITMAP] < 0)
		create_bitmap(e, size_bytes);
	if (how == START_COMMIT) {
		allocate(e, FILE_BITMAP, map_bytes(size_bytes));
		write_bits(e, FILE_BITMAP, 0, e->words, map_bytes(size_bytes));
	}
	/* Only now may the header say that the bitmap belongs to this boot. */
	if (!new_commit)
		write_written(e, size_bytes);
	set_header(e, how, size_bytes, fp);
	errno = header_write(e->fd[FILE_COMMIT], &e->header);
	if (errno)
		bb_perror_msg_and_die("cannot write '%s'", new_commit ? new_commit : e->path[FILE_COMMIT]);
	if (new_commit)
		place_commit(e, new_commit);
	if (how == START_ADOPT)
		bb_error_msg("'%s' has no commit file: its bits were never safe against power loss", e->path[FILE_BITMAP]);
	e->header_fd = open(e->path[FILE_COMMIT], O_WRONLY | O_CLOEXEC);
	if (e->header_fd < 0)
		bb_perror_msg_and_die("cannot open '%s'", e->path[FILE_COMMIT]);
	grow_image(e, size_bytes, image_bytes);
	/* In any case: the server that created them may have died before it came here. */
	sync_directory(e->path[FILE_IMAGE]);
	sync_directory(e->path[FILE_COMMIT]);
	*all_dirty = how == START_BOTH || how == START_COMMIT; /* they may have been written, but not synced */
}
