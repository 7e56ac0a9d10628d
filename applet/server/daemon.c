/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A server in the background: its parent, pid file and log. */
//config:config FEATURE_XNBD_SERVER_DAEMONIZE
//config:	bool "--daemonize, --pidfile and --logpath (1.7 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Going to the background, when nothing else does that.
#include "libbb.h"
#include "reactor/log.h"
#include "reactor/pool.h"
#include "server/daemon.h"
#include "server/server.h"
#include "storage/own_paths.h"
#include "storage/paths.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int pid_fd = -1;
static int ready_fd = -1; /* --daemonize: tells the parent */
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

void daemonize(void)
{
	int fd[2], status;
	char byte;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0) /* a pipe, but inetd.c has this one */
		bb_simple_perror_msg_and_die("socketpair");
	pid = xfork();
	if (pid == 0) {
		close(fd[0]);
		ready_fd = fd[1];
		setsid();
		return;
	}
	close(fd[1]);
	if (safe_read(fd[0], &byte, 1) == 1)
		_exit(0);
	status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
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
	null_fd(STDIN_FILENO);
	null_fd(STDOUT_FILENO);
	if (!server_config->logpath)
		null_fd(STDERR_FILENO);
	if (chdir("/") < 0)
		bb_simple_perror_msg("chdir");
	safe_write(ready_fd, "", 1);
	close(ready_fd);
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
	handover_text(&log_file.path);
}
#endif
