/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The exports: found by name, and reference-counted. */
#include "libbb.h"
#include "export/tally.h"
#include "reactor/buf.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "storage/cover.h"
#include "storage/cow.h"
#include "storage/holes.h"
#include "storage/files.h"
#include "storage/resident.h"

struct export *exports;
struct export_config export_config;

unsigned export_workers(void)
{
	/* They wait for the disk, and need no processor meanwhile. Those of a disk that the root file
	 * system depends on are in locked memory from the start, 70 KiB each. */
	enum { WORKERS = 32, LOCKED_WORKERS = 16 };

	return ENABLE_FEATURE_XNBD_SERVER_INIT && export_config.root_storage ? LOCKED_WORKERS : WORKERS;
}

static void prepare_files(struct job *j, bool batch)
{
	static struct serial_queue files[2];

	j->class = JOB_SLOW;
	j->queue = &files[batch];
	if (!j->queue->most) /* nobody reads it yet */
		j->queue->most = (ENABLE_FEATURE_XNBD_SERVER_INIT && export_config.root_storage ? SLOW_WORKERS_AT_ONCE - SLOW_OTHERS_AT_ONCE : SLOW_WORKERS - SLOW_OTHERS) / 2;
}

void export_submit_files(struct job *j, bool batch)
{
	prepare_files(j, batch);
	pool_submit(j);
}

struct export *export_new(const char *name)
{
	struct export *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->disk.queues[JOB_SHORT][0].most = export_workers();
	e->disk.queues[JOB_LONG][0].most = export_workers() / 8;
	e->nbd.name = strdup(name);
	e->disk.fd[FILE_IMAGE] = e->disk.fd[FILE_BITMAP] = e->disk.fd[FILE_COMMIT] = e->disk.base_fd = -1;
	e->disk.header_fd = e->disk.direct_fd = e->disk.cover_fd = -1;
	e->disk.rate_bytes = export_config.rate_bytes;
	e->disk.keeps_space = ENABLE_FEATURE_XNBD_SERVER_DISCARD && export_config.keeps_space;
	e->users = 1;
	if (e->nbd.name)
		return e;
	free(e);
	return NULL;
}

uint64_t export_next_serial;

/* Exports by name: thousands are looked up for each write of a database, and by clients. */
static struct export *named[512];

static struct export **list_of(const char *name, size_t n)
{
	unsigned hash = 0;

	while (n)
		hash = hash * 31 + (unsigned char)name[--n];
	return &named[hash % ARRAY_SIZE(named)];
}

void export_enlist(struct export *e)
{
	struct export **last = &exports, **list = list_of(e->nbd.name, strlen(e->nbd.name));

	e->nbd.serial = export_next_serial++;
	e->next_named = *list;
	*list = e;
	while (*last)
		last = &(*last)->next;
	*last = e;
}

static struct export *find(const char *name, size_t n)
{
	struct export *e = *list_of(name, n);

	while (e && (e->removed || strlen(e->nbd.name) != n || memcmp(e->nbd.name, name, n) != 0))
		e = e->next_named;
	return e;
}

struct export *export_find(const char *name, size_t n)
{
	if (ENABLE_FEATURE_XNBD_EXPORT_NAMES && !n && export_config.default_name) {
		name = export_config.default_name;
		n = strlen(name);
	}
	return find(name, n);
}

struct export *export_named(const char *name)
{
	return find(name, strlen(name));
}

struct export *export_by_serial(uint64_t serial)
{
	struct export *e = exports;

	while (e && e->nbd.serial != serial)
		e = e->next;
	return e;
}

static const char *description_of(const struct export *e)
{
	const llist_t *l;
	size_t n = strlen(e->nbd.name);

	for (l = ENABLE_XNBD_WRAPPER && ENABLE_FEATURE_XNBD_EXPORT_NAMES ? export_config.descriptions : NULL; l; l = l->link)
		if (strncmp(l->data, e->nbd.name, n) == 0 && strchr(l->data, '=') == (char *)l->data + n)
			return (char *)l->data + n + 1;
	return export_config.description;
}

static void describe(struct export *e)
{
	e->nbd.size_bytes = core_size_bytes(e->disk.core);
	e->nbd.transmission_flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
				    NBD_FLAG_SEND_CACHE;
	if (!export_is_copied(e)) /* else another connection is another client */
		e->nbd.transmission_flags |= NBD_FLAG_CAN_MULTI_CONN;
	if (export_config.readonly)
		e->nbd.transmission_flags |= NBD_FLAG_READ_ONLY;
	else
		e->nbd.transmission_flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	e->nbd.min_block = ENABLE_FEATURE_XNBD_SERVER_SECTORS && export_config.sector_bytes ? export_config.sector_bytes : 1;
	e->nbd.preferred_block = BLOCK_BYTES;
	e->nbd.max_payload = NBD_PAYLOAD_MAX;
	e->nbd.allocation = true;
	e->nbd.description = description_of(e);
	e->nbd.local = ENABLE_FEATURE_XNBD_SERVER_PROXY && e->disk.words;
}

