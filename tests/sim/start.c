/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A start: applet/storage/store.c, store_create.c and files.c themselves, on a kernel of a few lines. Its system calls
 * have other names here (store_calls.h). Each may be the last one before a crash, and
 * some fail.
 *
 * With plan.commit_device the commit file is a device that has nothing but zeroes at first, and the bitmap
 * is in a file system that lasts as long as the machine runs.
 *
 * A directory with four names, each with a file of disk.c. What was created or renamed
 * since the directory was synced is undone by a power cut, from the end on, as far as
 * chance says; sizes likewise (disk.c).
 */
#define SIM_START
#include "store_calls.h"

#include "libbb.h"
#undef vsnprintf /* libc has them */
#undef snprintf
#include "sim.h"
#include "reactor/loop.h"
#include "storage/cover.h"
#include "storage/header.h"
#include "storage/identity.h"
#include "storage/own_paths.h"
#include "storage/store.h"

#include <setjmp.h>
#include <stdarg.h>

enum { FD_FILE = 100, FD_DIRECTORY = 200, FD_BOOT_ID = 201, FD_DEVICES = 202, JOURNAL_MAX = 16, CALLS_MAX = 64 /* of a start, at most */ };

static const char *const paths[SLOTS] = { "/d/image", "/d/bitmap", "/d/bitmap.commit", "/d/bitmap.commit.new" };

static const char device[] = "/dev/commit"; /* with plan.commit_device: in no directory that keeps the names of files */

/* What the directory has done and not synced. */
enum what { CREATED, RENAMED };
struct change {
	enum what what;
	bool replaced; /* RENAMED: another file, which is now where the new one was */
	unsigned slot; /* RENAMED: to this name */
};

static struct disk files;
static struct core own; /* its core, as far as header.c asks for it */
static struct loop own_loop; /* its clock */
#if ENABLE_FEATURE_XNBD_SERVER_THREADS
_Thread_local
#endif
struct loop *this_loop = &own_loop;
static bool begun; /* a start has succeeded */
static bool header_unread; /* the last start could not read all of it */
static bool exists[SLOTS];
static unsigned slot_of_fd[SLOTS];
static struct change journal[JOURNAL_MAX];
static unsigned journal_count;
static unsigned boots;
static int calls_left; /* until the crash; < 0: none */
static jmp_buf over;
static bool no_faults;
static bool sync_lost; /* one of the image has failed since then */
static bool image_failed; /* ... a call for the image, in the job that ran last */
static bool hiding_failed; /* the ends of the image may show, although it is covered, until the next start */
static bool saving; /* the header, while it runs: what is read for it is not worth a crash */

NORETURN static void die(void)
{
	longjmp(over, 1);
}

/* Every system call begins with it. True: it fails. */
static bool call(const char *name, unsigned slot)
{
	trace("start: %s %s", name, slot < SLOTS ? paths[slot] : "");
	if (calls_left >= 0 && !calls_left--)
		longjmp(over, 2);
	if (!faults_on || no_faults || slot >= SLOTS || !chance_mille(plan.start_mille))
		return false;
	trace("start: ... fails");
	count(COUNT_DISK_FAULTS);
	errno = chance(50) ? EIO : ENOSPC;
	return true;
}

/* ---- libbb --------------------------------------------------------------------------------- */

static char last_words[256];

static void say(const char *format, va_list args)
{
	vsnprintf(last_words, sizeof(last_words), format, args);
	trace("start: \"%s\"", last_words);
}

void bb_error_msg(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
}

void bb_perror_msg(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
}

void bb_error_msg_and_die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	die();
}

void bb_perror_msg_and_die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	die();
}

void bb_simple_error_msg_and_die(const char *text)
{
	bb_error_msg_and_die("%s", text);
}

void *xmalloc(size_t n)
{
	void *p = sim_malloc(n);

	if (!p)
		die();
	return p;
}

char *xstrdup(const char *s)
{
	return strcpy(xmalloc(strlen(s) + 1), s);
}

char *xasprintf(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return xstrdup(text);
}

char *bb_asprintf(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return xstrdup(text);
}

int bb_snprintf(char *to, size_t size, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(to, size, format, args);
	va_end(args);
	return n;
}

