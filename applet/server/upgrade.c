/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The live upgrade: reads another program, tries it, and becomes it. */
//config:config FEATURE_XNBD_SERVER_UPGRADE
//config:	bool "xnbd-bgctl --upgrade (13 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY || XNBD_WRAPPER || FEATURE_XNBD_SERVER_CONTROL
//config:	help
//config:	Another program replaces the one that runs, in the same process:
//config:	clients and devices notice a short pause.
#include "libbb.h"
#include "client/client.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/handover.h"
#include "reactor/pool.h"
#include "secure/relay.h"
#include "server/life.h"
#include "server/proxies.h"
#include "server/server.h"
#include "server/upgrade.h"
#include "server/upgrade_state.h"
#include "storage/snapshot.h"
#include "storage/store.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
	PROGRAM_BYTES_MAX = 64 << 20,
	TRIAL_MS = 5000, /* what is tried needs a thousandth of that */
	HANGS_MS = 2000, /* since then, it may be forever */
	SYNCS_MS = 10000, /* a sync of a disk that is well less, and so does reading the bits of one */
};

static struct {
	struct job job;
	int program_fd;
	struct memory program;
	struct export *warms; /* a proxy whose bits it will read: held, as a worker reads them now; NULL: none yet, or no more */
	bool busy; /* from the request to its refusal */
	bool read; /* the program has been, or could not be */
	bool lacks; /* ... that */
	bool is_late; /* refused meanwhile, as a disk hangs: nobody waits for it any more */
	struct timer patience; /* with the disk that is read, or with the syncs that are under way */
	uint64_t until_ms; /* ... how long; 0: it has not begun */
} up;

static const char disk_hangs[] = "a disk takes long to be read: try again";

/* ---- reading the program --------------------------------------------------------------------- */

static void no_patience(struct timer *t UNUSED_PARAM)
{
	/* it ends the wait for events */
}

static void be_patient(void)
{
	up.until_ms = loop_now_ms() + SYNCS_MS;
	up.patience.fire = no_patience;
	timer_set(&up.patience, up.until_ms);
}

static void patience_ends(void)
{
	up.until_ms = 0;
	timer_clear(&up.patience);
}

static void read_run(struct job *j UNUSED_PARAM)
{
	size_t n = up.program.bytes;

	up.lacks = !memory_new(&up.program, n) || pread(up.program_fd, up.program.map, n, 0) != (ssize_t)n;
}

static void warm_run(struct job *j UNUSED_PARAM)
{
	store_warm(&up.warms->disk);
}

/* The next proxy, until there is none. */
static void read_done(struct job *j)
{
	struct export *e = up.is_late ? NULL : up.warms ? up.warms->next : exports;

	while (e && (!ENABLE_FEATURE_XNBD_SERVER_PROXY || !e->disk.words || e->removed)) /* that: it may come to its end, whoever holds it */
		e = e->next;
	if (e)
		export_hold(e);
	if (up.warms)
		export_drop(up.warms);
	up.warms = e;
	if (e) {
		j->run = warm_run;
		be_patient();
		pool_submit(j);
		return;
	}
	close(up.program_fd);
	patience_ends();
	up.read = !up.is_late;
	if (up.is_late) {
		memory_free(&up.program);
		up.busy = up.is_late = false;
	}
}

