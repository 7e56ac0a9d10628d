/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-client: from servers to a device, and what keeps it connected.
 *
 * By netlink the device needs no process. With --persist there is one: the kernel tells it of each connection that is
 * lost, and requests wait for the one that it brings. What was in flight is resent when the kernel's timer fires
 * (see server/device_kernel.c, which does the same from within a server).
 *
 * This process must not need the device to bring it back: addresses are looked up at the start, and with --swap its
 * memory is locked.
 */
//config:config FEATURE_XNBD_CLIENT_PERSIST
//config:	bool "--persist and --recovery-command (1.8 kb)"
//config:	default y
//config:	depends on XNBD_CLIENT
//config:	help
//config:	Lost connections are replaced, and the device waits for that; or a
//config:	command is run.
//config:
//config:config FEATURE_XNBD_CLIENT_IOCTL
//config:	bool "Kernels without netlink (760 bytes)"
//config:	default y
//config:	depends on XNBD_CLIENT
//config:	help
//config:	Devices are connected by ioctl(2) if the kernel is older than 4.12.
//kbuild:lib-$(CONFIG_XNBD_CLIENT) += xnbd_client_attach.o
#include "libbb.h"
#include "xnbd_client.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/wait.h>

enum {
	RETRY_MS = 1000,
	BUSY_MS = 3000,   /* whoever looks at a device, as udev does, keeps it busy for a moment */
	NOTICE_MS = 100,  /* the kernel tells of a lost connection before it accepts another one */
	POLL_MS = 2000,   /* how often a follower sees whether the device is still connected */
	AGAIN_MS = 5000,  /* as in server/device_kernel.c */
	IDENTIFIER_BYTES = 96,
	ABILITIES_BYTES = 16, /* the last ones of an identifier */
	START_MS = 5000,  /* from the first ioctl(2) to a device */
	X_PR_SET_IO_FLUSHER = 57,     /* linux/prctl.h, of Linux 5.6 */
};

/* A device, and what is behind it. */
struct attachment {
	const struct client *c;
	struct kernel_nbd_device device;
	uint64_t size_bytes; /* as the server says it */
	uint32_t max_payload; /* bytes; the longest request of the device, or more */
	struct server *server; /* of the present connections */
	bool is_gone;          /* disconnected, although it may still be open, or another one's */
	unsigned count, pid; /* pid: whoever has connected it, as the kernel says; another one has another device */
	int fds[KERNEL_NBD_CONNECTIONS_MAX]; /* until the kernel has them; without --persist also while their loss is waited for */
	char identifier[IDENTIFIER_BYTES];
};

static struct kernel_nbd kernel, events;

/* ---- servers --------------------------------------------------------------------------------- */

int client_dial(const struct client *c, struct nbd_client_handshake *h, struct server **s)
{
	unsigned round;
	int fd;

	for (round = 1;; round++) {
		for (*s = servers; (*s)->host; (*s)++) {
			fd = server_dial(*s, h);
			if (fd >= 0)
				return fd;
			if (round == c->retries || (!c->retries && round == 1))
				bb_error_msg("%s:%s: %s", (*s)->host, (*s)->port, server_error);
		}
		if (round == c->retries)
			xfunc_die();
		(void)poll(NULL, 0, RETRY_MS);
	}
}

/* What the kernel will be told of the export; dies of what it cannot be told. */
static void describe(struct attachment *a, const struct nbd_client_handshake *h)
{
	struct kernel_nbd_device *d = &a->device;
	const char *host = a->server->host, *port = a->server->port;

	d->block_bytes = a->c->block_bytes ? a->c->block_bytes : h->min_block > 512 ? h->min_block : 512;
	if (h->min_block > d->block_bytes || d->block_bytes > 4096)
		bb_error_msg_and_die("%s:%s: it needs a block size of %u; a device has %s", host, port, h->min_block,
				     d->block_bytes > 4096 ? "at most 4096" : "what was given");
	if (!h->size_bytes || h->size_bytes % d->block_bytes)
		bb_error_msg_and_die("%s:%s: its size, %llu bytes, is no multiple of the block size, %u", host, port,
				     (unsigned long long)h->size_bytes, d->block_bytes);
	a->size_bytes = d->size_bytes = h->size_bytes;
	a->max_payload = h->max_payload;
	d->transmission_flags = (uint16_t)(h->transmission_flags | (a->c->readonly ? NBD_FLAG_READ_ONLY : 0));
	d->timeout_s = a->c->timeout_s;
	if (ENABLE_FEATURE_XNBD_CLIENT_PERSIST && a->c->persist)
		d->dead_s = KERNEL_NBD_FOREVER_S;
}