ssize_t full_read(int fd, void *to, size_t n)
{
	char id[64];
	int len = snprintf(id, sizeof(id), "%08u-0000-4000-8000-000000000000\n", boots);

	if (fd != FD_BOOT_ID || (size_t)len > n)
		broken("start: read of descriptor %d", fd);
	memcpy(to, id, (size_t)len);
	return len;
}

/* Paths that a start that fails would remove: the simulator leaves them, as a crash does. */
void path_own(const void *owner, const char *path, bool unless_ready)
{
	(void)owner;
	(void)path;
	(void)unless_ready;
}

void paths_disown(const void *owner, bool remove)
{
	(void)owner;
	(void)remove;
}

/* The jobs of header.c: nothing else happens meanwhile. */
void pool_submit(struct job *j)
{
	image_failed = false;
	j->run(j);
	j->done(j);
}

static int64_t bad_at; /* a copy of the header, on a device, that cannot be read until it is written; -1: none */

static bool touches_bad(unsigned slot, uint64_t offset, uint64_t n)
{
	return slot == FILE_COMMIT && bad_at >= 0 && offset < (uint64_t)bad_at + STATE_COPY_BYTES && (uint64_t)bad_at < offset + n;
}

/* The older one: the newer one is what the last server has said. */
static void sector_goes_bad(void)
{
	struct state_header h[STATE_COPIES];
	unsigned i;

	bad_at = -1;
	if (!plan.commit_device || !chance(20))
		return;
	for (i = 0; i < STATE_COPIES; i++)
		if (state_header_decode(disk_platter(FILE_COMMIT) + (size_t)i * STATE_COPY_BYTES, STATE_HEADER_BYTES, &h[i]))
			return;
	bad_at = h[0].counter < h[1].counter ? 0 : STATE_COPY_BYTES;
	trace("a sector of %s at %u cannot be read any more", device, (unsigned)bad_at);
}

static bool sync_turn; /* the turn of those that sync the image is a job's */

void disk_sync_begin(struct disk *d, struct job *j)
{
	if (d->syncing || sync_turn)
		broken("two jobs that sync the image at a time");
	sync_turn = true;
	pool_submit(j);
}

void disk_sync_end(struct disk *d)
{
	(void)d;
	if (!sync_turn)
		broken("the turn of who syncs the image ends twice");
	sync_turn = false;
}

/* ---- system calls ----------------------------------------------------------------------------- */

static unsigned path_slot(const char *path)
{
	unsigned i;

	if (plan.commit_device && strcmp(path, device) == 0)
		return FILE_COMMIT;
	for (i = 0; i < SLOTS && strcmp(path, paths[i]) != 0; i++)
		;
	return i;
}

static unsigned fd_slot(int fd)
{
	if (fd < FD_FILE || fd >= FD_FILE + SLOTS)
		broken("start: descriptor %d", fd);
	return slot_of_fd[fd - FD_FILE];
}

static void journal_add(struct change c)
{
	if (journal_count == JOURNAL_MAX) {
		memmove(journal, journal + 1, sizeof(journal[0]) * (JOURNAL_MAX - 1));
		journal_count--;
	}
	journal[journal_count++] = c;
}

int k_open(const char *path, int flags, ...)
{
	unsigned slot = path_slot(path);

	if (strcmp(path, "/d") == 0)
		return FD_DIRECTORY;
	if (strcmp(path, "/dev") == 0)
		return FD_DEVICES;
	if (slot == SLOTS && strncmp(path, "/proc/", 6) == 0)
		return FD_BOOT_ID;
	if (slot == SLOTS) {
		errno = ENOENT;
		return -1;
	}
	if (call("open", slot))
		return -1;
	if ((flags & O_EXCL) && (flags & O_CREAT) && exists[slot]) {
		errno = EEXIST;
		return -1;
	}
	if (!exists[slot] && !(flags & O_CREAT)) {
		errno = ENOENT;
		return -1;
	}
	if (!exists[slot]) {
		disk_new_file(slot);
		exists[slot] = true;
		journal_add((struct change){ .what = CREATED, .slot = slot });
	}
	if (flags & O_TRUNC)
		disk_resize(slot, 0);
	slot_of_fd[slot] = slot;
	return FD_FILE + (int)slot;
}

