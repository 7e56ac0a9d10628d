/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-bgctl: drives a running proxy through its control socket. The proxy does the
 * work; this asks, and shows. The text protocol is told in xnbd-server(8).
 *
 * Builds also inside a BusyBox tree: libbb.h is all it knows.
 */
//config:config XNBD_BGCTL
//config:	bool "xnbd-bgctl (9.3 kb)"
//config:	default y
//config:	help
//config:	Drives a running xnbd-server proxy through its control socket:
//config:	asks for its state, copies all blocks to the local cache,
//config:	switches the proxy to a plain server of the copy.
//config:
//config:config FEATURE_XNBD_BGCTL_CACHE_ALL2
//config:	bool "--cache-all2 (170 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Copies in the background of the proxy, and returns at once.
//config:
//config:config FEATURE_XNBD_BGCTL_PROGRESS
//config:	bool "--progress (1.9 kb)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	A bar, or a line now and then, while blocks are copied.
//config:
//config:config FEATURE_XNBD_BGCTL_JOB
//config:	bool "--pause, --resume, --cancel and --rate (460 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Orders to a copy that is running.
//config:
//config:config FEATURE_XNBD_BGCTL_VERIFY
//config:	bool "--verify (310 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Has the copy compared with the origin, before the switch.
//config:
//config:config FEATURE_XNBD_BGCTL_HOLD
//config:	bool "--hold (280 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Limits how long requests wait for a lost origin, while the proxy
//config:	runs.
//config:
//config:config FEATURE_XNBD_BGCTL_RECONNECT
//config:	bool "--reconnect (1.8 kb)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Gives the proxy another address of its origin.
//config:
//config:config FEATURE_XNBD_BGCTL_EXPORTNAME
//config:	bool "--exportname (350 bytes)"
//config:	default y
//config:	depends on FEATURE_XNBD_BGCTL_RECONNECT
//config:	help
//config:	--reconnect can ask for an export by name.
//config:
//config:config FEATURE_XNBD_BGCTL_BINARY
//config:	bool "Servers of xNBD (24 kb)"
//config:	default n
//config:	depends on XNBD_BGCTL && !NOMMU
//config:	help
//config:	Also drives an xnbd-server of xNBD 0.4, which speaks another
//config:	protocol: with libc's resolver, if nothing else needs it.
//applet:IF_XNBD_BGCTL(APPLET_ODDNAME(xnbd-bgctl, xnbd_bgctl, BB_DIR_USR_BIN, BB_SUID_DROP, xnbd_bgctl))
//kbuild:lib-$(CONFIG_XNBD_BGCTL) += xnbd_bgctl.o
//usage:#define xnbd_bgctl_trivial_usage
//usage:	IF_LONG_OPTS("--query|--switch|--cache-all" IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("|--cache-all2"))
//usage:	IF_NOT_LONG_OPTS("-q|-s|-c" IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("|-C")) " [OPTIONS] CONTROL_SOCKET"
//usage:	IF_FEATURE_XNBD_BGCTL_JOB("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--pause|--resume|--cancel") IF_NOT_LONG_OPTS("-P|-G|-X") " CONTROL_SOCKET")
//usage:	IF_FEATURE_XNBD_BGCTL_VERIFY("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--verify") IF_NOT_LONG_OPTS("-v") " [OPTIONS] CONTROL_SOCKET")
//usage:	IF_FEATURE_XNBD_BGCTL_HOLD("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--hold") IF_NOT_LONG_OPTS("-H") " SECONDS CONTROL_SOCKET")
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
//usage:	IF_FEATURE_XNBD_BGCTL_VERIFY(
//usage:     "\n	-v,--verify		Compare what no client has written with the remote server"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_HOLD(
//usage:     "\n	-H,--hold SECONDS	Fail what waits so long for the remote server (0 = never)"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_EXPORTNAME(
//usage:     "\n	-n,--exportname NAME	Ask it for this export"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_PROGRESS(
//usage:     "\n	-p,--progress		Show how the copy goes on, on stderr"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_JOB(
//usage:     "\n	-P,--pause		Let the copy pause"
//usage:     "\n	-G,--resume		Let it go on"
//usage:     "\n	-X,--cancel		Stop it; what was copied is kept"
//usage:     "\n	-R,--rate BYTES		Copy so much a second (0 = no limit)"
//usage:	)
//usage:     "\n	-b,--blocks-per-request N	Copy so many blocks at a time"
//usage:     "\n	-f,--force		Switch with blocks missing"
//usage:	IF_FEATURE_XNBD_BGCTL_RECONNECT("; accept another content")
#include "libbb.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
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
	OPTBIT_PAUSE = OPTBIT_EXPORTNAME + ENABLE_FEATURE_XNBD_BGCTL_EXPORTNAME,
	OPT_CACHE_ALL2 = ENABLE_FEATURE_XNBD_BGCTL_CACHE_ALL2 << OPTBIT_CACHE_ALL2,
	OPT_PROGRESS = ENABLE_FEATURE_XNBD_BGCTL_PROGRESS << OPTBIT_PROGRESS,
	OPT_RECONNECT = ENABLE_FEATURE_XNBD_BGCTL_RECONNECT << OPTBIT_RECONNECT,
	OPT_EXPORTNAME = ENABLE_FEATURE_XNBD_BGCTL_EXPORTNAME << OPTBIT_EXPORTNAME,
	OPT_PAUSE = ENABLE_FEATURE_XNBD_BGCTL_JOB << OPTBIT_PAUSE,
	OPT_RESUME = ENABLE_FEATURE_XNBD_BGCTL_JOB << (OPTBIT_PAUSE + 1),
	OPT_CANCEL = ENABLE_FEATURE_XNBD_BGCTL_JOB << (OPTBIT_PAUSE + 2),
	OPTBIT_VERIFY = OPTBIT_PAUSE + 4 * ENABLE_FEATURE_XNBD_BGCTL_JOB,
	OPT_VERIFY = ENABLE_FEATURE_XNBD_BGCTL_VERIFY << OPTBIT_VERIFY,
	OPTBIT_HOLD = OPTBIT_VERIFY + ENABLE_FEATURE_XNBD_BGCTL_VERIFY,
	OPT_HOLD = ENABLE_FEATURE_XNBD_BGCTL_HOLD << OPTBIT_HOLD,
	OPT_COMMANDS = OPT_QUERY | OPT_SWITCH | OPT_CACHE_ALL | OPT_CACHE_ALL2 | OPT_RECONNECT | OPT_PAUSE |
		       OPT_RESUME | OPT_CANCEL | OPT_VERIFY | OPT_HOLD,

	QUERY_TIMEOUT_S = 30,
	EXIT_PARTIAL = 2, /* of --verify: nothing differs, but not all was compared */
	NAME_MAX_BYTES = 4096, /* NBD: the longest name of an export */
	ADDRESS_MAX_BYTES = 512, /* host and port; a host name has at most 253 */
	REPLY_BYTES = 3 * NAME_MAX_BYTES + 64, /* the longest line: a name, encoded */
	GROUPS_PER_LINE = 25, /* without a terminal: a line every five seconds */
	PROGRESS_BLOCK_BYTES = 4096,
};