uint64_t export_share(void)
{
	uint64_t share = buf_limit() / 3 / (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && export_config.proxies ? export_config.proxies : 1);

	return share < FETCH_WINDOW_BYTES ? share : FETCH_WINDOW_BYTES;
}

/* The disk was switched, and the space behind its end, where its commit file was, is the owner's again. */
static bool is_left(const struct disk *d)
{
	return commit_is_behind(d) && d->switched && d->header_fd < 0;
}

bool export_begin(struct export *e, uint64_t size_bytes, bool all_dirty)
{
	const struct export_config *s = &export_config;
	uint64_t share = export_share();
	struct core_config config = {
		.owner = &e->disk,
		.size_bytes = size_bytes,
		.proxy = e->disk.words,
		.switched = e->disk.switched,
		.readonly = s->readonly,
		.words = e->disk.words,
		.written = e->disk.written,
		.covered = e->disk.covered,
		.all_dirty = all_dirty && !is_left(&e->disk),
		.notes_unsafe = e->disk.resumed,
		.synced = e->disk.words && e->disk.header_fd < 0 && !is_left(&e->disk), /* --check: nothing is to be written */
		.fetch_window = share,
		.fixed_window = ENABLE_FEATURE_XNBD_SERVER_INIT && s->root_storage,
		.hold_ms = s->hold_s * 1000ULL,
		.now_ms = loop_now_ms(),
	};

	if (ENABLE_FEATURE_XNBD_SERVER_COVER && e->disk.covered && !cover_reserve(&e->disk))
		return false;
	if (ENABLE_FEATURE_XNBD_SERVER_THREADS && s->loops > 1 && e->disk.words) {
		config.published = calloc(1, (size_t)map_bytes(size_bytes));
		if (!config.published)
			return false;
		e->disk.published = config.published;
	}
	e->disk.core = core_new(&config);
	if (!e->disk.core)
		return false;
	describe(e);
	return true;
}

/* ---- the end of one ------------------------------------------------------------------- */

static unsigned closing;
bool exports_unsynced;

bool exports_are_closing(void)
{
	return closing;
}

static struct export *export_of_closing(struct job *j)
{
	return container_of(j, struct export, closing);
}

/* On a worker. Syncs, so that what clients have written is not lost when the last of them goes; and
 * a close may block, too, on a network file system. */
static void close_run(struct job *j)
{
	struct export *e = export_of_closing(j);
	unsigned i;

	if (e->nbd.min_block && e->disk.base_fd < 0 && !export_config.readonly && fdatasync(e->disk.fd[FILE_IMAGE]) < 0)
		e->unsynced = true;
	if (e->unsynced)
		bb_perror_msg("'%s' could not be synced to disk", e->disk.path[FILE_IMAGE]);
	for (i = 0; i < ARRAY_SIZE(e->disk.fd); i++)
		if (e->disk.fd[i] >= 0)
			close(e->disk.fd[i]);
	if (e->disk.base_fd >= 0 && !e->disk.cow_of)
		close(e->disk.base_fd);
	if (e->disk.direct_fd >= 0)
		close(e->disk.direct_fd);
	if (e->disk.cover_fd >= 0)
		close(e->disk.cover_fd);
	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && e->disk.header_fd >= 0)
		close(e->disk.header_fd);
	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && ENABLE_FEATURE_XNBD_SERVER_INIT)
		resident_end(&e->disk);
}

static void close_done(struct job *j)
{
	struct export *e = export_of_closing(j);
	struct export **p = &exports, **list = list_of(e->nbd.name, strlen(e->nbd.name));
	struct disk *twin;
	unsigned i;

	closing--;
	exports_unsynced |= e->unsynced;
	while (*list && *list != e)
		list = &(*list)->next_named;
	if (*list) { /* else it never came so far */
		*list = e->next_named;
		while (*p != e)
			p = &(*p)->next;
		*p = e->next;
	}
	if (e->disk.twin && e->unsynced)
		disk_sync_failed(&e->disk, EIO);
	disk_sync_end(&e->disk);
	for (twin = e->disk.twin; twin && twin->twin != &e->disk; twin = twin->twin)
		;
	if (twin)
		twin->twin = e->disk.twin == twin ? NULL : e->disk.twin;
	core_delete(e->disk.core);
	if (ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT && e->base)
		export_drop(e->base);
	for (i = 0; i < ARRAY_SIZE(e->disk.fd); i++)
		free(e->disk.path[i]);
	free(e->disk.words);
	free(e->disk.written);
	free(e->disk.published);
	free(e->disk.cow_words);
	free(e->disk.switching.buf);
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		tally_end(e);
	free((char *)e->nbd.name);
	free(e);
}