int k_close(int fd)
{
	(void)fd;
	return 0;
}

int k_flock(int fd, int how)
{
	(void)how;
	fd_slot(fd);
	return 0;
}

static bool file_system_lies;

int k_fstatfs(int fd, struct statfs *st)
{
	fd_slot(fd);
	file_system_lies = chance(20);
	st->f_type = !file_system_lies ? 0xef53 : chance(50) ? 0x2fc12fc1 : 0x65735546; /* ZFS, FUSE */
	return 0;
}

/* Data is where a byte is not zero and was synced, or, on a disk that cannot tell, everywhere. */
static off_t seek_data(unsigned slot, uint64_t offset)
{
	uint64_t at = disk_next_data(slot, offset);

	if (file_system_lies)
		broken("start: a file system that lies is asked where a file has data");
	if (chance(20)) {
		errno = EINVAL;
		return -1;
	}
	if (slot == FILE_COMMIT && plan.commit_device) {
		errno = EINVAL;
		return -1;
	}
	if (at < disk_size(slot))
		return (off_t)at;
	errno = ENXIO;
	return -1;
}

off_t k_lseek(int fd, off_t offset, int whence)
{
	if (whence == SEEK_DATA)
		return seek_data(fd_slot(fd), (uint64_t)offset);
	if (offset || whence != SEEK_END)
		broken("start: lseek");
	return (off_t)disk_size(fd_slot(fd));
}

int k_fstat(int fd, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_mode = fd_slot(fd) == FILE_COMMIT && plan.commit_device ? S_IFBLK : S_IFREG;
	st->st_ino = disk_birth(fd_slot(fd));
	st->st_mtim.tv_nsec = fd_slot(fd) == FILE_COMMIT ? 0 : (long)disk_changed(fd_slot(fd)); /* nobody asks for that */
	return 0;
}

int k_stat(const char *path, struct stat *st)
{
	unsigned slot = path_slot(path);

	memset(st, 0, sizeof(*st));
	errno = ENOENT;
	if (slot == SLOTS || !exists[slot])
		return -1;
	st->st_ino = disk_birth(slot);
	return 0;
}

/* statx(2): nothing is known but what is here for good. And renameat2(2), which not all file systems know. */
long k_syscall(long number, int fd, ...)
{
	const char *from, *to;
	va_list list;

	if (number == SYS_renameat2) {
		va_start(list, fd);
		from = va_arg(list, const char *);
		(void)va_arg(list, int);
		to = va_arg(list, const char *);
		va_end(list);
		errno = EINVAL;
		return chance(10) ? -1 : exists[path_slot(to)] ? (errno = EEXIST, -1) : k_rename(from, to);
	}
	if (number == SYS_fcntl) /* the lock of a device */
		return 0;
	if (number != SYS_statx)
		broken("start: syscall");
	va_start(list, fd);
	(void)va_arg(list, const char *);
	(void)va_arg(list, int);
	(void)va_arg(list, unsigned);
	memset(va_arg(list, uint64_t *), 0, 256);
	va_end(list);
	return 0;
}

int k_ioctl(int fd, unsigned long what, void *to)
{
	(void)what;
	(void)to;
	if (fd_slot(fd) != FILE_COMMIT || !plan.commit_device)
		broken("start: ioctl");
	errno = ENOTTY; /* no loop device */
	return -1;
}

ssize_t k_fgetxattr(int fd, const char *name, void *to, size_t n)
{
	uint64_t *stamp = disk_stamp(fd_slot(fd));

	(void)name;
	if (!*stamp || n != sizeof(*stamp))
		return -1;
	memcpy(to, stamp, n);
	return (ssize_t)n;
}

int k_fsetxattr(int fd, const char *name, const void *from, size_t n, int flags)
{
	(void)name;
	(void)flags;
	errno = EPERM;
	if (call("fsetxattr", fd_slot(fd)) || (fd_slot(fd) == FILE_COMMIT && plan.commit_device))
		return -1;
	memcpy(disk_stamp(fd_slot(fd)), from, n);
	return 0;
}