static const char options[] ALIGN1 = "qscfb:"
	IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("C") IF_FEATURE_XNBD_BGCTL_PROGRESS("p") IF_FEATURE_XNBD_BGCTL_RECONNECT("r")
	IF_FEATURE_XNBD_BGCTL_EXPORTNAME("n:") IF_FEATURE_XNBD_BGCTL_JOB("PGXR:")
	IF_FEATURE_XNBD_BGCTL_VERIFY("v") IF_FEATURE_XNBD_BGCTL_HOLD("H:");

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
	IF_FEATURE_XNBD_BGCTL_EXPORTNAME("exportname\0" Required_argument "n")
	IF_FEATURE_XNBD_BGCTL_JOB(
	"pause\0" No_argument "P"
	"resume\0" No_argument "G"
	"cancel\0" No_argument "X"
	"rate\0" Required_argument "R")
	IF_FEATURE_XNBD_BGCTL_VERIFY("verify\0" No_argument "v")
	IF_FEATURE_XNBD_BGCTL_HOLD("hold\0" Required_argument "H");
#endif

/* The control socket, and what has been read of it. */
struct control {
	const char *path;
	int fd;
	bool answered;       /* something has come */
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

static int connect_unix(const char *path)
{
	struct sockaddr_un a;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memset(&a, 0, sizeof(a));
	a.sun_family = AF_UNIX;
	if (!*path || strlen(path) >= sizeof(a.sun_path))
		bb_error_msg_and_die("'%s' cannot be the path of a socket: it has 1 to 107 bytes", path);
	strcpy(a.sun_path, path);
	if (fd < 0)
		bb_simple_perror_msg_and_die("socket");
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die_unreachable(path);
	return fd;
}

static void set_timeout(int fd, unsigned seconds)
{
	struct timeval timeout = { .tv_sec = seconds };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
}

/* The next line, without its '\n'. The caller may change it; the next call overwrites it. NULL: the
 * server hung up without any answer, so it does not know this protocol. */
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
		if (ENABLE_FEATURE_XNBD_BGCTL_BINARY && !c->answered && (n == 0 || (n < 0 && errno == ECONNRESET)))
			return NULL;
		if (n < 0) {
			if (errno == EAGAIN)
				errno = ETIMEDOUT;
			bb_perror_msg_and_die("%s: no answer", c->path);
		}
		if (n == 0)
			bb_error_msg_and_die("%s: the server hung up before its answer was complete", c->path);
		c->end += (unsigned)n;
		c->answered = true;
	}
}

