/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-watchdog: reads a block of a device now and then. When that takes too long, or fails, a command runs.
 *
 * A read of a device that hangs cannot be interrupted, by no signal. So a child reads, and this process waits for it.
 */
//config:config XNBD_WATCHDOG
//config:	bool "xnbd-watchdog (1.9 kb)"
//config:	default y
//config:	help
//config:	Reads a block of a device now and then, and runs a command, or reboots,
//config:	when that takes too long.
//applet:IF_XNBD_WATCHDOG(APPLET_ODDNAME(xnbd-watchdog, xnbd_watchdog, BB_DIR_USR_SBIN, BB_SUID_DROP, xnbd_watchdog))
//kbuild:lib-$(CONFIG_XNBD_WATCHDOG) += xnbd_watchdog.o
//usage:#define xnbd_watchdog_trivial_usage
//usage:       "[OPTIONS] DEVICE"
//usage:#define xnbd_watchdog_full_usage "\n\n"
//usage:       "Read from DEVICE periodically; run a command when a read takes too long\n"
//usage:     "\n	-t,--timeout SECONDS	Limit for a read (10)"
//usage:     "\n	-i,--interval SECONDS	Pause between two reads (10)"
//usage:     "\n	-e,--recovery-command COMMAND	Run it then and continue (default: exit with status 1)"
//usage:     "\n	-E,--recovery-command-reboot	Reboot then"
#include "libbb.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
	SECONDS_MAX = 86400,
	BLOCK_BYTES = 4096, /* the largest block that a device of the kernel has */
};

static const char options[] ALIGN1 = "t:i:e:E";
enum {
	OPT_REBOOT = 1 << 3,
};

#if ENABLE_LONG_OPTS
static const char long_options[] ALIGN1 =
	"timeout\0" Required_argument "t"
	"interval\0" Required_argument "i"
	"recovery-command\0" Required_argument "e"
	"recovery-command-reboot\0" No_argument "E";
#endif

struct watch {
	const char *device;
	unsigned timeout_s;
	unsigned interval_s;
	const char *command; /* NULL: none */
	bool reboot;         /* instead of that */
	bool was_read;       /* once, at least */
	bool is_lost;        /* and recover() has run */
};

/* The child: ends with 0 or an errno. The device is read, not what the page cache has of it. */
static void NORETURN read_block(const char *device)
{
	static char block[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));
	int fd = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, block, sizeof(block), 0);

	_exit(n < 0 ? errno : n ? 0 : ENODATA);
}

/* Starts the child. Its end of the pipe is closed when it ends: *done can be read then. -1: errno tells. */
static pid_t reader_start(const char *device, int *done)
{
	int fd[2];
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -1;
	pid = bb_fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		read_block(device);
	}
	close(fd[1]);
	if (pid < 0)
		close(fd[0]);
	*done = fd[0];
	return pid;
}

static bool ends_within(int done, int ms)
{
	struct pollfd p = { .fd = done };
	int n;

	do
		n = poll(&p, 1, ms);
	while (n < 0 && errno == EINTR);
	return n != 0;
}

static int exit_status(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : ENOMEM; /* killed: the machine has no memory, or a person was wrong */
}

static void run(const char *command)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	pid_t pid = bb_fork();

	if (!pid) {
		execv("/bin/sh", argv);
		_exit(127);
	}
	if (pid < 0)
		bb_perror_msg("'%s' cannot be run", command);
	else
		exit_status(pid);
}

/* Once, until the device has been read again. */
static void recover(struct watch *w)
{
	if (w->is_lost)
		return;
	w->is_lost = true;
	if (w->reboot)
		reboot(RB_AUTOBOOT);
	if (!w->command)
		exit(EXIT_FAILURE);
	run(w->command);
}

/* A device that could never be read is a wrong name, and no reason to reboot; nor is what this machine lacks. */
static void judge(struct watch *w, int error)
{
	if (error == ENOMEM || error == EMFILE || error == ENFILE || error == EAGAIN) {
		bb_error_msg("no process to read with: %s", strerror(error));
		return;
	}
	if (error && !w->was_read && !w->is_lost)
		bb_error_msg_and_die("'%s' cannot be read: %s", w->device, strerror(error));
	if (error) {
		if (!w->is_lost)
			bb_error_msg("'%s' cannot be read: %s", w->device, strerror(error));
		recover(w);
		return;
	}
	if (w->is_lost)
		bb_error_msg("'%s' can be read again", w->device);
	w->was_read = true;
	w->is_lost = false;
}

static void check_device(struct watch *w)
{
	int done;
	pid_t pid = reader_start(w->device, &done);

	if (pid < 0) {
		bb_simple_perror_msg("no process to read with");
		return;
	}
	if (!ends_within(done, (int)w->timeout_s * 1000)) {
		bb_error_msg("'%s' has not answered for %u s", w->device, w->timeout_s);
		if (w->was_read || (!w->command && !w->reboot))
			recover(w);
		ends_within(done, -1);
	}
	close(done);
	judge(w, exit_status(pid));
}

int xnbd_watchdog_main(int argc, char **argv) MAIN_EXTERNALLY_VISIBLE;
int xnbd_watchdog_main(int argc UNUSED_PARAM, char **argv)
{
	struct watch w = { 0 };
	struct stat st;
	const char *timeout = "10", *interval = "10";
	unsigned opt = getopt32long(argv, options, long_options, &timeout, &interval, &w.command);

	w.timeout_s = xatou_range(timeout, 1, SECONDS_MAX);
	w.interval_s = xatou_range(interval, 1, SECONDS_MAX);
	w.reboot = opt & OPT_REBOOT;
	w.device = argv[optind];
	if (!w.device || argv[optind + 1])
		bb_simple_error_msg_and_die("give one device; try --help");
	if (w.reboot && w.command)
		bb_simple_error_msg_and_die("either a recovery command or a reboot");
	if (stat(w.device, &st) == 0 && !S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode)) /* a FIFO would never answer */
		bb_error_msg_and_die("'%s' is no block device", w.device);
	signal(SIGCHLD, SIG_DFL); /* a parent may have left it ignored: no child could be waited for */
	(void)mlockall(MCL_CURRENT | MCL_FUTURE); /* the program may be on that device */
	for (;;) {
		check_device(&w);
		(void)poll(NULL, 0, (int)w.interval_s * 1000);
	}
}