/* What the kernel does, as the device was told that the server can. */
static unsigned needed_flags(const struct attachment *a)
{
	unsigned needed = NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES;

	if (a->device.transmission_flags & NBD_FLAG_READ_ONLY)
		return 0;
	if (a->c->connections > 1)
		needed |= NBD_FLAG_CAN_MULTI_CONN;
	return needed & a->device.transmission_flags;
}

/* Whether a connection made later is to the disk that the device has, and to a server that can what the device was told
 * of the first one. False: server_error tells. */
static bool is_same_disk(const struct attachment *a, const struct nbd_client_handshake *h)
{
	const char *wrong = NULL;

	if (h->size_bytes != a->size_bytes)
		wrong = "another size than that of the device";
	else if (h->transmission_flags & ~a->device.transmission_flags & NBD_FLAG_READ_ONLY)
		wrong = "it is read-only now";
	else if (needed_flags(a) & ~h->transmission_flags || h->min_block > a->device.block_bytes || h->max_payload < a->max_payload)
		wrong = "it can do less than the first server";
	snprintf(server_error, sizeof(server_error), "%s", wrong ? wrong : "");
	return !wrong;
}

/* FNV-1a, 64 bits, of a text with its end. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
	do
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3;
	while (*text++);
	return hash;
}

/* Only who serves what we began with may go on, be it a process of ours that was started again. Names of any length: a
 * hash of the first server and the export. Behind it what the device was told that the server can. */
static void identify(struct attachment *a)
{
	uint64_t hash = hash_text(hash_text(hash_text(0xcbf29ce484222325, servers->host), servers->port), servers->export_name);

	snprintf(a->identifier, sizeof(a->identifier), "xnbd-client %llu %016llx %04x%04x%08x", (unsigned long long)a->size_bytes,
		 (unsigned long long)hash, a->device.transmission_flags, a->device.block_bytes, a->max_payload);
	a->device.identifier = a->identifier;
}

/* Whether the device is of what we serve, and the server can what the device was told of the first one; it stays what
 * it is. */
static bool is_ours(struct attachment *a)
{
	struct nbd_client_handshake h = { .size_bytes = a->size_bytes, .transmission_flags = a->device.transmission_flags,
					  .min_block = a->device.block_bytes, .max_payload = a->max_payload };
	char told[IDENTIFIER_BYTES];
	uint64_t abilities = 0;
	const char *p;
	size_t n;

	identify(a);
	n = strlen(a->identifier) - ABILITIES_BYTES;
	if (!kernel_nbd_identifier(a->device.index, told, sizeof(told)) || strlen(told) != n + ABILITIES_BYTES || memcmp(told, a->identifier, n) != 0)
		return false;
	for (p = told + n; *p; p++) /* strtoull() costs 4 KB */
		abilities = abilities << 4 | (nbd_hex_digit(*p) & 15);
	a->device.transmission_flags = (uint16_t)(abilities >> 48);
	a->device.block_bytes = (uint16_t)(abilities >> 32);
	a->max_payload = (uint32_t)abilities;
	memcpy(a->identifier, told, sizeof(told));
	if (is_same_disk(a, &h))
		return true;
	bb_error_msg("'%s' cannot be taken over: %s", a->c->path, server_error);
	return false;
}

/* A server that is waited for has to be found dead: soon, and also while requests wait for it. */
static void prepare_socket(const struct client *c, int fd)
{
	const unsigned dead_ms = 20000;

	if (!c->persist)
		return;
	endpoint_keep(fd, 5);
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
}