/* ---- progress ---------------------------------------------------------------------------- */

#if ENABLE_FEATURE_XNBD_BGCTL_PROGRESS

/* One group of news: see CONTROL SOCKET. */
struct news {
	unsigned long long blocks, cached, found, fetched, rate;
	char eta[24];
	char percent[16];
	char origin[12];
};

struct progress {
	struct news news;
	bool terminal;
	bool drawn; /* the cursor stands behind a bar */
	bool ended;
	bool paced; /* the rate is known */
	unsigned groups;
	unsigned long long began_ms, first_ms; /* asked for, first group */
	unsigned long long first;              /* blocks that were done then */
};

/* Takes a line. True: the group is complete. */
static bool take_news(struct news *n, const char *key, const char *value)
{
	static const char numbers[] ALIGN1 = "blocks\0cached\0job_found\0job_fetched\0job_rate\0"
		IF_FEATURE_XNBD_BGCTL_VERIFY("looked_at\0");
	unsigned long long *to[] = { &n->blocks, &n->cached, &n->found, &n->fetched, &n->rate, &n->cached };
	const char *name = numbers;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(to); i++, name += strlen(name) + 1)
		if (strcmp(key, name) == 0)
			*to[i] = strtoull(value, NULL, 10);
	if (strcmp(key, "job_eta") == 0)
		snprintf(n->eta, sizeof(n->eta), "%s", value);
	if (strcmp(key, "origin_state") == 0)
		snprintf(n->origin, sizeof(n->origin), "%s", value);
	if (strcmp(key, "percent") != 0)
		return false;
	snprintf(n->percent, sizeof(n->percent), "%s", value);
	return true;
}

/* The mean rate, from one group to another if there are two. 0: unknown. */
static unsigned long long mean_rate(const struct progress *p)
{
	bool many = p->groups > 1;
	unsigned long long ms = monotonic_ms() - (many ? p->first_ms : p->began_ms);

	return (p->news.cached - (many ? p->first : p->news.found)) * PROGRESS_BLOCK_BYTES * 1000 / (ms + 1);
}

/* " 53.2% 118.4 MB/s 12 s left": what stands behind the bar; at the end, " 100.0% 97.1 MB/s
 * in 60.4 s", the mean of it all. */
