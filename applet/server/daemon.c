/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A server in the background: its parent, pid file and log. */
//config:config FEATURE_XNBD_SERVER_DAEMONIZE
//config:	bool "--daemonize, --pidfile and --logpath (3.8 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Going to the background, when nothing else does that.
//config:
//config:config FEATURE_XNBD_SERVER_RESTART
//config:	bool "--restart (2.0 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_DAEMONIZE
//config:	help
//config:	Starts a daemon again that was killed: for a server of the root file
//config:	system, which nothing that is on that could start.
#include "libbb.h"
#include "reactor/log.h"
#include "reactor/pool.h"
#include "server/daemon.h"
#include "server/init.h"
#include "server/server.h"
#include "storage/own_paths.h"
#include "storage/paths.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { RESTART_MS = 1000 }; /* one that dies at once does so once a second */

static int pid_fd = -1;
static int ready_fd = -1; /* --daemonize: tells the parent */
static int keeper_fd = -1; /* --restart: the same, from then on: tells the keeper of an end that has been asked for */
static int child_fd = -1; /* a parent's end of that */
static unsigned killed_by; /* the signal that has ended the server before this one; 0: it is the first */
static int log_fd = -1;   /* --logpath */

/* The log may have been renamed, and its file system may hang. */
static struct {
	struct repeated_job reopen;
	char *path; /* NULL: messages do not go to a file */
} log_file;

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0644);

	if (fd < 0 && errno != EEXIST)
		bb_perror_msg_and_die("cannot open '%s'", path);
	return fd;
}

void daemon_open_log(const char *path)
{
	log_fd = open_or_die(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
	if (log_fd >= 0)
		path_own(NULL, path, true);
	else
		log_fd = open_or_die(path, O_WRONLY | O_CREAT | O_APPEND);
	log_file.path = xpath_absolute(path);
	if (ENABLE_FEATURE_XNBD_SERVER_RESTART && killed_by) /* nobody else would see why it fails */
		dup2(log_fd, STDERR_FILENO);
}

/* The lock on the pid file is held as long as this process lives: a file that a dead server has
 * left is taken over; that of a running server is neither emptied nor removed. */
void daemon_open_pidfile(const char *path)
{
	struct stat st, there;

	do {
		close(pid_fd);
		pid_fd = open_or_die(path, O_RDWR | O_CREAT);
		if (fstat(pid_fd, &st) < 0 || !S_ISREG(st.st_mode))
			bb_error_msg_and_die("'%s' is not a regular file", path);
		if (flock(pid_fd, LOCK_EX | LOCK_NB) < 0)
			bb_perror_msg_and_die("'%s' is the pid file of another server: cannot lock it", path);
		/* Else the other one has just ended, and removed what we have opened. */
	} while (stat(path, &there) < 0 || !is_same_file(&there, &st));
	path_own(NULL, path, false);
}

void daemon_write_pidfile(const char *path)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u\n", (unsigned)getpid());

	if (ftruncate(pid_fd, 0) < 0 || full_write(pid_fd, text, (size_t)n) != n)
		bb_perror_msg_and_die("cannot write '%s'", path);
}

/* Returns 0 in the child. In the parent: the child's process ID, when it is ready or has ended; -1: there is no child. */
static pid_t child_begin(bool *ready)
{
	int fd[2];
	char byte;
	pid_t pid;

	*ready = false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0) /* a pipe, but inetd.c has this one */
		return -1;
	pid = bb_fork();
	if (pid == 0) {
		close(ready_fd);
		ready_fd = fd[1];
	}
	close(fd[pid != 0]);
	if (pid == 0)
		return 0;
	*ready = pid > 0 && safe_read(fd[0], &byte, 1) == 1;
	child_fd = fd[0];
	return pid;
}

/* -1: there is no child. */
static int child_wait(pid_t pid)
{
	int status = EXIT_FAILURE << 8;

	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static void null_stdio(bool log_to_stderr)
{
	null_fd(STDIN_FILENO);
	null_fd(STDOUT_FILENO);
	if (!log_to_stderr)
		null_fd(STDERR_FILENO);
}

#if ENABLE_FEATURE_XNBD_SERVER_RESTART
/* What is said at a start that fails. */
static void keeper_ready(void)
{
	int kmsg = server_config->syslog ? open("/dev/kmsg", O_WRONLY | O_CLOEXEC) : -1;

	null_stdio(kmsg >= 0);
	if (kmsg >= 0) {
		dup2(kmsg, STDERR_FILENO);
		close(kmsg);
	}
	safe_write(ready_fd, "", 1);
	close(ready_fd);
	ready_fd = -1;
}

/* The root directory of an initramfs is empty when the system has another one, which process 1 has. All that is looked
 * up for that are directories in memory: those of /proc, and those that something is mounted on. */
static void root_follow(int proc, int here)
{
	if (syscall(SYS_fchdir, proc) < 0 || chroot("1/root") < 0) /* fchdir(2) of libc is larger */
		bb_simple_perror_msg("the root directory of process 1");
	syscall(SYS_fchdir, here);
}

/* Whether a server is not started again: the first start has failed, it ended by itself, was told to (and perhaps killed,
 * when its end took too long), or is not needed any more (EXIT STATUS in the manual). */
static bool is_over(bool ready, int status)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	char byte;

	return ready ? code >= 0 || recv(child_fd, &byte, 1, MSG_DONTWAIT) == 1 : !killed_by || code == EXIT_SUCCESS || code == 3;
}

