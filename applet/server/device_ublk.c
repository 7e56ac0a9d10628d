/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The export as /dev/ublkbN.
 *
 *   OPEN     a worker adds the device, or begins to take it over, and opens its queue; tried again while another
 *            server is just dying
 *   START    a front has the queue; a worker waits until the device is there, with its partitions. Not while the
 *            origin is away: see start()
 *   THERE
 *   STOP     the end: unless somebody uses it, a worker stops it, and the front closes the queue
 *   DELETE   a worker deletes it
 *   ENDED
 *
 * Only one thing identifies what a device of a dead server was: 64 bits that the kernel keeps for servers.
 * They are a hash of our identifier.
 */
//config:config FEATURE_XNBD_SERVER_UBLK
//config:	bool "--device /dev/ublkbN (8.0 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_DEVICE && FEATURE_XNBD_SERVER_THREADS
//config:	help
//config:	The same without NBD between the kernel and the server. Linux 6.5.
#include "libbb.h"
#include "client/client.h"
#include "origin/origin.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/device.h"

#include <sys/random.h>

enum {
	/* After all requests that the kernel can have under way were under way at a server's death, it notices that
	 * death when the timer of one fires. */
	NOTICE_MS = 1000,
	HANDED_TRY_MS = 5, /* of a device whose server has just become another program: it waits */
};

enum state { OPEN, START, THERE, STOP, DELETE, ENDED };

struct ublk_device {
	const char *name, *path; /* of the export, of the device */
	struct ublk_device *next;
	struct export *export;
	unsigned index;
	uint64_t identity;
	enum state state;
	struct ublk_client client;
	bool has_client;   /* ... which has not ended */
	bool is_recovered; /* from the last server */
	bool is_handed;    /* ... which was another program in this process */
	bool is_ending;    /* the server's end */
	uint64_t begun_ms;
	struct timer again;

	struct job job;
	bool busy; /* it is under way */
	/* of job */
	bool in_use;
	int error;
	struct ublk_info info;

	int why; /* it could not be begun: an errno */
};

static struct ublk_device *devices;

static struct ublk_device *device_of(struct job *j)
{
	return container_of(j, struct ublk_device, job);
}

/* ---- on a worker ---------------------------------------------------------------------------------- */

/* Makes it a device without a server, whose queue can be opened. 0, or an errno. */
static int acquire(struct ublk_device *d)
{
	const struct ublk_info *i = &d->info;
	int error = ublk_inspect(d->index, &d->info);

	if (error)
		return error;
	if (d->is_handed && i->state <= UBLK_DEAD)
		return ENODEV; /* somebody has removed it meanwhile */
	d->is_recovered = i->state == UBLK_QUIESCED;
	if (i->state != UBLK_NONE && (i->identity != d->identity || !i->fits || ublk_is_open(d->index)))
		return EBUSY;
	if (d->is_recovered)
		return ublk_recover(d->index);
	if (i->state == UBLK_LIVE)
		return EBUSY;
	/* A server of ours has died before it had begun. */
	error = i->state == UBLK_DEAD ? ublk_delete(d->index) : 0;
	return error ? error : ublk_add(d->index, d->identity, d->export->nbd.size_bytes, device_block_bytes(d->export), d->export->nbd.transmission_flags);
}

static void open_run(struct job *j)
{
	struct ublk_device *d = device_of(j);

	bool is_acquired;

	d->error = acquire(d);
	is_acquired = !d->error;
	if (is_acquired)
		d->error = ublk_queue_open(&d->client.queue, d->index);
	if (d->error && is_acquired && !d->is_recovered) /* nobody will use it: without this it stayed in the kernel */
		ublk_delete(d->index);
}

static void start_run(struct job *j)
{
	struct ublk_device *d = device_of(j);

	d->error = ublk_start(d->index, d->is_recovered);
}

static void use_run(struct job *j)
{
	struct ublk_device *d = device_of(j);
	int fd = open(d->path, O_RDONLY | O_EXCL | O_CLOEXEC); /* of a block device: nobody has mounted it */

	d->in_use = fd < 0 && errno == EBUSY;
	if (fd >= 0)
		close(fd);
}

static void stop_run(struct job *j)
{
	struct ublk_device *d = device_of(j);

	d->error = ublk_stop(d->index);
}

static void delete_run(struct job *j)
{
	struct ublk_device *d = device_of(j);

	d->error = ublk_delete(d->index);
}

/* ---- the core's thread ------------------------------------------------------------------------------- */

static void submit(struct ublk_device *d, void (*run)(struct job *), void (*done)(struct job *))
{
	d->busy = true;
	d->job.run = run;
	d->job.done = done;
	d->job.class = JOB_SLOW;
	pool_submit(&d->job);
}