static int describe(char *to, size_t room, const struct progress *p)
{
	const struct news *n = &p->news;
	unsigned rate = (unsigned)((p->ended ? mean_rate(p) : n->rate) / 100000);
	unsigned took = (unsigned)((monotonic_ms() - p->began_ms) / 100);
	int bytes = snprintf(to, room, " %s", n->percent);

	if (p->ended ? rate : p->paced)
		bytes += snprintf(to + bytes, room - (size_t)bytes, " %u.%u MB/s", rate / 10, rate % 10);
	if (p->ended)
		bytes += snprintf(to + bytes, room - (size_t)bytes, " in %u.%u s", took / 10, took % 10);
	else if (strcmp(n->origin, "up") != 0)
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
	int bar = width - 2 - describe(text, sizeof(text), p);
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

static void print_news(const struct progress *p)
{
	const struct news *n = &p->news;
	char text[128], line[256];
	int bytes;

	describe(text, sizeof(text), p);
	bytes = snprintf(line, sizeof(line), "%s: %llu of %llu blocks,%s\n", applet_name, n->cached, n->blocks, text);
	full_write(STDERR_FILENO, line, (size_t)bytes);
}

static void progress_begin(struct progress *p, unsigned opt)
{
	struct winsize w;

	memset(p, 0, sizeof(*p));
	p->terminal = (opt & OPT_PROGRESS) && ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0; /* isatty(3), without more of libc */
	p->began_ms = monotonic_ms();
}

static void show_line(struct progress *p, const char *key, const char *value)
{
	if (!take_news(&p->news, key, value))
		return;
	p->paced |= p->news.rate != 0;
	if (!p->groups) {
		p->first_ms = monotonic_ms();
		p->first = p->news.cached;
	}
	if (p->terminal)
		draw_bar(p);
	else if (p->groups % GROUPS_PER_LINE == 0 && p->news.cached != p->news.blocks)
		print_news(p);
	p->groups++;
}

static void show_end(struct progress *p)
{
	p->ended = true;
	if (p->drawn) {
		draw_bar(p);
		full_write(STDERR_FILENO, "\n", 1);
	} else if (p->groups) {
		print_news(p);
	}
	p->drawn = false; /* the end is shown once */
	p->groups = 0;
}

#endif

/* ---- a server of xNBD: the binary protocol ------------------------------------------------------ */

#if ENABLE_FEATURE_XNBD_BGCTL_BINARY

enum {
	OLD_QUERY_STATUS = 1,
	OLD_REGISTER_FD = 2,
	OLD_REGISTER_FORWARDER_FD = 3,
	OLD_DETECT_SWITCH = 5,

	OLD_TEXT_BYTES = 4096,
	OLD_RUN_BLOCKS = 31,    /* longest request, unless told otherwise */
	OLD_OUTSTANDING = 128,  /* requests; they and their replies fit in the buffers of sockets */
	OLD_HANDSHAKE_S = 15,
	BLOCK_BYTES = 4096,

	NBD_REQUEST_MAGIC = 0x25609513,
	NBD_REPLY_MAGIC = 0x67446698,
	NBD_CMD_DISC = 2,
	NBD_CMD_CACHE = 5,
};

/* As the server has it in memory. */
struct old_status {
	int64_t disk_size;
	char image[OLD_TEXT_BYTES];
	char bitmap[OLD_TEXT_BYTES];
	int32_t pid;
	char host[OLD_TEXT_BYTES];
	char port[OLD_TEXT_BYTES];
	size_t buf_limit, queue_limit, buf_used, queue_used;
};

struct old {
	const char *path; /* of the control socket */
	struct old_status status;
	const uint64_t *words; /* the bitmap: block i is bit i % 64 of word i / 64 */
	uint64_t blocks, local;
	uint64_t next; /* none before it is to be asked for */
	unsigned outstanding;
	uint64_t refused; /* requests */
};

struct old_request {
	uint32_t magic, type;
	uint64_t cookie, offset;
	uint32_t length;
} PACKED;

struct old_reply {
	uint32_t magic, error;
	uint64_t cookie;
} PACKED;

/* Sends a command over a new connection, and returns that for what the command needs next. */
static int old_command(const struct old *o, uint32_t command)
{
	int fd = connect_unix(o->path);

	send(fd, &command, sizeof(command), MSG_NOSIGNAL);
	return fd;
}

/* The server closes it when what was asked is done. */
static void old_wait(int fd)
{
	char byte;

	while (safe_read(fd, &byte, 1) > 0)
		;
}

static void old_pass_fd(int control, int fd)
{
	struct iovec v = { .iov_base = (char *)"", .iov_len = 1 };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} u;
	struct msghdr m;

	memset(&u, 0, sizeof(u));
	memset(&m, 0, sizeof(m));
	m.msg_iov = &v;
	m.msg_iovlen = 1;
	m.msg_control = &u;
	m.msg_controllen = sizeof(u.room);
	u.head.cmsg_level = SOL_SOCKET;
	u.head.cmsg_type = SCM_RIGHTS;
	u.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&u.head), &fd, sizeof(int));
	if (sendmsg(control, &m, MSG_NOSIGNAL) < 0)
		bb_simple_perror_msg_and_die("sendmsg");
	close(fd);
}

static void old_count(struct old *o)
{
	uint64_t i, word;

	o->local = 0;
	for (i = 0; i * 64 < o->blocks; i++) {
		word = o->words[i];
		if (o->blocks - i * 64 < 64) /* what is behind the last block tells nothing */
			word &= ((uint64_t)1 << (o->blocks % 64)) - 1;
		for (; word; word &= word - 1)
			o->local++;
	}
}

/* Maps the server's bitmap, in which it goes on setting bits. A relative path is taken from our own
 * directory. */
