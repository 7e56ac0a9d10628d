/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One line on stderr. */
#include "libbb.h"

#include <sys/un.h>
#include <syslog.h> /* of it, the numbers only */

const char *applet_name = "xnbdbox";
uint8_t xfunc_error_retval = 1;

enum {
	LINE_BYTES = 1024, /* what is longer is cut */
};

void xfunc_die(void)
{
	exit(xfunc_error_retval);
}

static bool log_to_syslog;
static int kmsg_fd = -1;

/* The kernel's log is opened at once: a server that has outlived its initramfs finds no
 * path any more. */
void bb_log_to_syslog(void)
{
	kmsg_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NONBLOCK);
	log_to_syslog = true;
}

/* As syslog(3) would, without its date, which the other side knows. Never waits. */
static void to_syslog(const char *line, size_t n)
{
	static const struct sockaddr_un log = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t sent = sendto(fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&log, sizeof(log));

	close(fd);
	if (sent < 0)
		full_write(kmsg_fd, line, n);
}

/* error: an errno, or 0 for none. */
static void message(const char *format, va_list args, int error)
{
	bool syslog = ENABLE_FEATURE_XNBD_SERVER_SYSLOG && log_to_syslog;
	char line[LINE_BYTES];
	size_t n;

	if (syslog)
		snprintf(line, LINE_BYTES - 1, "<%u>%s[%u]: ", LOG_DAEMON | LOG_ERR, applet_name, (unsigned)getpid());
	else
		snprintf(line, LINE_BYTES - 1, "%s: ", applet_name);
	n = strlen(line);
	vsnprintf(line + n, LINE_BYTES - 1 - n, format, args);
	if (error) {
		n = strlen(line);
		snprintf(line + n, LINE_BYTES - 1 - n, ": %s", strerror(error));
	}
	n = strlen(line);
	if (syslog) {
		to_syslog(line, n);
		return;
	}
	line[n] = '\n';
	full_write(STDERR_FILENO, line, n + 1);
}

void bb_error_msg(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	message(format, args, 0);
	va_end(args);
	errno = error;
}

void bb_perror_msg(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	message(format, args, error);
	va_end(args);
	errno = error;
}

void bb_error_msg_and_die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	message(format, args, 0);
	va_end(args);
	xfunc_die();
}

void bb_perror_msg_and_die(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	message(format, args, error);
	va_end(args);
	xfunc_die();
}

void bb_simple_error_msg(const char *text)
{
	bb_error_msg("%s", text);
}

void bb_simple_perror_msg(const char *text)
{
	bb_perror_msg("%s", text);
}

void bb_simple_error_msg_and_die(const char *text)
{
	bb_error_msg_and_die("%s", text);
}

void bb_simple_perror_msg_and_die(const char *text)
{
	bb_perror_msg_and_die("%s", text);
}