static void delete_done(struct job *j)
{
	struct ublk_device *d = device_of(j);

	d->busy = false;
	d->state = ENDED;
	if (d->error)
		bb_error_msg("'%s' cannot be removed: %s", d->path, strerror(d->error));
}

/* When it is stopped, and its queue is closed. */
static void delete(struct ublk_device *d)
{
	if (d->busy || d->has_client)
		return;
	d->state = DELETE;
	submit(d, delete_run, delete_done);
}

static const struct ublk_device *failed; /* the first that could not be begun */

static void fail(struct ublk_device *d, int why)
{
	if (d->is_handed || (d->state == START && loop_now_ms() - d->begun_ms > DEVICE_SCAN_MS)) /* the server is already ready */
		bb_error_msg("'%s' cannot be started: %s", d->path, strerror(why));
	d->why = why;
	d->state = ENDED;
	timer_clear(&d->again);
	if (!failed)
		failed = d;
}

/* In START: without its commands, START_DEV would wait forever. A worker that already waits so ends with the process;
 * the next server deletes what it leaves. */
static void client_ended(void *ctx)
{
	struct ublk_device *d = ctx;

	d->has_client = false;
	if (d->state == START) {
		fail(d, EIO);
		if (!d->is_recovered) /* else somebody may use it: it waits for the next server */
			delete(d);
	} else if (d->state == STOP) {
		delete(d);
	} else if (d->state == THERE) {
		bb_error_msg("'%s' was stopped by somebody else", d->path);
		delete(d);
	}
}

static void stop_done(struct job *j)
{
	struct ublk_device *d = device_of(j);

	d->busy = false;
	if (d->error) {
		bb_error_msg("'%s' cannot be stopped: %s", d->path, strerror(d->error));
		d->state = ENDED;
	} else {
		delete(d);
	}
}

static void use_done(struct job *j)
{
	struct ublk_device *d = device_of(j);

	d->busy = false;
	if (d->in_use) {
		bb_error_msg("'%s' is in use and is kept: a server with the same options takes it over", d->path);
		d->state = ENDED;
		return;
	}
	ublk_client_end(&d->client);
	submit(d, stop_run, stop_done);
}

/* The server ends, and nothing of the device is under way. */
static void end(struct ublk_device *d)
{
	if (d->state == THERE) {
		d->state = STOP;
		submit(d, use_run, use_done);
	} else if (d->state == START) {
		d->state = STOP;
		submit(d, stop_run, stop_done);
	} else {
		d->state = ENDED;
	}
}

/* If it cannot be set, the kernel takes 30 s to notice that a server has died. Linux 6.12 waits until all requests are
 * answered, perhaps by a lost origin, and unkillably: a child can, without the image and its lock. */
static void set_timer(const struct ublk_device *d)
{
	char path[64], text[16];
	int n = snprintf(text, sizeof(text), "%u", NOTICE_MS), fd;

	snprintf(path, sizeof(path), "/sys/block/ublkb%u/queue/io_timeout", d->index);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (bb_fork() == 0) {
		device_child_alone(fd);
		full_write(STDIN_FILENO, text, (size_t)n);
		_exit(0);
	}
	close(fd);
}

static void start_done(struct job *j)
{
	struct ublk_device *d = device_of(j);

	d->busy = false;
	if (d->state == ENDED)
		return;
	if (d->error) {
		fail(d, d->error);
		return;
	}
	d->state = THERE;
	if (d->is_ending)
		end(d);
	else if (!d->is_recovered) /* else it is set */
		set_timer(d);
}

/* Whether what the kernel reads of a new device, its partition table, may have to wait. */
static bool may_wait(const struct export *e)
{
	const struct core *c = e->disk.core;

	return ENABLE_FEATURE_XNBD_SERVER_PROXY && core_is_proxy(c) && !map_is_complete(core_map(c)) && strcmp(origin_state(e->disk.origin), "up") != 0;
}

/* The kernel holds the device's mutex until it has read the table, and waits for that even when the server is killed: then
 * nobody could take the device over. So a new one has to wait for its origin. */
static void start(struct ublk_device *d)
{
	if (d->is_recovered || !may_wait(d->export))
		submit(d, start_run, start_done);
	else
		timer_set(&d->again, loop_now_ms() + DEVICE_TRY_MS);
}

static void open_done(struct job *j);

static void try_again(struct timer *t)
{
	struct ublk_device *d = container_of(t, struct ublk_device, again);

	if (d->state == OPEN)
		submit(d, open_run, open_done);
	else
		start(d);
}

