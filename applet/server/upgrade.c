/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The exchange of the program that runs. */
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/log.h"
#include "reactor/pool.h"
#include "server/daemon.h"
#include "server/device.h"
#include "server/init.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/upgrade.h"
#include "storage/own_paths.h"
#include "storage/resident.h"
#include "storage/snapshot.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define VARIABLE "XNBD_HANDOVER" /* FD: of the state; try:FD: it is only to be looked at */
#define TRY "try:"

enum {
	READ = 1, /* the byte behind the state, when a program has looked at it: another one, which does not know what it is
		     asked, also ends in good order */
	PROGRAM_BYTES_MAX = 64 << 20,
	TRIAL_MS = 5000, /* what is tried needs a thousandth of that */
	X_MFD_EXEC = 0x10, /* linux/memfd.h, of Linux 6.3 */
};

/* Bytes in a file that is nowhere but in memory, and mapped: of a process whose memory is locked, it cannot be swapped
 * out to the disk that this process serves. */
struct memory {
	int fd; /* -1: none */
	void *map;
	size_t bytes;
};

static struct {
	struct job job;
	int program_fd;
	struct memory program;
	bool busy; /* from the request to its refusal */
	bool read; /* the program has been */
	int error; /* of job */
} up = { .program = { .fd = -1 } };

static void memory_free(struct memory *m)
{
	if (m->map)
		munmap(m->map, m->bytes);
	if (m->fd >= 0)
		close(m->fd);
	m->map = NULL;
	m->fd = -1;
}

/* False: with errno. */
static bool memory_new(struct memory *m, size_t bytes)
{
	m->bytes = bytes;
	m->map = NULL;
	m->fd = memfd_create(applet_name, MFD_CLOEXEC | X_MFD_EXEC);
	if (m->fd < 0)
		m->fd = memfd_create(applet_name, MFD_CLOEXEC);
	if (m->fd < 0 || ftruncate(m->fd, (off_t)bytes) < 0)
		return false;
	m->map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (m->map == MAP_FAILED)
		m->map = NULL;
	return m->map;
}

/* ---- reading the program --------------------------------------------------------------------- */

static void read_run(struct job *j UNUSED_PARAM)
{
	struct stat st;
	int n = 0;

	if (fstat(up.program_fd, &st) < 0 || !memory_new(&up.program, (size_t)st.st_size)) {
		up.error = errno;
		return;
	}
	while ((size_t)n < up.program.bytes) {
		ssize_t got = pread(up.program_fd, (char *)up.program.map + n, up.program.bytes - (size_t)n, n);

		if (got <= 0) {
			up.error = got ? errno : ENODATA;
			return;
		}
		n += (int)got;
	}
}

static void refuse(const char *why)
{
	memory_free(&up.program);
	up.busy = up.read = false;
	control_upgraded(why);
}

static void read_done(struct job *j UNUSED_PARAM)
{
	char why[128];

	close(up.program_fd);
	up.read = true;
	if (!up.error)
		return;
	snprintf(why, sizeof(why), "the program cannot be read: %s", strerror(up.error));
	refuse(why);
}

