/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xnbd-bgctl: drives a running proxy through its control socket. The proxy does the
 * work; this asks, and shows. The text protocol is told in xnbd-server(8).
 *
 * Builds also inside a BusyBox tree: libbb.h is all it knows.
 */
//config:config XNBD_BGCTL
//config:	bool "xnbd-bgctl"
//config:	default y
//config:	help
//config:	Drives a running xnbd-server proxy through its control socket: asks for
//config:	its state, copies all blocks to the local cache, switches the proxy to
//config:	a plain server of the copy. 4.4 KB, with all that follows.
//config:
//config:config FEATURE_XNBD_BGCTL_CACHE_ALL2
//config:	bool "--cache-all2"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Copies in the background of the proxy, and returns at once: 0.1 KB.
//config:
//config:config FEATURE_XNBD_BGCTL_PROGRESS
//config:	bool "--progress"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	A bar, or a line now and then, while blocks are copied: 1.4 KB.
//config:
//config:config FEATURE_XNBD_BGCTL_RECONNECT
//config:	bool "--reconnect"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Gives the proxy another address of its origin: 0.7 KB.
//config:
//config:config FEATURE_XNBD_BGCTL_EXPORTNAME
//config:	bool "--exportname"
//config:	default y
//config:	depends on FEATURE_XNBD_BGCTL_RECONNECT
//config:	help
//config:	--reconnect can ask for an export by name: 0.1 KB.
//applet:IF_XNBD_BGCTL(APPLET_ODDNAME(xnbd-bgctl, xnbd_bgctl, BB_DIR_USR_BIN, BB_SUID_DROP, xnbd_bgctl))
//kbuild:lib-$(CONFIG_XNBD_BGCTL) += xnbd_bgctl.o
//usage:#define xnbd_bgctl_trivial_usage
//usage:	IF_LONG_OPTS("--query|--switch|--cache-all" IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("|--cache-all2"))
//usage:	IF_NOT_LONG_OPTS("-q|-s|-c" IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("|-C")) " [OPTIONS] CONTROL_SOCKET"
//usage:	IF_FEATURE_XNBD_BGCTL_RECONNECT("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--reconnect") IF_NOT_LONG_OPTS("-r") " [OPTIONS] CONTROL_SOCKET REMOTE_HOST REMOTE_PORT")
//usage:#define xnbd_bgctl_full_usage "\n\n"
//usage:       "Drive a running xnbd-server proxy\n"
//usage:     "\n	-q,--query		Print its state, 'key value' lines"
//usage:     "\n	-c,--cache-all		Copy all missing blocks; return when done"
//usage:	IF_FEATURE_XNBD_BGCTL_CACHE_ALL2(
//usage:     "\n	-C,--cache-all2		Same, but return at once"
//usage:	)
//usage:     "\n	-s,--switch		Go on without the remote server"
//usage:	IF_LONG_OPTS(" (also --shutdown)")
//usage:	IF_FEATURE_XNBD_BGCTL_RECONNECT(
//usage:     "\n	-r,--reconnect		Reach the remote server at another address"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_EXPORTNAME(
//usage:     "\n	-n,--exportname NAME	Ask it for this export"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_PROGRESS(
//usage:     "\n	-p,--progress		Show how the copy goes on, on stderr"
//usage:	)
//usage:     "\n	-b,--blocks-per-request N	Copy so many blocks at a time"
//usage:     "\n	-f,--force		Switch with blocks missing"
//usage:	IF_FEATURE_XNBD_BGCTL_RECONNECT("; accept another content")
#include "libbb.h"

#include <sys/time.h>
#include <sys/un.h>

