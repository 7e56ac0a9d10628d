/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The exports: by name, and as long as somebody uses them. */
#include "libbb.h"
#include "server/cow.h"
#include "server/loop.h"
#include "server/pool.h"
#include "server/server.h"

struct export *exports;

struct export *export_new(const char *name)
{
	static uint64_t serial;
	struct export *e = xzalloc(sizeof(*e));
	struct export **last = &exports;

	e->nbd.name = xstrdup(name);
	e->serial = serial++;
	e->fd[FILE_IMAGE] = e->fd[FILE_BITMAP] = e->fd[FILE_COMMIT] = e->base_fd = e->direct_fd = -1;
	e->users = 1;
	while (*last)
		last = &(*last)->next;
	*last = e;
	return e;
}

struct export *export_find(const char *name, size_t n)
{
	struct export *e = exports;

	while (e && (e->removed || strlen(e->nbd.name) != n || memcmp(e->nbd.name, name, n) != 0))
		e = e->next;
	return e;
}

static void describe(struct export *e)
{
	e->nbd.size_bytes = e->core.size_bytes;
	e->nbd.transmission_flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
				    NBD_FLAG_SEND_CACHE | NBD_FLAG_CAN_MULTI_CONN;
	if (e->core.readonly)
		e->nbd.transmission_flags |= NBD_FLAG_READ_ONLY;
	else
		e->nbd.transmission_flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	e->nbd.min_block = 1;
	e->nbd.preferred_block = BLOCK_BYTES;
	e->nbd.max_payload = NBD_PAYLOAD_MAX;
	e->nbd.allocation = true;
	e->nbd.local = ENABLE_FEATURE_XNBD_SERVER_PROXY && e->core.map.words;
}

bool export_begin(struct export *e, uint64_t size_bytes, bool all_dirty)
{
	const struct server_config *s = server_config;
	struct core_config config = {
		.size_bytes = size_bytes,
		.proxy = s->bitmap != NULL,
		.readonly = s->readonly,
		.words = e->words,
		.written = e->written,
		.all_dirty = all_dirty,
		.fetch_window = s->max_buf_bytes && s->max_buf_bytes < 32 << 20 ? s->max_buf_bytes / 3 : 0,
		.fixed_window = ENABLE_FEATURE_XNBD_SERVER_INIT && s->root_storage,
		.hold_ms = s->hold_s * 1000ULL,
		.now_ms = loop_now_ms,
	};

	if (!core_init(&e->core, &config))
		return false;
	describe(e);
	return true;
}

static void export_free(struct export *e)
{
	struct export **p = &exports;
	unsigned i;

	while (*p != e)
		p = &(*p)->next;
	*p = e->next;
	core_free(&e->core);
	for (i = 0; i < ARRAY_SIZE(e->fd); i++) {
		if (e->fd[i] >= 0)
			close(e->fd[i]);
		free(e->path[i]);
	}
	if (e->base_fd >= 0)
		close(e->base_fd);
	if (e->direct_fd >= 0)
		close(e->direct_fd);
	free(e->words);
	free(e->written);
	free(e->cow_words);
	free((char *)e->nbd.name);
	free(e);
}

const char *export_add(const char *name, const char *image)
{
	const struct server_config *s = server_config;
	struct export *e;
	const char *why;

	if (export_find(name, strlen(name)))
		return "there is an image of this name already";
	e = export_new(name);
	why = store_open_target(e, image, s->readonly || s->cow);
	if (!why && ENABLE_FEATURE_XNBD_SERVER_COW && s->cow)
		why = cow_begin(e);
	if (!why && !export_begin(e, e->header.size_bytes, false))
		why = "out of memory";
	if (why)
		export_free(e);
	return why;
}

void export_hold(struct export *e)
{
	e->users++;
}

static void sync_run(struct job *j)
{
	struct export *e = (struct export *)(void *)((char *)j - offsetof(struct export, last_sync));

	if (fdatasync(e->fd[FILE_IMAGE]) < 0)
		bb_perror_msg("'%s' could not be synced to disk", e->path[FILE_IMAGE]);
}

static void sync_done(struct job *j)
{
	export_free((struct export *)(void *)((char *)j - offsetof(struct export, last_sync)));
}

/* What its clients have written is not to be lost with the last of them. */
void export_drop(struct export *e)
{
	if (--e->users)
		return;
	if (e->fd[FILE_IMAGE] < 0 || e->base_fd >= 0 || e->core.readonly) {
		export_free(e);
		return;
	}
	e->last_sync.run = sync_run;
	e->last_sync.done = sync_done;
	e->last_sync.class = JOB_SLOW;
	pool_submit(&e->last_sync);
}

void export_remove(struct export *e)
{
	e->removed = true;
	export_drop(e);
}