ssize_t k_pread(int fd, void *to, size_t n, off_t offset)
{
	bool bad = !saving && call("pread", fd_slot(fd));

	if (!bad && touches_bad(fd_slot(fd), (uint64_t)offset, n)) {
		errno = EIO;
		bad = true;
	}
	header_unread |= bad && fd_slot(fd) == FILE_COMMIT && offset < COMMIT_HEADER_BYTES;
	if (bad)
		return -1;
	return (ssize_t)disk_pread(fd_slot(fd), to, n, (uint64_t)offset);
}

ssize_t k_pwrite(int fd, const void *from, size_t n, off_t offset)
{
	if (call("pwrite", fd_slot(fd))) {
		image_failed |= fd_slot(fd) == FILE_IMAGE;
		if (saving)
			disk_tear(fd_slot(fd), from, n, (uint64_t)offset);
		return -1;
	}
	if (touches_bad(fd_slot(fd), (uint64_t)offset, n))
		bad_at = -1;
	disk_pwrite(fd_slot(fd), from, n, (uint64_t)offset);
	return (ssize_t)n;
}

int disk_transfer(int fd, bool write, uint8_t *p, uint64_t n, uint64_t offset)
{
	ssize_t got = write ? k_pwrite(fd, p, n, (off_t)offset) : k_pread(fd, p, n, (off_t)offset);

	return got == (ssize_t)n ? 0 : got < 0 ? errno : EIO;
}

/* What the server before has left, killed, is seldom lost; so seldom is often here. */
static bool lost_what_was_left(void)
{
	bool lost = !saving && begun && faults_on && !no_faults && plan.start_mille && chance(20);

	if (lost) {
		trace("start: ... fails, and what was written before is lost");
		count(COUNT_DISK_FAULTS);
		errno = EIO;
	}
	return lost;
}

static int sync_file(int fd, bool all)
{
	unsigned slot = fd_slot(fd);

	if (saving && slot == FILE_IMAGE && !sync_turn && !files.save.header.clean)
		broken("a FLUSH may sync the image at the same time, and the kernel tells an error to one of the two");
	if (call(all ? "fsync" : "fdatasync", slot) || (slot != FILE_BITMAP && lost_what_was_left())) {
		/* This one was told, and no later one is. While the header is saved, the commit has a descriptor of its own. Before a
		 * start has succeeded, whoever starts it is told, as there is no header yet: what xNBD has left is lost then. */
		if (begun && (slot == FILE_IMAGE || (!saving && slot != FILE_BITMAP)))
			disk_sync_fails(slot);
		if (slot != FILE_IMAGE)
			return -1;
		sync_lost = image_failed = true;
		if (!saving) { /* a start can but say so */
			no_faults = true;
			calls_left = -1;
		}
		errno = EIO;
		return -1;
	}
	if (slot == FILE_BITMAP && !all && faults_on && !no_faults && chance(10)) { /* a start does without */
		errno = EIO;
		return -1;
	}
	disk_sync(slot, all);
	return 0;
}

int k_fdatasync(int fd)
{
	return sync_file(fd, false);
}

int k_fsync(int fd)
{
	if (fd != FD_DIRECTORY && fd != FD_DEVICES)
		return sync_file(fd, true);
	call("fsync of the directory", SLOTS);
	if (fd == FD_DIRECTORY)
		journal_count = 0;
	return 0;
}

int k_ftruncate(int fd, off_t n)
{
	if (call("ftruncate", fd_slot(fd)))
		return -1;
	disk_resize(fd_slot(fd), (uint64_t)n);
	return 0;
}

int k_posix_fadvise(int fd, off_t offset, off_t n, int what UNUSED_PARAM)
{
	disk_drop_pages(fd_slot(fd), (uint64_t)offset, (uint64_t)(offset + n));
	return 0;
}

int k_fallocate(int fd, int mode, off_t offset, off_t n)
{
	(void)mode;
	(void)offset;
	(void)n;
	return call("fallocate", fd_slot(fd)) ? -1 : 0;
}

static void exchange(unsigned from, unsigned to)
{
	disk_exchange(to, from);
	slot_of_fd[from] = to;
}