enum {
	OPT_QUERY = 1 << 0,
	OPT_SWITCH = 1 << 1,
	OPT_CACHE_ALL = 1 << 2,
	OPT_FORCE = 1 << 3,
	OPT_BLOCKS = 1 << 4,
	OPTBIT_CACHE_ALL2 = 5,
	OPTBIT_PROGRESS = OPTBIT_CACHE_ALL2 + ENABLE_FEATURE_XNBD_BGCTL_CACHE_ALL2,
	OPTBIT_RECONNECT = OPTBIT_PROGRESS + ENABLE_FEATURE_XNBD_BGCTL_PROGRESS,
	OPTBIT_EXPORTNAME = OPTBIT_RECONNECT + ENABLE_FEATURE_XNBD_BGCTL_RECONNECT,
	OPT_CACHE_ALL2 = ENABLE_FEATURE_XNBD_BGCTL_CACHE_ALL2 << OPTBIT_CACHE_ALL2,
	OPT_PROGRESS = ENABLE_FEATURE_XNBD_BGCTL_PROGRESS << OPTBIT_PROGRESS,
	OPT_RECONNECT = ENABLE_FEATURE_XNBD_BGCTL_RECONNECT << OPTBIT_RECONNECT,
	OPT_EXPORTNAME = ENABLE_FEATURE_XNBD_BGCTL_EXPORTNAME << OPTBIT_EXPORTNAME,
	OPT_COMMANDS = OPT_QUERY | OPT_SWITCH | OPT_CACHE_ALL | OPT_CACHE_ALL2 | OPT_RECONNECT,

	QUERY_TIMEOUT_S = 30,
	NAME_MAX_BYTES = 4096, /* NBD: the longest name of an export */
	ADDRESS_MAX_BYTES = 512, /* host and port; a host name has at most 253 */
	REPLY_BYTES = 3 * NAME_MAX_BYTES + 64, /* the longest line: a name, encoded */
	GROUPS_PER_LINE = 25, /* without a terminal: a line every five seconds */
};

static const char options[] ALIGN1 = "qscfb:"
	IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("C") IF_FEATURE_XNBD_BGCTL_PROGRESS("p") IF_FEATURE_XNBD_BGCTL_RECONNECT("r")
	IF_FEATURE_XNBD_BGCTL_EXPORTNAME("n:");

#if ENABLE_LONG_OPTS
static const char long_options[] ALIGN1 =
	"query\0" No_argument "q"
	"switch\0" No_argument "s"
	"shutdown\0" No_argument "s"
	"cache-all\0" No_argument "c"
	"force\0" No_argument "f"
	"blocks-per-request\0" Required_argument "b"
	IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("cache-all2\0" No_argument "C")
	IF_FEATURE_XNBD_BGCTL_PROGRESS("progress\0" No_argument "p")
	IF_FEATURE_XNBD_BGCTL_RECONNECT("reconnect\0" No_argument "r")
	IF_FEATURE_XNBD_BGCTL_EXPORTNAME("exportname\0" Required_argument "n");
#endif

/* The control socket, and what has been read of it. */
struct control {
	const char *path;
	int fd;
	unsigned first, end; /* unread bytes of in */
	char in[REPLY_BYTES];
};

/* ---- the socket ------------------------------------------------------------------------ */

/* What a failed connect means for the one who called. */
static void NORETURN die_unreachable(const char *path)
{
	struct stat st;

	if (errno == ECONNREFUSED) {
		/* Linux says this of any file that nobody listens on. */
		if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
			bb_error_msg_and_die("%s: not a socket", path);
		bb_error_msg_and_die("%s: the server has ended: start it again", path);
	}
	if (errno == EACCES || errno == EPERM)
		bb_error_msg_and_die("%s: permission denied: be root, or the user of the server", path);
	if (errno == ENOENT)
		bb_error_msg_and_die("%s: no such socket: is the proxy running?", path);
	bb_perror_msg_and_die("%s", path);
}