void export_close(struct export *e)
{
	e->users = 0; /* what goes through the list skips it */
	closing++;
	e->closing.run = close_run;
	e->closing.done = close_done;
	prepare_files(&e->closing, false);
	if (e->disk.twin) { /* syncs of the others wait for this one, which must not wait behind files that hang elsewhere */
		e->closing.class = JOB_SHORT;
		e->closing.queue = &e->disk.queues[JOB_SHORT][0];
	}
	disk_sync_begin(&e->disk, &e->closing);
}

void export_drop(struct export *e)
{
	if (--e->users)
		return;
	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && e->unused)
		e->unused(e);
	else
		export_close(e);
}

void export_hold(struct export *e)
{
	e->users++;
}

void export_remove(struct export *e)
{
	e->removed = true;
	export_drop(e);
}

const char *export_misfit(struct export *e, uint64_t size_bytes)
{
	unsigned sector = export_config.sector_bytes;

	if (!ENABLE_FEATURE_XNBD_SERVER_SECTORS || !sector || size_bytes % sector == 0)
		return NULL;
	snprintf(e->disk.wrong, sizeof(e->disk.wrong), "'%s' has %llu bytes, which is not a multiple of %u",
		 e->disk.path[FILE_IMAGE], (unsigned long long)size_bytes, sector);
	return e->disk.wrong;
}

/* ---- targets --------------------------------------------------------------------------- */

const char *export_open(struct export *e, const char *image)
{
	const struct export_config *s = &export_config;
	const char *why = file_open_target(&e->disk, image, s->readonly || s->cow || (ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT && s->cow_client));

	if (!why)
		why = export_misfit(e, e->disk.header.size_bytes);
	if (!why && ENABLE_FEATURE_XNBD_SERVER_COW && s->cow)
		why = cow_begin(&e->disk);
	if (!why)
		e->disk.holes_known = holes_known(e->disk.fd[FILE_IMAGE]);
	return why;
}

#if ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT
struct export *export_copy(struct export *e)
{
	struct export *copy = export_new(e->nbd.name);

	if (!copy)
		return NULL;
	export_hold(e);
	copy->base = e;
	if (cow_share(&copy->disk, &e->disk) && export_begin(copy, e->nbd.size_bytes, false))
		return copy;
	export_drop(copy);
	return NULL;
}
#endif

/* It is open: it is served from now on. NULL, or why not. */
static const char *target_begin(struct export *e)
{
	if (export_named(e->nbd.name))
		return "there is an image of this name already";
	if (!export_begin(e, e->disk.header.size_bytes, false))
		return "out of memory";
	export_enlist(e);
	return NULL;
}

const char *export_add(const char *name, const char *image)
{
	struct export *e = export_new(name);
	const char *why = e ? export_open(e, image) : "out of memory";

	if (!why)
		why = target_begin(e);
	if (why && e)
		export_drop(e);
	return why;
}

struct adding {
	struct job job;
	struct export *export;
	char *image;
	const char *why; /* NULL: it is open */
	void (*added)(void *ctx, const char *why);
	void *ctx;
};

static void add_run(struct job *j)
{
	struct adding *a = (struct adding *)j;
	a->why = export_open(a->export, a->image);
}

static void add_done(struct job *j)
{
	struct adding *a = (struct adding *)j;
	const char *why = a->why ? a->why : target_begin(a->export);

	a->added(a->ctx, why);
	if (why)
		export_drop(a->export);
	free(a->image);
	free(a);
}

bool export_add_later(const char *name, const char *image, bool batch, void (*added)(void *ctx, const char *why), void *ctx)
{
	struct adding *a = calloc(1, sizeof(*a));

	if (!a)
		return false;
	a->image = strdup(image);
	a->export = a->image ? export_new(name) : NULL;
	if (!a->export) {
		free(a->image);
		free(a);
		return false;
	}
	a->job.run = add_run;
	a->job.done = add_done;
	a->added = added;
	a->ctx = ctx;
	export_submit_files(&a->job, batch);
	return true;
}