const char *upgrade_begin(int program_fd)
{
	const char *why = NULL;
	struct stat st;

	if (up.busy)
		why = up.is_late ? disk_hangs : handover_busy;
	else if (fstat(program_fd, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_size || st.st_size > PROGRAM_BYTES_MAX)
		why = "not a program: it must be a file of at most 64 MiB";
	if (why) {
		close(program_fd);
		return why;
	}
	up.busy = true;
	up.program_fd = program_fd;
	up.program.bytes = (size_t)st.st_size;
	up.job.run = read_run;
	up.job.done = read_done;
	up.job.class = JOB_SLOW;
	be_patient();
	pool_submit(&up.job);
	return NULL;
}

/* ---- the upgrade --------------------------------------------------------------------------------- */

/* What this process does that another program could not go on with. */
static const char *refusal(void)
{
	const struct export *e;
	const struct served *s;

	if (up.lacks)
		return "the program cannot be read";
	if (server_config->one_client)
		return "a server for one client ends with it";
	if (ENABLE_FEATURE_XNBD_TLS && relays_up())
		return "clients use TLS, whose state cannot be handed over";
	if (ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT && export_config.cow_client)
		return "what clients of --cow-client have written cannot be handed over";
	if (export_config.cow)
		return "what --cow-target has written cannot be handed over";
	if ((ENABLE_FEATURE_XNBD_SERVER_SNAPSHOT && snapshot_is_busy()) || (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && !server_config->image && proxies_are_busy()))
		return handover_busy;
	/* A hook would be lost, or get our descriptors; a switch may be by a signal: nobody would ask again. */
	for_each_served(s)
		if ((ENABLE_FEATURE_XNBD_SERVER_AUTO && s->policy.hook.busy) ||
		    (ENABLE_FEATURE_XNBD_SERVER_PROXY && (core_is_switching(s->export->disk.core) || (s->export->disk.origin && origin_is_busy(s->export->disk.origin)))))
			return handover_busy;
	for (e = exports; e; e = e->next)
		if (core_has_failed(e->disk.core))
			return "a write to the disk has failed";
	return NULL;
}

/* The environment, and this in front of it. The caller frees it; NULL: no memory. */
static char **environment(char *first)
{
	unsigned n = 0;
	char **all;

	while (environ[n++])
		;
	all = malloc((n + 1) * sizeof(*all));
	if (all) {
		*all = first;
		memcpy(all + 1, environ, n * sizeof(*all));
	}
	return all;
}

/* Becomes the program; the state's descriptor is kept. Returns if it fails, with errno. Nothing but system
 * calls: also the child of vfork(2) is here. */
static void become(const struct memory *m, char **envp)
{
	(void)ioctl(m->fd, FIONCLEX);
	syscall(SYS_execveat, up.program.fd, "", server_config->argv, envp, AT_EMPTY_PATH);
}

/* Has the new program look at the state, in a process of its own. NULL, or why it is refused. */
static const char *try(const struct memory *m, char **envp)
{
	unsigned ms;
	int status = 0; /* where SIGCHLD is ignored there is none */
	pid_t pid = vfork();

	if (pid == 0) {
		become(m, envp);
		_exit(127);
	}
	if (pid < 0) /* to kill(2) that is every process of the machine */
		return strerror(errno);
	for (ms = 0; waitpid(pid, &status, WNOHANG) == 0; ms++) {
		if (ms == TRIAL_MS)
			kill(pid, SIGKILL);
		(void)poll(NULL, 0, 1);
	}
	if (m->map[m->bytes - 1] == UPGRADE_TRIED)
		return NULL;
	return WIFEXITED(status) && WEXITSTATUS(status) == 127 ? "the program cannot be run on this machine" :
								 "the program cannot go on here: it is another one, or has another version or configuration";
}

static const char *exchange(void)
{
	struct memory m;
	const char *why = "out of memory";
	char variable[sizeof(UPGRADE_VARIABLE "=") + 12];
	char **envp = environment(variable);

	if (memory_new(&m, handover.count + 1) && envp) {
		memcpy(m.map, handover.bytes, handover.count);
		snprintf(variable, sizeof(variable), UPGRADE_VARIABLE "=%d", m.fd);
		server_config->argv[0] = (char *)applet_name;
		why = try(&m, envp);
		if (!why) {
			handover_walk(FIONCLEX);
			become(&m, envp);
			why = strerror(errno);
			handover_walk(FIOCLEX);
		}
	}
	memory_free(&m);
	free(envp);
	return why;
}

/* The kernel tells an open file once that a sync has failed. Whoever waits for that goes with this program, and the next one would
 * sync again, with success: so it is waited for, and meanwhile no other begins. */
static bool wait_for_syncs(void)
{
	const struct export *e;
	bool waits = disks_are_syncing() || exports_are_closing();

	for (e = exports; e; e = e->next)
		waits |= e->disk.save.write.busy;
	if (waits && !up.until_ms)
		be_patient();
	return waits;
}

void upgrade_now(void)
{
	const char *why;
	bool waits;

	if (!up.read && up.until_ms && loop_now_ms() >= up.until_ms) {
		patience_ends();
		up.is_late = true;
		control_upgraded(disk_hangs);
	}
	if (!up.read)
		return;
	why = refusal();
	disks_hold_syncs(!why && !server.stopping_ms);
	if (server.stopping_ms) /* the next program would not know of it */
		return;
	waits = !why && wait_for_syncs();
	if (waits && loop_now_ms() < up.until_ms)
		return;
	if (waits)
		why = "the disk takes long for a sync: try again";
	if (!why && pool_hangs(HANGS_MS)) /* the kernel waits for it, and in the meantime neither program runs */
		why = "a thread has waited for a disk for seconds: nothing could end it";
	if (!why) {
		fronts_stop();
		upgrade_handover();
		why = handover.why ? handover.why : exchange();
		if (ENABLE_FEATURE_XNBD_TLS)
			psk_handover_end();
		fronts_go_on();
		free(handover.bytes);
		memset(&handover, 0, sizeof(handover));
	}
	disks_hold_syncs(false);
	patience_ends();
	memory_free(&up.program);
	up.busy = up.read = false;
	control_upgraded(why);
}