static void control_open(struct control *c, const char *path)
{
	struct sockaddr_un a;

	memset(&a, 0, sizeof(a));
	a.sun_family = AF_UNIX;
	if (!*path || strlen(path) >= sizeof(a.sun_path))
		bb_error_msg_and_die("'%s' cannot be the path of a socket: it has 1 to 107 bytes", path);
	strcpy(a.sun_path, path);
	c->path = path;
	c->first = c->end = 0;
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (c->fd < 0)
		bb_simple_perror_msg_and_die("socket");
	if (connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die_unreachable(path);
}

/* The next line, without its end; the caller may change it, the next call does. */
static char *read_line(struct control *c)
{
	for (;;) {
		char *line = c->in + c->first;
		char *end = memchr(line, '\n', c->end - c->first);
		ssize_t n;

		if (end) {
			*end = '\0';
			c->first = (unsigned)(end - c->in) + 1;
			return line;
		}
		c->end -= c->first;
		memmove(c->in, line, c->end);
		c->first = 0;
		if (c->end == REPLY_BYTES)
			bb_error_msg_and_die("%s: the answer is not one of xnbd-server", c->path);
		n = safe_read(c->fd, c->in + c->end, REPLY_BYTES - c->end);
		if (n < 0) {
			if (errno == EAGAIN)
				errno = ETIMEDOUT;
			bb_perror_msg_and_die("%s: no answer", c->path);
		}
		if (n == 0)
			bb_error_msg_and_die("%s: the server hung up before its answer was complete", c->path);
		c->end += (unsigned)n;
	}
}

/* ---- progress ---------------------------------------------------------------------------- */

#if ENABLE_FEATURE_XNBD_BGCTL_PROGRESS

/* One group of news: see CONTROL SOCKET. */
struct news {
	unsigned long long blocks, cached, found, fetched, rate;
	char eta[24];
	char percent[12];
	char origin[12];
};

struct progress {
	struct news news;
	bool terminal;
	bool drawn; /* the cursor stands behind a bar */
	unsigned groups;
};

static void copy_value(char *to, size_t room, const char *value)
{
	strncpy(to, value, room - 1);
	to[room - 1] = '\0';
}

/* Takes a line. True: the group is complete. */
static bool take_news(struct news *n, const char *key, const char *value)
{
	static const char numbers[] ALIGN1 = "blocks\0cached\0job_found\0job_fetched\0job_rate\0";
	unsigned long long *to[] = { &n->blocks, &n->cached, &n->found, &n->fetched, &n->rate };
	const char *name = numbers;
	unsigned i;

	for (i = 0; *name; i++, name += strlen(name) + 1)
		if (strcmp(key, name) == 0)
			*to[i] = strtoull(value, NULL, 10);
	if (strcmp(key, "job_eta") == 0)
		copy_value(n->eta, sizeof(n->eta), value);
	if (strcmp(key, "origin_state") == 0)
		copy_value(n->origin, sizeof(n->origin), value);
	if (strcmp(key, "percent") != 0)
		return false;
	copy_value(n->percent, sizeof(n->percent), value);
	return true;
}

/* " 53.2%  118.4 MB/s  12 s left": what stands behind the bar. */
static int describe(char *to, size_t room, const struct news *n)
{
	unsigned tenths = (unsigned)(n->rate / 100000);
	int bytes = snprintf(to, room, " %s %u.%u MB/s", n->percent, tenths / 10, tenths % 10);

	if (n->cached == n->blocks)
		return bytes;
	if (strcmp(n->origin, "up") != 0)
		bytes += snprintf(to + bytes, room - (size_t)bytes, " origin is %s", n->origin);
	else if (n->eta[0] && n->eta[0] != '-')
		bytes += snprintf(to + bytes, room - (size_t)bytes, " %s s left", n->eta);
	return bytes;
}

/* Blocks that were local before as '=', those fetched since as '#'. */
static void draw_bar(struct progress *p)
{
	const struct news *n = &p->news;
	char text[128], line[512];
	int width = get_terminal_width(STDERR_FILENO) - 1;
	int bar = width - 2 - describe(text, sizeof(text), n);
	int found, local, i;
	char *to = line;

	if (width > (int)sizeof(line) - 8)
		bar -= width - ((int)sizeof(line) - 8);
	*to++ = '\r';
	if (bar > 3) {
		found = n->blocks ? (int)(n->found * (unsigned)bar / n->blocks) : bar;
		local = n->blocks ? (int)(n->cached * (unsigned)bar / n->blocks) : bar;
		*to++ = '[';
		for (i = 0; i < bar; i++)
			*to++ = i < found ? '=' : i < local ? '#' : ' ';
		*to++ = ']';
	}
	to = stpcpy(to, text);
	to = stpcpy(to, "\033[K"); /* clear what an earlier, longer line left */
	full_write(STDERR_FILENO, line, (size_t)(to - line));
	p->drawn = true;
}

static void print_news(const struct news *n)
{
	char text[128], line[256];
	int bytes;

	describe(text, sizeof(text), n);
	bytes = snprintf(line, sizeof(line), "%s: %llu of %llu blocks,%s\n", applet_name, n->cached, n->blocks, text);
	full_write(STDERR_FILENO, line, (size_t)bytes);
}

static void show_line(struct progress *p, const char *key, const char *value)
{
	if (!take_news(&p->news, key, value))
		return;
	if (p->terminal)
		draw_bar(p);
	else if (p->groups++ % GROUPS_PER_LINE == 0)
		print_news(&p->news);
}

static void show_end(struct progress *p)
{
	if (p->drawn)
		full_write(STDERR_FILENO, "\n", 1);
	else if (p->groups && (p->groups - 1) % GROUPS_PER_LINE != 0)
		print_news(&p->news); /* the last ones, not shown yet */
}

#endif

/* ---- commands ------------------------------------------------------------------------------- */

/* One request and its answer. Returns the exit status. */
static int converse(struct control *c, char *request, unsigned opt)
{
	size_t n = strlen(request);
	char *line, *value;
#if ENABLE_FEATURE_XNBD_BGCTL_PROGRESS
	struct progress progress;

	memset(&progress, 0, sizeof(progress));
	progress.terminal = (opt & OPT_PROGRESS) && isatty(STDERR_FILENO);
#endif
	request[n++] = '\n';
	/* A server that went away meanwhile is found by reading. */
	send(c->fd, request, n, MSG_NOSIGNAL);
	while (strcmp(line = read_line(c), "ok") != 0) {
		value = strchr(line, ' ');
		if (!value)
			bb_error_msg_and_die("%s: the answer is not one of xnbd-server", c->path);
		*value++ = '\0';
		if (strcmp(line, "error") == 0) {
			IF_FEATURE_XNBD_BGCTL_PROGRESS(show_end(&progress);)
			bb_error_msg_and_die("%s: %s", c->path, value);
		}
		if (opt & OPT_QUERY) {
			value[-1] = ' ';
			n = strlen(line);
			line[n++] = '\n';
			if (full_write(STDOUT_FILENO, line, n) != (ssize_t)n)
				bb_simple_perror_msg_and_die("write error");
		}
		IF_FEATURE_XNBD_BGCTL_PROGRESS(else if (opt & OPT_PROGRESS) show_line(&progress, line, value);)
	}
	IF_FEATURE_XNBD_BGCTL_PROGRESS(show_end(&progress);)
	return EXIT_SUCCESS;
}

/* The one command, and as many arguments as it takes: else one line, and the end. */
static void check_usage(unsigned opt, char **argv)
{
	static const char *const names[] = { "CONTROL_SOCKET", "REMOTE_HOST", "REMOTE_PORT" };
	unsigned command = opt & OPT_COMMANDS;
	unsigned wanted = command == OPT_RECONNECT && command ? 3 : 1;
	unsigned i;

	if (command == 0 || (command & (command - 1)))
		bb_simple_error_msg_and_die("give one command; try --help");
	for (i = 0; i < wanted; i++)
		if (!argv[i])
			bb_error_msg_and_die("%s is missing; try --help", names[i]);
	if (argv[wanted])
		bb_error_msg_and_die("too many arguments: '%s'", argv[wanted]);
}

#if ENABLE_FEATURE_XNBD_BGCTL_RECONNECT
/* Part of a word of the request: bytes that would end it are %XX. Returns its end; at
 * most three times as long as the value. */
static char *put_value(char *to, const char *value)
{
	for (; *value; value++) {
		unsigned char b = (unsigned char)*value;

		if (b > ' ' && b < 0x7f && b != '%')
			*to++ = (char)b;
		else
			to += snprintf(to, 4, "%%%02X", b);
	}
	*to = '\0';
	return to;
}

static char *put_reconnect(char *to, const char *host, const char *port, const char *name)
{
	char cwd[ADDRESS_MAX_BYTES];

	if (strlen(host) + strlen(port) > ADDRESS_MAX_BYTES)
		bb_error_msg_and_die("'%s' is too long for a host", host);
	to = stpcpy(to, "reconnect host=");
	if (strncmp(host, "unix:", 5) == 0 && host[5] != '/') {
		/* The server has a directory of its own. */
		if (!getcwd(cwd, sizeof(cwd)))
			bb_simple_perror_msg_and_die("getcwd");
		to = put_value(stpcpy(to, "unix:"), cwd);
		*to++ = '/';
		host += 5;
	}
	to = put_value(to, host);
	to = put_value(stpcpy(to, " port="), port);
	if (name) {
		if (strlen(name) > NAME_MAX_BYTES)
			bb_simple_error_msg_and_die("the name of an export has at most 4096 bytes");
		to = put_value(stpcpy(to, " exportname="), name);
	}
	return to;
}
#endif

int xnbd_bgctl_main(int argc, char **argv) MAIN_EXTERNALLY_VISIBLE;
int xnbd_bgctl_main(int argc UNUSED_PARAM, char **argv)
{
	struct timeval timeout = { .tv_sec = QUERY_TIMEOUT_S };
	struct control control;
	char *blocks = NULL;
	IF_FEATURE_XNBD_BGCTL_RECONNECT(char *name = NULL;)
	char request[3 * (NAME_MAX_BYTES + 2 * ADDRESS_MAX_BYTES) + 128];
	char *to = request;
	unsigned opt = getopt32long(argv, options, long_options,
				    &blocks IF_FEATURE_XNBD_BGCTL_EXPORTNAME(, &name));

	argv += optind;
	check_usage(opt, argv);
	control_open(&control, argv[0]);
	if (opt & OPT_QUERY) {
		setsockopt(control.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
		to = stpcpy(to, "status");
	}
	if (opt & OPT_SWITCH)
		to = stpcpy(to, "switch");
	if (opt & (OPT_CACHE_ALL | OPT_CACHE_ALL2)) {
		to = stpcpy(to, "cache-all");
		if (blocks)
			to += snprintf(to, 16, " blocks=%u", xatou_range(blocks, 1, 65536));
	}
	if ((opt & OPT_CACHE_ALL2) && (opt & OPT_PROGRESS)) {
		/* On its own first: then it goes on when we do not. */
		converse(&control, request, 0);
		to = stpcpy(request, "cache-all");
	}
	if ((opt & OPT_CACHE_ALL) || ((opt & OPT_CACHE_ALL2) && (opt & OPT_PROGRESS)))
		to = stpcpy(to, " follow");
#if ENABLE_FEATURE_XNBD_BGCTL_RECONNECT
	if (opt & OPT_RECONNECT)
		to = put_reconnect(to, argv[1], argv[2], name);
#endif
	if (opt & OPT_FORCE)
		stpcpy(to, " force");
	return converse(&control, request, opt);
}