static void old_map(struct old *o)
{
	uint64_t bytes = (o->blocks + 63) / 64 * 8;
	struct stat st;
	int fd = open(o->status.bitmap, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) < 0)
		bb_perror_msg_and_die("bitmap %s", o->status.bitmap);
	if (!bytes || (uint64_t)st.st_size != bytes || bytes > SIZE_MAX)
		bb_error_msg_and_die("bitmap %s: not one of a disk of %llu bytes", o->status.bitmap,
				     (unsigned long long)o->status.disk_size);
	o->words = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (o->words == MAP_FAILED)
		bb_perror_msg_and_die("bitmap %s", o->status.bitmap);
	close(fd);
	old_count(o);
}

static void old_open(struct old *o)
{
	struct old_status *s = &o->status;
	int fd = old_command(o, OLD_QUERY_STATUS);

	set_timeout(fd, QUERY_TIMEOUT_S);
	if (full_read(fd, s, sizeof(*s)) != sizeof(*s) || s->disk_size < 0)
		bb_error_msg_and_die("%s: the answer is not one of xnbd-server", o->path);
	close(fd);
	s->image[OLD_TEXT_BYTES - 1] = s->bitmap[OLD_TEXT_BYTES - 1] = '\0';
	s->host[OLD_TEXT_BYTES - 1] = s->port[OLD_TEXT_BYTES - 1] = '\0';
	o->blocks = ((uint64_t)s->disk_size + BLOCK_BYTES - 1) / BLOCK_BYTES;
	old_map(o);
}

static unsigned old_permille(const struct old *o)
{
	return (unsigned)(o->local * 1000 / o->blocks);
}

/* The same lines as a server of ours, as far as this one tells. */
static void old_query(const struct old *o)
{
	const struct old_status *s = &o->status;
	unsigned permille = old_permille(o);
	char *text = xasprintf("mode proxy\npid %u\ncache_image %s\nbitmap %s\ndisk_size %llu\nblock_size %u\n"
			       "blocks %llu\ncached %llu\npercent %u.%u%%\nstate %scomplete\norigin_host %s\n"
			       "origin_port %s\nin_flight %llu\nbuffer_used %llu\nbuffer_limit %llu\n",
			       (unsigned)s->pid, s->image, s->bitmap, (unsigned long long)s->disk_size, BLOCK_BYTES,
			       (unsigned long long)o->blocks, (unsigned long long)o->local, permille / 10, permille % 10,
			       o->local == o->blocks ? "" : "in", s->host, s->port, (unsigned long long)s->queue_used,
			       (unsigned long long)s->buf_used, (unsigned long long)s->buf_limit);
	size_t n = strlen(text);

	if (full_write(STDOUT_FILENO, text, n) != (ssize_t)n)
		bb_simple_perror_msg_and_die("write error");
	free(text);
}

static void old_send(int fd, uint32_t type, uint64_t offset, uint64_t length)
{
	struct old_request r;

	r.magic = SWAP_BE32(NBD_REQUEST_MAGIC);
	r.type = SWAP_BE32(type);
	r.cookie = UINT64_MAX;
	r.offset = SWAP_BE64(offset);
	r.length = SWAP_BE32((uint32_t)length);
	/* That it has gone is found by reading. */
	send(fd, &r, sizeof(r), MSG_NOSIGNAL);
}

static bool old_is_local(const struct old *o, uint64_t block)
{
	return o->words[block / 64] >> (block % 64) & 1;
}

/* Asks for the next blocks that are missing. False: there are none. */
static bool old_ask_next(struct old *o, int fd, unsigned run_blocks)
{
	uint64_t first = o->next, end, offset, length;

	while (first < o->blocks && old_is_local(o, first))
		first++;
	for (end = first; end < o->blocks && end - first < run_blocks && !old_is_local(o, end);)
		end++;
	o->next = end;
	if (first == end)
		return false;
	offset = first * BLOCK_BYTES;
	length = (end - first) * BLOCK_BYTES;
	if (length > (uint64_t)o->status.disk_size - offset)
		length = (uint64_t)o->status.disk_size - offset;
	old_send(fd, NBD_CMD_CACHE, offset, length);
	o->outstanding++;
	return true;
}

static void old_take_reply(struct old *o, int fd)
{
	struct old_reply r;

	if (full_read(fd, &r, sizeof(r)) != sizeof(r) || r.magic != SWAP_BE32(NBD_REPLY_MAGIC))
		bb_error_msg_and_die("%s: the server broke off; start this again to go on", o->path);
	o->refused += r.error != 0;
	o->outstanding--;
}