static void dial_all(struct attachment *a)
{
	struct nbd_client_handshake h = { .simple = true };
	unsigned wanted = a->c->connections;

	a->fds[a->count++] = client_dial(a->c, &h, &a->server);
	describe(a, &h);
	if (wanted > 1 && !(a->device.transmission_flags & (NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_READ_ONLY))) {
		bb_error_msg("%s:%s: one connection, not %u: it does not say that they see each other's writes", a->server->host,
			     a->server->port, wanted);
		wanted = 1;
	}
	if (wanted > 1) /* the kernel insists */
		a->device.transmission_flags |= NBD_FLAG_CAN_MULTI_CONN;
	while (a->count < wanted) {
		int fd = server_dial(a->server, &h);

		if (fd < 0 || !is_same_disk(a, &h))
			bb_error_msg_and_die("%s:%s: connection %u: %s", a->server->host, a->server->port, a->count + 1, server_error);
		a->fds[a->count++] = fd;
	}
	while (wanted)
		prepare_socket(a->c, a->fds[--wanted]);
}

static void close_all(struct attachment *a)
{
	unsigned i;

	for (i = 0; i < a->count; i++)
		close(a->fds[i]);
}

/* How many connections of a device are lost, by descriptors that were kept: the kernel shuts its end of such a one down. */
static unsigned count_lost(const struct attachment *a)
{
	unsigned i, lost = 0;

	for (i = 0; i < a->count; i++) {
		struct pollfd p = { .fd = a->fds[i] };

		lost += poll(&p, 1, 0) > 0 && p.revents & POLLHUP;
	}
	return lost;
}

/* ---- the process that stays ------------------------------------------------------------------------ */

static void lock_memory(void)
{
	int fd;

	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		bb_simple_perror_msg_and_die("cannot lock the memory: be root, or raise RLIMIT_MEMLOCK");
	/* Only safer: the kernel then makes no memory for us by writing to the device. */
	prctl(X_PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || full_write(fd, "-1000", 5) != 5)
		bb_simple_perror_msg("oom_score_adj");
	if (fd >= 0)
		close(fd);
}

/* Two processes from here on: one keeps the device, and gets true; the other one has its partitions found, and
 * ends. --nofork decides which of the two is the one that was started. */
static bool divide(const struct client *c)
{
	pid_t pid = xfork();

	if (c->stay ? !pid : pid > 0)
		return false;
	/* systemd leaves a process alone whose name begins so, also when it is about to
	 * unmount everything ("Storage Daemons for the Root File System"). */
	program_invocation_name[0] = '@';
	if (c->swap)
		lock_memory(); /* of each process */
	if (ENABLE_FEATURE_XNBD_TLS)
		servers_lock();
	return true;
}

/* Nobody may wait for our end, or for what we have open. Messages go to the kernel's log. */
static void to_background(const struct client *c)
{
	int fd;

	if (c->stay)
		return;
	setsid();
	if (chdir("/") < 0)
		bb_simple_perror_msg("/");
	null_fd(STDIN_FILENO);
	null_fd(STDOUT_FILENO);
	null_fd(STDERR_FILENO);
	fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		dup2(fd, STDERR_FILENO);
		close(fd);
	}
}

