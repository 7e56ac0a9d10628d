/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The queue of messages, and the thread that writes them. */
//config:config FEATURE_XNBD_SERVER_SYSLOG
//config:	bool "--syslog (450 bytes)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Messages go to syslogd, or to the kernel's log when there is none.
#include "libbb.h"
#include "reactor/lock.h"
#include "reactor/log.h"
#include "reactor/notify.h"
#include "reactor/pool.h"

#include <poll.h>
#include <sys/un.h>
#include <syslog.h> /* of it, the numbers only */

enum {
	ROOM_BYTES = 16 << 10,  /* of lines that wait; further ones are lost, and counted */
	LINE_BYTES = 1024 + 32, /* the longest message, and before it what syslogd is told, or a date */
	DATE_BYTES = sizeof("2026-11-30T13:41:07Z "),
	STACK_BYTES = 16 << 10,
	END_MS = 500,
	NOTIFY = '\1',          /* begins what is for the service manager */
};

static struct mutex lock;
static struct condition wake;
/* Under the lock. No memory is allocated: with --root-storage there might be none. */
static char room[ROOM_BYTES]; /* strings, one behind the other */
static unsigned used;
static bool writing;
static uint64_t lost;

static bool to_syslog;
static int kmsg_fd = -1;
static bool dated; /* syslogd, the journal and a terminal know when a line came, a file does not */

/* Writes the time, of UTC, and returns its length; 0: lines have none. Of libc this would be twice as large. */
static size_t date_put(char *to)
{
	uint64_t seconds = (uint64_t)time(NULL);
	unsigned days = (unsigned)(seconds / 86400), s = (unsigned)(seconds % 86400), year = 1970, month = 1, n;

	if (!ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE || !dated)
		return 0;
	for (; days >= (n = year % 4 ? 365 : 366); year++) /* 2100 is far */
		days -= n;
	for (; days >= (n = month == 2 ? (year % 4 ? 28 : 29) : 30 + ((month + month / 8) & 1)); month++)
		days -= n;
	return (size_t)snprintf(to, DATE_BYTES, "%u-%02u-%02uT%02u:%02u:%02uZ ", year, month, days + 1, s / 3600, s / 60 % 60, s % 60);
}

/* n bytes without a NUL. */
static void line_put(const char *line, size_t n)
{
	mutex_lock(&lock);
	if (used + DATE_BYTES + n + 1 > ROOM_BYTES) {
		lost++;
	} else {
		if (*line != NOTIFY)
			used += (unsigned)date_put(room + used);
		memcpy(room + used, line, n);
		used += (unsigned)n;
		room[used++] = '\0';
		condition_signal(&wake);
	}
	mutex_unlock(&lock);
}

/* As syslog(3) would, without its date, which the other side knows. */
static bool syslog_write(const char *line, size_t n)
{
	static const struct sockaddr_un log = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t sent = sendto(fd, line, n, MSG_NOSIGNAL, (const struct sockaddr *)&log, sizeof(log));

	close(fd);
	return sent >= 0 || full_write(kmsg_fd, line, n) == (ssize_t)n;
}

/* "APPLET: TEXT\n". False: it could not be written. May block forever. */
static bool line_write(const char *line)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
	size_t n = strlen(line);
	char text[LINE_BYTES];

	if (ENABLE_FEATURE_XNBD_SERVER_INIT && *line == NOTIFY) {
		notify(line + 1);
		return true;
	}
	if (ENABLE_FEATURE_XNBD_SERVER_SYSLOG && to_syslog) {
		n = (size_t)snprintf(text, sizeof(text), "<%u>%s[%u]%.*s", LOG_DAEMON | LOG_ERR, applet_name, (unsigned)getpid(),
				     (int)(n - 1 - strlen(applet_name)), line + strlen(applet_name));
		return syslog_write(text, n);
	}
	(void)poll(&p, 1, -1); /* somebody else may have made it one that does not block */
	return full_write(STDERR_FILENO, line, n) == (ssize_t)n;
}

/* Takes the first waiting line; if there is none and tell_lost is set, one about messages lost
 * since the last such line. False: there is nothing to write. Under the lock. */
static bool line_pop(char *line, bool tell_lost)
{
	static uint64_t told;
	size_t n;

	if (used) {
		n = strlen(room) + 1;
		memcpy(line, room, n);
		used -= (unsigned)n;
		memmove(room, room + n, used);
	} else if (tell_lost && lost != told) {
		snprintf(line + date_put(line), LINE_BYTES - DATE_BYTES, "%s: %llu messages were lost\n", applet_name, (unsigned long long)(lost - told));
		told = lost;
	} else {
		return false;
	}
	return true;
}

static void *writer(void *arg)
{
	char line[LINE_BYTES];
	bool well = false;

	mutex_lock(&lock);
	for (;;) {
		writing = line_pop(line, well);
		if (!writing) {
			condition_wait(&wake, &lock);
			continue;
		}
		mutex_unlock(&lock);
		well = line_write(line);
		mutex_lock(&lock);
		lost += !well;
	}
	return arg;
}

/* Of the process: waits until everything has been written, but not for longer than a moment. */
void log_end(void)
{
	unsigned ms;
	bool busy = true;

	for (ms = 0; busy && ms < END_MS; ms += 5) {
		mutex_lock(&lock);
		busy = used || writing;
		mutex_unlock(&lock);
		if (busy)
			(void)poll(NULL, 0, 5);
	}
}

void log_begin(bool syslog, bool file)
{
	/* The kernel's log is opened at once: a server that has outlived its initramfs finds no
	 * path any more. */
	if (ENABLE_FEATURE_XNBD_SERVER_SYSLOG && syslog && kmsg_fd < 0)
		kmsg_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NONBLOCK);
	to_syslog = syslog;
	dated = file && !syslog;
	if (!thread_start(writer, NULL, STACK_BYTES))
		bb_simple_perror_msg_and_die("cannot start a thread");
	bb_message_out = line_put;
}

void log_notify(const char *state)
{
	char line[32];

	line_put(line, (size_t)snprintf(line, sizeof(line), "%c%s", NOTIFY, state));
}

uint64_t log_lost(void)
{
	uint64_t n;

	mutex_lock(&lock);
	n = lost;
	mutex_unlock(&lock);
	return n;
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void log_handover(void)
{
	handover_fd(&kmsg_fd);
	mutex_lock(&lock);
	if (!handover.reads) {
		handover_put(HANDED_TEXT, room, used);
	} else if (handover_get(HANDED_TEXT) && handover.more_bytes && handover.more_bytes <= ROOM_BYTES) {
		used = (unsigned)handover.more_bytes;
		memcpy(room, handover.more, used);
		room[used - 1] = '\0'; /* as it was */
	}
	mutex_unlock(&lock);
}
#endif