#if ENABLE_FEATURE_XNBD_BGCTL_PROGRESS
/* Tells a group of news, as a server of ours would. */
static void old_show(struct progress *p, const struct old *o, uint64_t found, unsigned long long began_ms)
{
	struct news *n = &p->news;
	unsigned long long ms = monotonic_ms() - began_ms + 1;
	unsigned permille = old_permille(o);
	char percent[16];

	n->blocks = o->blocks;
	n->cached = o->local;
	n->found = found;
	n->rate = (o->local - found) * BLOCK_BYTES * 1000 / ms;
	strcpy(n->origin, "up"); /* it does not tell */
	snprintf(percent, sizeof(percent), "%u.%u%%", permille / 10, permille % 10);
	show_line(p, "percent", percent);
}
#endif

/* Everything is asked for over a session of our own. */
static void old_copy(struct old *o, int fd, int control, unsigned run_blocks, unsigned opt UNUSED_PARAM)
{
	char byte;
#if ENABLE_FEATURE_XNBD_BGCTL_PROGRESS
	struct progress progress;
	unsigned long long began_ms = monotonic_ms(), shown_ms = began_ms;
	uint64_t found = o->local;

	progress_begin(&progress, opt);
#endif
	while ((o->outstanding < OLD_OUTSTANDING && old_ask_next(o, fd, run_blocks)) || o->outstanding) {
		if (o->outstanding == OLD_OUTSTANDING || o->next == o->blocks)
			old_take_reply(o, fd);
#if ENABLE_FEATURE_XNBD_BGCTL_PROGRESS
		if ((opt & OPT_PROGRESS) && monotonic_ms() - shown_ms >= 200) {
			shown_ms = monotonic_ms();
			old_count(o);
			old_show(&progress, o, found, began_ms);
		}
#endif
	}
	old_send(fd, NBD_CMD_DISC, 0, 0);
	if (safe_read(control, &byte, 1) != 1)
		bb_error_msg_and_die("%s: the server broke off; start this again to go on", o->path);
	old_count(o);
#if ENABLE_FEATURE_XNBD_BGCTL_PROGRESS
	if (opt & OPT_PROGRESS) {
		old_show(&progress, o, found, began_ms);
		show_end(&progress);
	}
#endif
}

static void old_cache_all(struct old *o, unsigned run_blocks, unsigned opt)
{
	int fd[2], control, null;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0)
		bb_simple_perror_msg_and_die("socketpair");
	control = old_command(o, OLD_REGISTER_FD);
	old_pass_fd(control, fd[1]);
	if ((opt & OPT_CACHE_ALL2) && !(opt & OPT_PROGRESS)) {
		/* This server has no copy of its own: a child of ours stays behind. */
		if (xfork() > 0)
			exit(EXIT_SUCCESS);
		setsid();
		null = open("/dev/null", O_RDWR);
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
	}
	old_copy(o, fd[0], control, run_blocks, opt);
	if (o->refused || o->local != o->blocks)
		bb_error_msg_and_die("%s: %llu blocks are still missing, %llu requests were refused", o->path,
				     (unsigned long long)(o->blocks - o->local), (unsigned long long)o->refused);
}

/* Whether the peer of this Unix socket is in our pid namespace, so that its pids are valid here. */
static bool old_same_pids(int fd)
{
	struct stat ours, theirs;
	struct ucred peer;
	socklen_t n = sizeof(peer);
	char path[32];

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)peer.pid); /* 0: a process that we cannot see */
	return stat(path, &theirs) == 0 && stat("/proc/self/ns/pid", &ours) == 0 && theirs.st_ino == ours.st_ino &&
	       theirs.st_dev == ours.st_dev;
}

static void old_switch(const struct old *o, unsigned opt)
{
	int fd;

	if (o->local != o->blocks && !(opt & OPT_FORCE))
		bb_error_msg_and_die("%s: %llu of %llu blocks are missing: run --cache-all first, or --force to do without them",
				     o->path, (unsigned long long)(o->blocks - o->local), (unsigned long long)o->blocks);
	fd = old_command(o, OLD_DETECT_SWITCH);
	if (!old_same_pids(fd))
		bb_error_msg_and_die("%s: process %d is of another pid namespace: send it SIGUSR2 there", o->path, (int)o->status.pid);
	if (o->status.pid <= 0 || kill(o->status.pid, SIGUSR2) < 0)
		bb_perror_msg_and_die("%s: process %d", o->path, (int)o->status.pid);
	old_wait(fd);
}

