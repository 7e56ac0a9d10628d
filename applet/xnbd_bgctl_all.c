/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-bgctl --all: one command for all proxies that the database of an xnbd-wrapper names. Each has a process of its
 * own, which does what xnbd-bgctl does for one: so all copies run at once, and one that fails or hangs does not affect
 * the others.
 *
 * The one file of xnbd-bgctl that is not for BusyBox: it shares the parser with the wrapper.
 */
//kbuild:lib-$(CONFIG_FEATURE_XNBD_BGCTL_ALL) += xnbd_bgctl_all.o
#include "libbb.h"
#include "xnbd_bgctl.h"
#include "server/database_text.h"

#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum {
	AT_ONCE_MAX = 256,   /* processes: a file may name 10,000 proxies */
	LABEL_BYTES = 100,   /* of a name that is shown, */
	BAR_LABEL_BYTES = 20, /* ... and beside a bar */
	BAR_COLUMNS = 72,    /* a bar and what stands behind it */
};

struct disk {
	char label[LABEL_BYTES + 8];
	char *control[2]; /* its socket, as an argument */
	const char *kept; /* why it is not served, as the database has it; NULL: it does not say so */
	pid_t pid;
	struct disk *next;
};

static struct {
	struct database_image *images; /* what the texts of disks are of */
	struct disk *disks;
	unsigned count, running;
	int status;
} all;

/* Whether a terminal might obey *at, a byte of text: one of ASCII's, or of U+0080 to U+009F in UTF-8. */
static bool is_control(const char *text, const char *at)
{
	const unsigned char *b = (const unsigned char *)at;

	return *b < ' ' || *b == 0x7f || (*b == 0xc2 && b[1] >> 5 == 4) || (at > text && b[-1] == 0xc2 && *b >> 5 == 4);
}

/* name, with %XX instead of that. What has no room is cut. */
static void make_label(char *to, const char *name)
{
	const char *at;
	unsigned n = 0;

	for (at = name; *at && n < LABEL_BYTES; at++)
		n += (unsigned)snprintf(to + n, 4, is_control(name, at) || *at == '%' ? "%%%02x" : "%c", (unsigned char)*at);
}

/* Of what messages have as it is. */
static bool is_showable(const char *text)
{
	const char *at = text;

	while (*at && !is_control(text, at))
		at++;
	return !*at;
}

static void read_disks(const char *path)
{
	struct disk **last = &all.disks;
	const struct database_image *i;
	size_t n;
	char *text;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		bb_perror_msg_and_die("cannot open '%s'", path);
	text = database_xread(fd, path, &n);
	close(fd);
	all.images = database_xparse(text, n, path);
	for (i = all.images; i; i = i->next) {
		struct disk *d;

		if (i->field[DATABASE_MODE][0] != 'p')
			continue;
		d = xzalloc(sizeof(*d));
		make_label(d->label, i->name);
		d->control[0] = (char *)i->field[DATABASE_CONTROL];
		if (!is_showable(d->control[0])) {
			bb_error_msg("%s: the path of its control socket has control characters", d->label);
			all.status = EXIT_FAILURE;
			free(d);
			continue;
		}
		if (i->field[DATABASE_KEPT] && is_showable(i->field[DATABASE_KEPT]))
			d->kept = i->field[DATABASE_KEPT];
		*last = d;
		last = &d->next;
		all.count++;
	}
}

/* ---- the terminal ------------------------------------------------------------------------------- */

/* A message stays in the row of its bar, as much of it as there is room for. */
static void put_in_row(const char *line, size_t n)
{
	size_t room = (size_t)get_terminal_width(STDERR_FILENO) - 1;
	char text[1100];
	int bytes = (int)(n - 1 < room ? n - 1 : room); /* without its end */

	bytes = snprintf(text, sizeof(text), "\r\033[%uA%.*s\033[K\r\033[%uB", bgctl_row.above, bytes, line, bgctl_row.above);
	full_write(STDERR_FILENO, text, (size_t)bytes);
}

/* Whether each disk gets a row. */
static bool make_rows(void)
{
	struct winsize w;
	struct disk *d;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col < BAR_COLUMNS || w.ws_row <= all.count)
		return false;
	for (d = all.disks; d; d = d->next) {
		int width = (int)strlen(d->label);

		full_write(STDERR_FILENO, "\n", 1);
		if (width > BAR_LABEL_BYTES)
			width = BAR_LABEL_BYTES;
		if (width > bgctl_row.width)
			bgctl_row.width = width;
	}
	return true;
}

/* ---- the processes --------------------------------------------------------------------------------- */

static void reap(void)
{
	struct disk *d = all.disks;
	int status = 0;
	pid_t pid = wait(&status);

	while (d && d->pid != pid)
		d = d->next;
	if (!d)
		return; /* a child of whoever became this process */
	d->pid = 0;
	all.running--;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return;
	if (WIFSIGNALED(status))
		bb_error_msg("%s: ended by signal %u", d->label, (unsigned)WTERMSIG(status));
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_PARTIAL && !all.status)
		all.status = EXIT_PARTIAL;
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_PARTIAL)
		all.status = EXIT_FAILURE;
}

/* In the process of d. above: so many rows is its own above the cursor. parent: who has asked for it. */
static char **become(struct disk *d, unsigned above, pid_t parent)
{
	size_t n = strlen(d->label);

	prctl(PR_SET_PDEATHSIG, SIGTERM); /* a copy ends with who has asked for it */
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	applet_name = xasprintf("%s: %s", applet_name, d->label);
	if (n > BAR_LABEL_BYTES)
		for (n = BAR_LABEL_BYTES; (d->label[n] & 0xc0) == 0x80;)
			n--;
	d->label[n] = '\0';
	bgctl_row.name = d->label;
	bgctl_row.above = above;
	bgctl_row.kept = d->kept;
	if (above)
		bb_message_out = put_in_row;
	return d->control;
}

char **bgctl_all(unsigned opt, const char *dbpath)
{
	/* What is printed comes one after the other. */
	unsigned most = opt & OPT_QUERY ? 1 : AT_ONCE_MAX;
	pid_t parent = getpid();
	unsigned above;
	struct disk *d;

	signal(SIGCHLD, SIG_DFL); /* ignored, it would take the exit statuses away */
	read_disks(dbpath);
	above = opt & OPT_PROGRESS && make_rows() ? all.count : 0;
	for (d = all.disks; d; d = d->next) {
		if (all.running == most)
			reap();
		if (opt & OPT_QUERY) {
			bgctl_print("export ", 7);
			bgctl_print(d->label, strlen(d->label));
			bgctl_print("\n", 1);
		}
		d->pid = bb_fork();
		if (!d->pid)
			return become(d, above, parent);
		if (above)
			above--;
		if (d->pid < 0) {
			bb_perror_msg("%s: fork", d->label);
			all.status = EXIT_FAILURE;
		} else {
			all.running++;
		}
	}
	while (all.running)
		reap();
	exit(all.status);
}