int k_rename(const char *from, const char *to)
{
	if (path_slot(to) != FILE_COMMIT || path_slot(from) != SLOT_NEW)
		broken("start: rename of %s to %s", from, to);
	if (call("rename", SLOT_NEW))
		return -1;
	journal_add((struct change){ .what = RENAMED, .slot = FILE_COMMIT, .replaced = exists[FILE_COMMIT] });
	exchange(SLOT_NEW, FILE_COMMIT);
	exists[FILE_COMMIT] = true;
	exists[SLOT_NEW] = false;
	return 0;
}

/* ---- crash ---------------------------------------------------------------------------------------- */

static void undo(const struct change *c)
{
	if (c->what != RENAMED) {
		exists[c->slot] = false;
		return;
	}
	exchange(SLOT_NEW, c->slot);
	exists[SLOT_NEW] = true;
	exists[c->slot] = c->replaced;
}

void start_power_cut(void)
{
	unsigned stay = (unsigned)chance_of(journal_count + 1);

	while (journal_count > stay)
		undo(&journal[--journal_count]);
	journal_count = 0;
	if (plan.commit_device)
		exists[FILE_BITMAP] = false;
	sector_goes_bad();
	boots++;
}

/* ---- the start --------------------------------------------------------------------------------------- */

void start_begin(bool adopt)
{
	begun = false;
	memset(exists, 0, sizeof(exists));
	exists[FILE_IMAGE] = exists[FILE_BITMAP] = adopt;
	exists[FILE_COMMIT] = plan.commit_device;
	if (plan.commit_device) { /* as large as it is, whatever happens */
		disk_resize(FILE_COMMIT, commit_file_bytes(plan.size_bytes, true));
		disk_sync(FILE_COMMIT, true);
	}
	journal_count = 0;
	boots = 1;
	calls_left = -1;
	bad_at = -1;
	memset(&files, 0, sizeof(files));
}

void start_free(void)
{
	unsigned i;

	for (i = 0; i < FILES; i++)
		sim_free(files.path[i]);
	sim_free(files.words);
	sim_free(files.written);
	sim_free(files.switching.buf);
	memset(&files, 0, sizeof(files));
}

/* The header that the next start would read; that is no start yet, so nothing fails. False: there is none. */
static bool next_header(struct state_header *h)
{
	bool found;

	slot_of_fd[FILE_COMMIT] = FILE_COMMIT;
	saving = true;
	found = !header_read(FD_FILE + FILE_COMMIT, 0, h);
	saving = false;
	return found;
}

/* A start that died has brought its header to the device: then no later one may need to be told to overwrite. */
static bool old_commit_has_gone(void)
{
	struct state_header h;

	return plan.old_commit && next_header(&h) && h.counter > OLD_COUNTER;
}

/* With data in the image, the first start is told to overwrite it; no later one may need that. */
static void look_and_open(bool *all_dirty)
{
	bool clear = plan.overwrite && !begun && !old_commit_has_gone();
	bool complete = store_inspect(&files, paths[FILE_IMAGE], paths[FILE_BITMAP], plan.commit_device ? device : NULL, clear);
	struct fingerprint fp;

	if (complete || (files.words && chance(50))) {
		count(COUNT_STARTS_WITHOUT);
		event("a start without the origin");
		store_open(&files, files.header.size_bytes, NULL, false, all_dirty);
		return;
	}
	origin_samples(&fp);
	if (plan.blind)
		memset(&fp, 0, sizeof(fp));
	store_open(&files, plan.size_bytes, &fp, clear, all_dirty);
}

enum start_end start_files(uint64_t **words, bool *all_dirty, bool switched)
{
	uint64_t faults = report->count[COUNT_DISK_FAULTS];
	int how;