const char *upgrade_begin(int program_fd)
{
	const char *why = NULL;
	struct stat st;

	if (up.busy)
		why = "another program is just being tried";
	else if (fstat(program_fd, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_size || st.st_size > PROGRAM_BYTES_MAX)
		why = "this is no program: it has to be a file of at most 64 MiB";
	if (why) {
		close(program_fd);
		return why;
	}
	up.busy = true;
	up.error = 0;
	up.program_fd = program_fd;
	up.job.run = read_run;
	up.job.done = read_done;
	up.job.class = JOB_SLOW;
	pool_submit(&up.job);
	return NULL;
}

/* ---- what is handed over ------------------------------------------------------------------------ */

static void put_proxy(struct handover *h, const struct export *e)
{
	const struct origin *o = e->disk.origin;
	struct core_status s;

	core_status(e->disk.core, &s);
	handover_put_string(h, origin_host(o));
	handover_put_string(h, origin_port(o));
	handover_put_string(h, origin_export(o));
	handover_put(h, core_hold_ms(e->disk.core));
	handover_put(h, s.copy.state);
	handover_put(h, s.copy.rate_limit);
	handover_put(h, s.verify.state);
	handover_put(h, s.verify.rate_limit);
}

void upgrade_get_proxy(struct handover *h, struct export *e)
{
	char *host = handover_get_string(h), *port = handover_get_string(h), *name = handover_get_string(h);
	uint64_t hold_ms = handover_get(h);
	enum job_state copy = handover_get_number(h, JOB_FAILED);
	uint64_t copy_rate = handover_get(h);
	enum job_state verify = handover_get_number(h, JOB_FAILED);
	uint64_t verify_rate = handover_get(h);

	if (!h->trial && !h->bad) {
		struct disk *d = &e->disk;

		if (ENABLE_FEATURE_XNBD_SERVER_INIT && server_config->exports.root_storage)
			resident_files(d);
		d->origin = origin_new(d, host ? host : "", port ? port : "", name ? name : "", NULL, NULL);
		if (map_is_complete(core_map(d->core)))
			origin_start(d->origin);
		else if (!d->switched)
			origin_resume(d->origin);
		core_hold(d->core, hold_ms);
		if (copy == JOB_RUNNING || copy == JOB_PAUSED)
			core_job_start(d->core, 0, copy_rate);
		if (copy == JOB_PAUSED)
			core_job_pause(d->core);
		if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && verify == JOB_RUNNING)
			core_verify(d->core, verify_rate);
	}
	free(host);
	free(port);
	free(name);
}

void upgrade_get_process(struct handover *h)
{
	paths_get(h);
	daemon_get(h);
	log_get(h);
	if (ENABLE_FEATURE_XNBD_SERVER_INIT)
		init_get(h);
	if (ENABLE_FEATURE_XNBD_SERVER_AUTO)
		policy_get(h);
	listen_get(h);
}

void upgrade_get_clients(struct handover *h, struct export *e)
{
	sessions_get(h);
	control_get(h, e);
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE)
		devices_get(h, server_config->connections);
	h->bad |= handover_get(h) != HANDOVER_VERSION || h->at != h->count;
	if (h->bad)
		bb_simple_error_msg_and_die("what another program has handed over cannot be read");
	if (h->trial)
		h->bytes[h->count] = READ;
	else
		exports_got();
	munmap(h->bytes, h->count + 1);
}

/* NULL, or why not now. */
static const char *put_all(struct handover *h, const struct export *e)
{
	const char *why;

	handover_put(h, HANDOVER_VERSION);
	paths_put(h);
	daemon_put(h);
	log_put(h);
	if (ENABLE_FEATURE_XNBD_SERVER_INIT)
		init_put(h);
	if (ENABLE_FEATURE_XNBD_SERVER_AUTO)
		policy_put(h);
	listen_put(h);
	why = exports_put(h);
	if (why)
		return why;
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && e && e->disk.words)
		put_proxy(h, e);
	sessions_put(h);
	why = control_put(h);
	if (!why && ENABLE_FEATURE_XNBD_SERVER_DEVICE)
		why = devices_put(h);
	handover_put(h, HANDOVER_VERSION);
	return !why && h->bad ? "out of memory" : why;
}

/* ---- the exchange -------------------------------------------------------------------------------- */

/* What this process does that another program could not go on with. */
static const char *refusal(const struct export *e)
{
	if (server_config->one_client)
		return "a server of one client ends with it";
	if (ENABLE_FEATURE_XNBD_SERVER_SNAPSHOT && snapshot_is_busy())
		return "a snapshot is not complete: try again";
	if (ENABLE_FEATURE_XNBD_SERVER_AUTO && init_hook_is_busy()) /* it would be lost, or get our descriptors */
		return "the hook is just being begun: try again";
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && server_config->record && e && core_is_recording(e->disk.core))
		return "a boot trace is being recorded, until the switch";
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && e && core_is_switching(e->disk.core)) /* by a signal: nobody would ask again */
		return "the switch is not done yet: try again";
	for (e = exports; e; e = e->next)
		if (core_has_failed(e->disk.core))
			return "a write to the disk has failed: what is in memory may be nowhere else";
	return NULL;
}