static void open_done(struct job *j)
{
	struct ublk_device *d = device_of(j);

	d->busy = false;
	if (d->is_ending) {
		d->state = ENDED;
		if (d->error)
			return;
		ublk_queue_close(&d->client.queue);
		if (!d->is_recovered)
			delete(d);
		return;
	}
	if ((d->error == EBUSY || d->error == EEXIST) && (d->is_handed || loop_now_ms() - d->begun_ms <= DEVICE_BUSY_MS)) {
		timer_set(&d->again, loop_now_ms() + (d->is_handed ? HANDED_TRY_MS : DEVICE_TRY_MS));
		return;
	}
	if (d->error) {
		fail(d, d->error);
		return;
	}
	d->has_client = ublk_client_begin(&d->client, d->export, client_ended, d);
	if (!d->has_client)
		bb_simple_error_msg_and_die("out of memory");
	d->state = START;
	start(d);
}

/* ---- for the server ----------------------------------------------------------------------------------- */

void ublk_device_prepare(const char *name, const char *path)
{
	struct ublk_device *d;
	int error = devices ? 0 : ublk_probe();

	if (error == ENOENT)
		bb_simple_error_msg_and_die("the kernel has no ublk devices: modprobe ublk_drv");
	if (error == EOPNOTSUPP)
		bb_simple_error_msg_and_die("ublk devices need user copy and recovery: Linux 6.5");
	if (error)
		bb_error_msg_and_die("cannot use ublk devices: %s", strerror(error));
	d = xzalloc(sizeof(*d));
	d->name = name;
	d->path = path;
	d->index = (unsigned)ublk_index(path);
	d->again.fire = try_again;
	if (client_limits.sessions)
		client_limits.sessions++;
	d->next = devices;
	devices = d;
}

/* FNV-1a. What has no identifier gets a number that nobody else has. */
static uint64_t identify(const struct export *e)
{
	char identifier[DEVICE_IDENTIFIER_BYTES];
	const char *p = device_identify(e, 1, identifier);
	uint64_t hash = 0xcbf29ce484222325;

	if (!p && getrandom(&hash, sizeof(hash), 0) == sizeof(hash))
		return hash;
	for (; p && *p; p++)
		hash = (hash ^ (uint8_t)*p) * 0x100000001b3;
	return hash;
}

static void begin(struct ublk_device *d)
{
	d->begun_ms = loop_now_ms();
	submit(d, open_run, open_done);
}

void ublk_devices_begin(void)
{
	struct ublk_device *d;

	for (d = devices; d; d = d->next) {
		d->export = device_export(d->name, d->path);
		d->identity = identify(d->export);
		begin(d);
	}
}

bool ublk_devices_are_ready(void)
{
	const struct ublk_device *d = failed ? NULL : devices;

	while (d && (d->state >= THERE || (d->state == START && loop_now_ms() - d->begun_ms > DEVICE_SCAN_MS)))
		d = d->next;
	return !d;
}

bool ublk_devices_have_failed(void)
{
	return failed;
}

void ublk_devices_die(void)
{
	const struct ublk_device *d = failed;

	if (d->why != EBUSY && d->why != EEXIST)
		bb_error_msg_and_die("'%s' cannot be started: %s", d->path, strerror(d->why));
	bb_error_msg_and_die("'%s' is in use by process %d or a child of it: use the same image and options or another device, or delete it", d->path, d->info.pid);
}

void ublk_devices_end(bool keep)
{
	struct ublk_device *d;

	for (d = devices; d; d = d->next) {
		d->is_ending = true;
		timer_clear(&d->again);
		if (keep)
			d->state = ENDED;
		else if (d->state == START && d->busy && !d->is_recovered)
			ublk_client_end(&d->client); /* the origin may have gone since; nobody uses it yet */
		else if (!d->busy && d->state < STOP)
			end(d);
	}
}

bool ublk_devices_have_ended(void)
{
	const struct ublk_device *d = devices;

	while (d && d->state == ENDED)
		d = d->next;
	return !d;
}

/* The kernel has noticed the end of the old program's thread as it notices a death, and this one takes its devices over. */
void ublk_devices_handover(void)
{
	const struct handed_device *r;
	struct handed_device *to;
	struct ublk_device *d;

	for (d = devices; d; d = d->next) {
		if (!handover.reads) {
			to = handover_put(HANDED_DEVICE, NULL, 0);
			to->export = d->state == ENDED ? NO_EXPORT : d->export->nbd.serial;
			if (d->busy || (d->state != THERE && d->state != ENDED))
				handover.why = handover_busy;
		} else if ((r = handover_get(HANDED_DEVICE)) && (d->export = export_by_serial(r->export))) {
			export_hold(d->export);
			d->is_handed = true;
		} else {
			d->state = ENDED;
		}
		handover_number(&d->identity); /* /sys, from which it was, may have gone since */
		if (handover.reads && d->state == OPEN)
			begin(d);
	}
}