	memset(&files, 0, sizeof(files));
	files.fd[0] = files.fd[1] = files.fd[2] = -1;
	files.cover_fd = files.direct_fd = -1;
	files.adopt = plan.adopt;
	hiding_failed = sync_turn = header_unread = false;
	files.wants_cover = plan.cover && !switched && chance(80);
	calls_left = faults_on && plan.crashes && chance(begun ? 40 : 80) ? (int)chance_of(CALLS_MAX) : -1;
	how = setjmp(over);
	if (!how) {
		sync_lost = false;
		look_and_open(all_dirty);
		begun = true;
		calls_left = -1;
		*words = files.words;
		return START_GOOD;
	}
	no_faults = false;
	if (how == 1 && report->count[COUNT_DISK_FAULTS] == faults && !memory_has_failed())
		broken("a start is refused: %s", last_words);
	return how == 1 ? START_DIED : START_CRASHED;
}

bool start_missed_header(void)
{
	return header_unread;
}

bool start_trusts_committed(void)
{
	struct state_header h;

	return exists[FILE_COMMIT] && next_header(&h) && !h.boot_id[0];
}

static bool switch_ended;
static int switch_error;

void files_switched(struct core *c, int error)
{
	(void)c;
	switch_ended = true;
	switch_error = error;
}

bool start_distrusts(void)
{
	struct state_header h;
	bool found, was = saving;

	saving = true;
	found = !header_read(files.header_fd, 0, &h);
	saving = was;
	return (found && !h.boot_id[0]) || (files.save.error && !files.save.header.boot_id[0]);
}

static bool sync_is_told;

void files_sync_told(struct core *c)
{
	(void)c;
	if (!start_distrusts())
		broken("the core may answer that a sync has failed before the next start knows");
	sync_is_told = true;
}

static bool switch_is_complete;

static void switch_files(struct disk *d)
{
	files_switch(d->core, switch_is_complete);
}

/* Something of header.c or cover.c, which has a core of its own here. It may be the last thing before a crash:
 * false. */
static bool save(void (*what)(struct disk *d), unsigned crash_percent)
{
	bool over_now;

	calls_left = faults_on && plan.crashes && chance(crash_percent) ? (int)chance_of(what == header_finish ? 6 : what == switch_files ? (cover_is_on(&files) ? 20 : 8) : 3) : -1;
	memset(&own, 0, sizeof(own));
	own.owner = &files;
	files.core = &own;
	own_loop.now_ms = core.now_ms;
	own.recents = core.recents;
	if (!plan.blind)
		memcpy(own.recent, core.recent, sizeof(core.recent));
	own.commit.error = core.commit.error;
	sync_lost = false;
	saving = true;
	over_now = setjmp(over);
	if (!over_now)
		what(&files);
	saving = false;
	calls_left = -1;
	if (!over_now && sync_lost && !own.commit.error && !start_distrusts())
		broken("a sync of the image has failed, and neither the core nor the next start knows it");
	if (!over_now && own.commit.error)
		core_sync_failed(&core, own.commit.error);
	return !over_now;
}

enum start_end start_tick(void)
{
	bool distrust = core.commit.error && files.header.boot_id[0], good;

	if (plan.target)
		return START_GOOD;
	no_faults = distrust; /* it can but say so */
	sync_is_told = false;
	good = save(header_tick, distrust ? 30 : 3);
	no_faults = false;
	if (good && sync_is_told)
		core_sync_told(&core);
	return good ? START_GOOD : distrust ? START_DIED : START_CRASHED;
}

bool start_is_switched(void)
{
	return files.switched;
}

bool start_is_covered(void)
{
	return !plan.target && cover_is_on(&files);
}

bool start_has_hidden(void)
{
	return start_is_covered() && !hiding_failed;
}

uint64_t start_cover_place(uint64_t offset, uint64_t *n)
{
	return plan.target ? UINT64_MAX : cover_part(&files, offset, n);
}

enum start_end start_switch(bool complete, int *error)
{
	switch_ended = false;
	switch_is_complete = complete;
	if (!save(switch_files, 50))
		return START_CRASHED;
	if (!switch_ended)
		broken("the core is not told of its switch");
	hiding_failed |= switch_error && (image_failed || files.save.error);
	*error = switch_error;
	return START_GOOD;
}

const struct state_header *start_header(void)
{
	return &files.header;
}

const uint64_t *start_words(void)
{
	return files.words;
}

uint64_t *start_written(void)
{
	return files.written;
}

void start_save(void)
{
	save(header_finish, 20);
}