#if ENABLE_FEATURE_XNBD_BGCTL_RECONNECT
static void read_exactly(int fd, void *to, size_t n)
{
	if (full_read(fd, to, n) != (ssize_t)n)
		bb_simple_error_msg_and_die("the new origin does not answer like an NBD server; the old one stays");
}

/* "Oldstyle negotiation"; or "Newstyle negotiation" with nothing but EXPORT_NAME, which
 * every such server knows. Returns the size of the disk in bytes. */
static uint64_t old_handshake(int fd, const char *name)
{
	struct {
		char magic[8];
		uint64_t style;
	} PACKED greeting;
	struct {
		uint32_t flags;
		char magic[8];
		uint32_t option, length;
	} PACKED ask;
	uint16_t flags;
	uint64_t size;
	char rest[4 + 124];
	size_t n = strlen(name);

	read_exactly(fd, &greeting, sizeof(greeting));
	if (memcmp(greeting.magic, "NBDMAGIC", 8) != 0)
		memset(&greeting, 0, sizeof(greeting));
	if (greeting.style == SWAP_BE64(0x0000420281861253ULL)) {
		if (n)
			bb_simple_error_msg_and_die("the new origin has no names: leave --exportname out");
		read_exactly(fd, &size, sizeof(size));
		read_exactly(fd, rest, 4 + 124);
		return SWAP_BE64(size);
	}
	if (memcmp(&greeting.style, "IHAVEOPT", 8) != 0)
		bb_simple_error_msg_and_die("the new origin is not an NBD server; the old one stays");
	read_exactly(fd, &flags, sizeof(flags));
	ask.flags = flags & SWAP_BE16(1) ? SWAP_BE32(1) : 0; /* FIXED_NEWSTYLE */
	memcpy(ask.magic, "IHAVEOPT", 8);
	ask.option = SWAP_BE32(1); /* NBD_OPT_EXPORT_NAME */
	ask.length = SWAP_BE32((uint32_t)n);
	send(fd, &ask, sizeof(ask), MSG_NOSIGNAL);
	send(fd, name, n, MSG_NOSIGNAL);
	if (full_read(fd, &size, sizeof(size)) != sizeof(size))
		bb_error_msg_and_die("the new origin has no export '%s'; the old one stays", name);
	read_exactly(fd, rest, 2 + 124);
	return SWAP_BE64(size);
}

static void old_reconnect(const struct old *o, const char *host, const char *port, const char *name)
{
	int control;
	int fd = strncmp(host, "unix:", 5) == 0 ? connect_unix(host + 5)
						: create_and_connect_stream_or_die(host, (int)xatou_range(port, 1, 65535));

	set_timeout(fd, OLD_HANDSHAKE_S);
	if (old_handshake(fd, name ? name : "") != (uint64_t)o->status.disk_size)
		bb_simple_error_msg_and_die("the new origin is refused: it serves a disk of another size; the old one stays");
	set_timeout(fd, 0);
	control = old_command(o, OLD_REGISTER_FORWARDER_FD);
	old_pass_fd(control, fd);
	old_wait(control);
}
#endif

static int old_main(const char *path, unsigned opt, const char *blocks, char **argv UNUSED_PARAM,
		    const char *name UNUSED_PARAM)
{
	struct old *o = xzalloc(sizeof(*o));

	o->path = path;
	if (opt & OPT_VERIFY)
		bb_error_msg_and_die("%s: a server of xNBD does not know what clients have written", path);
	if (opt & (OPT_PAUSE | OPT_RESUME | OPT_CANCEL))
		bb_error_msg_and_die("%s: a server of xNBD has no copy of its own", path);
	if (opt & OPT_HOLD)
		bb_error_msg_and_die("%s: a server of xNBD cannot be told how long requests wait", path);
	old_open(o);
	if (opt & OPT_QUERY)
		old_query(o);
	if (opt & (OPT_CACHE_ALL | OPT_CACHE_ALL2))
		old_cache_all(o, blocks ? xatou_range(blocks, 1, 65536) : OLD_RUN_BLOCKS, opt);
	if (opt & OPT_SWITCH)
		old_switch(o, opt);
	IF_FEATURE_XNBD_BGCTL_RECONNECT(if (opt & OPT_RECONNECT) old_reconnect(o, argv[1], argv[2], name);)
	free(o);
	return EXIT_SUCCESS;
}
#endif

/* ---- commands ------------------------------------------------------------------------------- */

/* One request and its answer. Returns the exit status; -1: this server does not know
 * the language. */