/* Whoever opens a device that is new has its partitions read. */
static void scan(const struct attachment *a)
{
	int fd = open(a->c->path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
}

static void NORETURN die_busy(const struct attachment *a)
{
	bb_error_msg_and_die("'%s' is connected already, by process %u", a->c->path, kernel_nbd_pid(a->device.index));
}

static void NORETURN die_unconnected(const struct attachment *a, int error)
{
	if (error == EBUSY && kernel_nbd_pid(a->device.index))
		die_busy(a);
	bb_error_msg_and_die("'%s' cannot be connected: %s", a->c->path, strerror(error));
}

/* ---- a lost connection --------------------------------------------------------------------------------- */

/* Nothing that waits for the device waits any more: it gets an error. Then what was ordered for this case. */
static int recover(const struct attachment *a)
{
	const struct client *c = a->c;

	bb_error_msg("'%s' has lost its server, %s:%s", c->path, a->server->host, a->server->port);
	kernel_nbd_disconnect(&kernel, a->device.index);
	if (c->reboot)
		reboot(RB_AUTOBOOT);
	if (c->recovery) {
		char *argv[] = { (char *)"sh", (char *)"-c", (char *)c->recovery, NULL };

		execv("/bin/sh", argv);
	}
	return 1;
}

/* A connection to s for the device. False: server_error tells. */
static bool refill_from(struct attachment *a, struct server *s)
{
	struct nbd_client_handshake h = { .simple = true };
	int fd = server_dial(s, &h), error;

	if (fd < 0)
		return false;
	if (!is_same_disk(a, &h)) {
		server_hang_up(fd);
		return false;
	}
	prepare_socket(a->c, fd);
	error = kernel_nbd_reconfigure(&kernel, &a->device, &fd, 1);
	close(fd);
	a->is_gone = error == EINVAL;
	a->server = s;
	snprintf(server_error, sizeof(server_error), "%s", error ? strerror(error) : "");
	return !error;
}

/* refill_from(), and what is wrong is told once. */
static bool try_server(struct attachment *a, struct server *s)
{
	if (refill_from(a, s))
		return true;
	if (strncmp(s->told, server_error, sizeof(s->told) - 1) != 0) {
		snprintf(s->told, sizeof(s->told), "%s", server_error);
		bb_error_msg("'%s' has lost a connection. %s:%s: %s; trying on", a->c->path, s->host, s->port, server_error);
	}
	return false;
}

/* One more connection; as long as others are there, to the same server. */
static bool refill(struct attachment *a, unsigned lost)
{
	struct server *s;

	if (lost < a->count)
		return try_server(a, a->server);
	for (s = servers; s->host && !a->is_gone; s++)
		if (try_server(a, s))
			return true;
	return false;
}

static void forget_told(const struct attachment *a)
{
	struct server *s;

	for (s = servers; s->host; s++)
		s->told[0] = '\0';
	bb_error_msg("'%s' is connected again, to %s:%s", a->c->path, a->server->host, a->server->port);
}

/* Without sysfs only the kernel itself can tell whether the device has ended; with an identifier it also knows whose it
 * is. */
static bool has_ended(const struct attachment *a)
{
	if (!kernel_nbd_has_stayed(a->device.index, a->pid))
		return true;
	return a->device.identifier && !kernel_nbd_pid(a->device.index) && kernel_nbd_reconfigure(&kernel, &a->device, NULL, 0) == EINVAL;
}

/* Returns the exit status when the device has ended. */
static int follow(struct attachment *a)
{
	struct pollfd p = { .fd = events.fd, .events = POLLIN };
	unsigned lost = 0;
	bool failed = false;

	for (;;) {
		waitpid(-1, NULL, WNOHANG); /* of divide() */
		if (poll(&p, 1, lost ? failed ? RETRY_MS : NOTICE_MS : POLL_MS) > 0) {
			int index = kernel_nbd_lost(&events);

			if (index == (int)a->device.index)
				lost++;
			if (index == KERNEL_NBD_SOME || lost > a->count) /* to replace one that stands is harmless */
				lost = a->count;
		} else if (has_ended(a)) {
			return 0;
		} else if (!a->c->persist && lost == a->count) {
			lost = count_lost(a);
			if (lost == a->count)
				return recover(a);
		} else if (ENABLE_FEATURE_XNBD_CLIENT_PERSIST && a->c->persist && lost) {
			bool done = refill(a, lost);

			if (a->is_gone)
				return 0;
			if (done && failed)
				forget_told(a);
			lost -= done;
			failed = !done;
		}
	}
}

/* ---- by netlink ---------------------------------------------------------------------------------------- */

bool client_netlink(struct kernel_nbd *k)
{
	int error = kernel_nbd_open(k);

	if (error && error != ENOENT)
		bb_error_msg_and_die("netlink: %s", strerror(error));
	return !error;
}

/* How long the kernel's requests may be, and when it sends them again. To be called before there are any: from Linux 6.12
 * on, who writes to a file in queue/ waits until all are answered, and cannot be killed; to have them answered may be
 * up to us. So a device that is taken over keeps what it has. */
static void set_limits(struct attachment *a)
{
	static const char file[] = "queue/max_sectors_kb";
	const struct client *c = a->c;
	unsigned longest = kernel_nbd_get(a->device.index, file) << 10;

	if (a->max_payload < longest)
		kernel_nbd_set(a->device.index, file, a->max_payload >> 10);
	else if (longest)
		a->max_payload = longest;
	/* If it cannot be set, a lost connection costs 30 s. */
	a->device.keeps_timer = c->persist && a->count == 1 && !c->timeout_s && kernel_nbd_set(a->device.index, "queue/io_timeout", AGAIN_MS);
}

static int connect_device(struct attachment *a)
{
	unsigned long long end_ms = monotonic_ms() + BUSY_MS;
	bool persists = ENABLE_FEATURE_XNBD_CLIENT_PERSIST && a->c->persist;
	int error;

	if (kernel_nbd_pid(a->device.index))
		return persists && is_ours(a) ? kernel_nbd_reconfigure(&kernel, &a->device, a->fds, a->count) : EBUSY;
	set_limits(a);
	if (persists)
		identify(a);
	for (;;) {
		error = kernel_nbd_connect(&kernel, &a->device, a->fds, a->count);
		if (error != EBUSY || kernel_nbd_pid(a->device.index) || monotonic_ms() > end_ms)
			return error;
		(void)poll(NULL, 0, NOTICE_MS);
	}
}

static int attach_by_netlink(struct attachment *a)
{
	const struct client *c = a->c;
	bool follows = c->stay || (ENABLE_FEATURE_XNBD_CLIENT_PERSIST && (c->persist || c->recovery || c->reboot));
	int error;

	if (follows) {
		client_netlink(&events);
		error = kernel_nbd_subscribe(&events);
		if (error)
			bb_error_msg_and_die("netlink: %s", strerror(error));
	}
	error = connect_device(a);
	if (error)
		die_unconnected(a, error);
	a->pid = kernel_nbd_pid(a->device.index);
	if (c->persist || !follows)
		close_all(a);
	if (follows && divide(c)) {
		to_background(c);
		return follow(a);
	}
	scan(a);
	return 0;
}

/* ---- by ioctl ------------------------------------------------------------------------------------------- */

/* Until the device is there, or its process has ended. The kernel shows the size a moment before it can be asked for
 * partitions. */
static int await_device(const struct attachment *a)
{
	unsigned long long end_ms = monotonic_ms() + START_MS;

	while (!kernel_nbd_pid(a->device.index) || !kernel_nbd_get(a->device.index, "size")) {
		if (monotonic_ms() > end_ms || waitpid(-1, NULL, WNOHANG) > 0)
			return 1;
		(void)poll(NULL, 0, 20);
	}
	(void)poll(NULL, 0, NOTICE_MS);
	scan(a);
	return 0;
}

static int attach_by_ioctl(struct attachment *a)
{
	const struct client *c = a->c;
	int fd, error;

	if (ENABLE_FEATURE_XNBD_CLIENT_PERSIST && (c->persist || c->recovery || c->reboot))
		bb_error_msg_and_die("'%s': to notice a lost connection needs netlink, from Linux 4.12 on", c->path);
	if (kernel_nbd_pid(a->device.index))
		die_busy(a);
	if (!divide(c))
		return await_device(a);
	set_limits(a);
	fd = open(c->path, O_RDWR | O_CLOEXEC);
	error = fd < 0 ? errno : kernel_nbd_ioctl_connect(fd, &a->device, a->fds, a->count);
	if (error)
		die_unconnected(a, error);
	to_background(c);
	error = kernel_nbd_ioctl_run(fd);
	if (error)
		bb_error_msg("'%s': %s", c->path, strerror(error));
	else /* the kernel does not say which of the two it was */
		bb_error_msg("'%s' has ended", c->path);
	return error != 0;
}

int client_attach(const struct client *c)
{
	struct attachment a = { .c = c };
	bool netlink;

	a.device.index = client_index(c->path);
	netlink = !c->use_ioctl && client_netlink(&kernel);
	if (!netlink && !ENABLE_FEATURE_XNBD_CLIENT_IOCTL)
		bb_error_msg_and_die("'%s': the kernel has no netlink for nbd", c->path);
	if (!c->persist && kernel_nbd_pid(a.device.index))
		die_busy(&a);
	if (c->swap)
		lock_memory();
	dial_all(&a);
	if (netlink || !ENABLE_FEATURE_XNBD_CLIENT_IOCTL)
		return attach_by_netlink(&a);
	return attach_by_ioctl(&a);
}