/* The keeper: the parent of each server, which has nothing open but what it was started with and directories in memory, and
 * needs nothing that could be on the disk. Returns in the servers. */
static void keep(void)
{
	bool locks = ENABLE_FEATURE_XNBD_SERVER_INIT && server_config->exports.root_storage, ready = false;
	int proc = -1, here = -1, status;
	sigset_t set;
	pid_t pid;

	if (locks) {
		init_root_process();
		proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	/* Whoever ends all processes means the server, whose end is this one's. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGPIPE); /* whoever has started it may be gone when it is ready */
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGCHLD, SIG_DFL); /* a parent may have left it ignored: no child could be waited for */
	if (ENABLE_FEATURE_XNBD_TLS)
		psk_lock(server_config->origin.psk);
	for (;;) {
		pid = child_begin(&ready);
		if (pid == 0)
			break;
		if (ready && ready_fd >= 0)
			keeper_ready();
		if (pid < 0 && !killed_by)
			bb_simple_perror_msg_and_die("fork");
		status = child_wait(pid);
		if (is_over(ready, status))
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
		close(child_fd);
		child_fd = -1;
		if (ready)
			killed_by = (unsigned)WTERMSIG(status);
		(void)poll(NULL, 0, RESTART_MS);
	}
	if (locks && killed_by)
		root_follow(proc, here);
	close(proc);
	close(here);
}
#endif

bool daemonize(void)
{
	bool ready;
	pid_t pid = child_begin(&ready);

	if (pid < 0)
		bb_simple_perror_msg_and_die("fork");
	if (pid) {
		int status = ready ? 0 : child_wait(pid);

		_exit(ready ? 0 : WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
	}
	setsid();
#if ENABLE_FEATURE_XNBD_SERVER_RESTART
	if (server_config->restart)
		keep();
#endif
	return killed_by;
}

void daemon_ready(void)
{
	if (ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE && log_fd >= 0) {
		dup2(log_fd, STDERR_FILENO);
		close(log_fd);
	}
	log_begin(server_config->syslog, server_config->logpath);
	if (ENABLE_FEATURE_XNBD_SERVER_INIT)
		log_notify("READY=1");
	if (!ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE)
		return;
	if (ready_fd < 0)
		return;
	null_stdio(server_config->logpath);
	if (chdir("/") < 0)
		bb_simple_perror_msg("chdir");
	safe_write(ready_fd, "", 1);
	if (ENABLE_FEATURE_XNBD_SERVER_RESTART && server_config->restart)
		keeper_fd = ready_fd;
	else
		close(ready_fd);
	if (ENABLE_FEATURE_XNBD_SERVER_RESTART && killed_by)
		bb_error_msg("the server was ended by signal %u: started again", killed_by);
}

/* At each signal, and never waits: the keeper reads when the server is gone, and one byte is enough. */
void daemon_ends(void)
{
	send(keeper_fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- the log is opened anew ------------------------------------------------------------------ */

/* On a worker: dup2(2) closes the old log, and that may block like anything else. */
static void log_open_run(struct job *j UNUSED_PARAM)
{
	int fd = open(log_file.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0644);

	if (fd < 0) {
		bb_perror_msg("cannot open '%s'", log_file.path);
		return;
	}
	dup2(fd, STDERR_FILENO);
	close(fd);
}

static void log_open_done(struct job *j UNUSED_PARAM)
{
	if (repeated_end(&log_file.reopen))
		daemon_reopen_log();
}

void daemon_reopen_log(void)
{
	if (log_file.path && repeated_begin(&log_file.reopen))
		repeated_submit(&log_file.reopen, JOB_SLOW, log_open_run, log_open_done);
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void daemon_handover(void)
{
	handover_fd(&pid_fd);
	handover_fd(&keeper_fd);
	handover_text(&log_file.path);
}
#endif