static int converse(struct control *c, char *request, unsigned opt)
{
	size_t n = strlen(request);
	int status = EXIT_FAILURE; /* of an answer that is an error */
	char *line, *value;
#if ENABLE_FEATURE_XNBD_BGCTL_PROGRESS
	struct progress progress;

	progress_begin(&progress, opt);
#endif
	request[n++] = '\n';
	/* A server that went away meanwhile is found by reading. */
	send(c->fd, request, n, MSG_NOSIGNAL);
	for (;;) {
		line = read_line(c);
		if (!line)
			return -1;
		if (strcmp(line, "ok") == 0)
			break;
		value = strchr(line, ' ');
		if (!value)
			bb_error_msg_and_die("%s: the answer is not one of xnbd-server", c->path);
		*value++ = '\0';
		if (strcmp(line, "error") == 0 || strcmp(line, "note") == 0) {
			IF_FEATURE_XNBD_BGCTL_PROGRESS(show_end(&progress);)
			bb_error_msg("%s: %s", c->path, value);
			if (line[0] == 'e')
				return status;
			continue;
		}
		if (opt & OPT_VERIFY && strcmp(line, "verify") == 0)
			status = strcmp(value, "partial") == 0 ? EXIT_PARTIAL : EXIT_FAILURE;
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
	struct control control;
	char *blocks = NULL;
	char *name UNUSED_PARAM = NULL;
	IF_FEATURE_XNBD_BGCTL_JOB(char *rate = NULL;)
	IF_FEATURE_XNBD_BGCTL_HOLD(char *hold = NULL;)
	int status;
	char request[3 * (NAME_MAX_BYTES + 2 * ADDRESS_MAX_BYTES) + 128];
	char *to = request;
	unsigned opt = getopt32long(argv, options, long_options,
				    &blocks IF_FEATURE_XNBD_BGCTL_EXPORTNAME(, &name) IF_FEATURE_XNBD_BGCTL_JOB(, &rate)
				    IF_FEATURE_XNBD_BGCTL_HOLD(, &hold));

	argv += optind;
	check_usage(opt, argv);
	control.path = argv[0];
	control.first = control.end = 0;
	control.answered = false;
	control.fd = connect_unix(argv[0]);
	if (opt & OPT_QUERY) {
		set_timeout(control.fd, QUERY_TIMEOUT_S);
		to = stpcpy(to, "status");
	}
	if (opt & OPT_SWITCH)
		to = stpcpy(to, "switch");
	if (opt & (OPT_CACHE_ALL | OPT_CACHE_ALL2)) {
		to = stpcpy(to, "cache-all");
		if (blocks)
			to += snprintf(to, 16, " blocks=%u", xatou_range(blocks, 1, 65536));
	}
	if (opt & OPT_VERIFY)
		to = stpcpy(to, "verify");
#if ENABLE_FEATURE_XNBD_BGCTL_JOB
	if (rate && (opt & (OPT_CACHE_ALL | OPT_CACHE_ALL2 | OPT_VERIFY)))
		to += snprintf(to, 32, " rate=%llu", xatoull(rate));
#endif
	if ((opt & OPT_CACHE_ALL2) && (opt & OPT_PROGRESS)) {
		/* Starts the copy on its own first, so that it goes on when we do not. Then follows
		 * it with the same words: without them it would go back to the default. */
		status = converse(&control, request, 0);
		if (status < 0)
			goto old;
	}
	if ((opt & (OPT_CACHE_ALL | OPT_VERIFY)) || ((opt & OPT_CACHE_ALL2) && (opt & OPT_PROGRESS)))
		to = stpcpy(to, " follow");
	if (opt & OPT_PAUSE)
		to = stpcpy(to, "pause");
	if (opt & OPT_RESUME)
		to = stpcpy(to, "resume");
	if (opt & OPT_CANCEL)
		to = stpcpy(to, "cancel");
#if ENABLE_FEATURE_XNBD_BGCTL_HOLD
	if (opt & OPT_HOLD)
		to += snprintf(to, 32, "hold seconds=%u", xatou(hold));
#endif
#if ENABLE_FEATURE_XNBD_BGCTL_RECONNECT
	if (opt & OPT_RECONNECT)
		to = put_reconnect(to, argv[1], argv[2], name);
#endif
	if (opt & OPT_FORCE)
		stpcpy(to, " force");
	status = converse(&control, request, opt);
old:
	IF_FEATURE_XNBD_BGCTL_BINARY(if (status < 0) status = old_main(argv[0], opt, blocks, argv, name);)
	return status;
}