/* `first`, and all but the first `skip` of these. The caller frees it; NULL: no memory. */
static char **strings(char *first, char **rest, unsigned skip)
{
	unsigned n = 0;
	char **all;

	while (rest[n])
		n++;
	all = malloc((n + 2) * sizeof(*all));
	if (!all)
		return NULL;
	all[0] = first;
	memcpy(all + 1, rest + skip, (n + 1 - skip) * sizeof(*all));
	return all;
}

/* Becomes the program; the state's descriptor is kept. Returns if it fails, with errno. Nothing but system
 * calls: also the child of vfork(2) is here. */
static void become(int state_fd, char **argv, char **envp)
{
	(void)ioctl(state_fd, FIONCLEX);
	syscall(SYS_execveat, up.program.fd, "", argv, envp, AT_EMPTY_PATH);
}

/* Has the new program look at the state, in a process of its own. NULL, or why it is refused. */
static const char *try(int state_fd, char **argv, char **envp)
{
	unsigned ms;
	int status = 0; /* where SIGCHLD is ignored there is none: then READ alone tells */
	pid_t pid;

	pid = vfork();
	if (pid == 0) {
		become(state_fd, argv, envp);
		_exit(127);
	}
	if (pid < 0)
		return "the program cannot be tried: no memory";
	for (ms = 0; waitpid(pid, &status, WNOHANG) == 0; ms++) {
		if (ms == TRIAL_MS)
			kill(pid, SIGKILL);
		(void)poll(NULL, 0, 1);
	}
	if (status == 0)
		return NULL;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return "the program cannot be run on this machine";
	return WIFEXITED(status) ? "the program does not take over what this one does: it is of another version, or another configuration" :
				   "the program was tried, and crashed";
}

static const char *exchange(const struct handover *h)
{
	struct memory m = { .fd = -1 };
	const char *why = "out of memory";
	char state[sizeof(VARIABLE "=" TRY) + 12];
	char **argv = strings((char *)applet_name, server_config->argv, 1);
	char **envp = strings(state, environ, 0);

	if (argv && envp && memory_new(&m, h->count + 1)) {
		memcpy(m.map, h->bytes, h->count); /* behind it is a zero */
		snprintf(state, sizeof(state), VARIABLE "=" TRY "%d", m.fd);
		why = try(m.fd, argv, envp);
		if (!why && ((uint8_t *)m.map)[h->count] != READ)
			why = "this is another program";
		if (!why) {
			snprintf(state, sizeof(state), VARIABLE "=%d", m.fd);
			handover_keep_fds(h, true);
			become(m.fd, argv, envp);
			why = strerror(errno);
			handover_keep_fds(h, false);
		}
	}
	memory_free(&m);
	free(argv);
	free(envp);
	return why;
}

void upgrade_now(struct export *e)
{
	struct handover h = { 0 };
	const char *why;

	if (!up.read)
		return;
	why = refusal(e);
	if (!why) {
		fronts_stop();
		why = put_all(&h, e);
		if (!why)
			why = exchange(&h);
		fronts_go_on();
		handover_free(&h);
	}
	refuse(why);
}

/* ---- at the start -------------------------------------------------------------------------------- */

bool upgrade_found(struct handover *h)
{
	char *text = getenv(VARIABLE);
	struct stat st;
	uint64_t version;
	int fd;

	if (!text || !*text)
		return false;
	h->trial = strncmp(text, TRY, sizeof(TRY) - 1) == 0;
	fd = (int)xatou_range(text + (h->trial ? sizeof(TRY) - 1 : 0), 0, INT_MAX);
	*text = '\0'; /* who is called by this process does not get it: unsetenv(3) is 0.2 KB of libc */
	if (fstat(fd, &st) < 0)
		bb_perror_msg_and_die(VARIABLE);
	h->count = (size_t)st.st_size - 1;
	h->bytes = st.st_size ? mmap(NULL, h->count + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
	if (h->bytes == MAP_FAILED)
		bb_perror_msg_and_die(VARIABLE);
	close(fd);
	version = handover_get(h);
	if (version != HANDOVER_VERSION)
		bb_error_msg_and_die("the state of version %u that is handed over is none of this program: it knows version %u",
				     (unsigned)version, HANDOVER_VERSION);
	control_upgrade = upgrade_begin;
	return true;
}
