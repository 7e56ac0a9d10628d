/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Generic netlink: a message is a header, the header of the family, and attributes, all in the
 * machine's byte order, each a multiple of 4 bytes (netlink(7); linux/genetlink.h, nbd-netlink.h).
 */
#include "libbb.h"
#include "device/kernel_nbd.h"

#include <limits.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

enum {
	NBD_MAJOR = 43,
	NETLINK_GENERIC_PROTOCOL = 16,
	MESSAGE_BYTES = 8192, /* more than the kernel's description of a family */

	/* netlink.h */
	NLM_REQUEST = 1,
	NLM_ACK = 4,
	NLM_ERROR = 2, /* a type: the answer, error 0 if all is well */

	/* genetlink.h */
	CTRL_FAMILY = 16,
	CTRL_GET_FAMILY = 3,
	CTRL_ATTR_FAMILY_ID = 1,
	CTRL_ATTR_FAMILY_NAME = 2,
	CTRL_ATTR_GROUPS = 7,
	CTRL_ATTR_GROUP_ID = 2,
	ADD_MEMBERSHIP = 1, /* an option of the level SOL_NETLINK, 270 */
	LEVEL_NETLINK = 270,

	/* nbd-netlink.h */
	CMD_CONNECT = 1,
	CMD_DISCONNECT = 2,
	CMD_RECONFIGURE = 3,
	CMD_DEAD = 4,
	ATTR_INDEX = 1,
	ATTR_SIZE_BYTES = 2,
	ATTR_BLOCK_SIZE_BYTES = 3,
	ATTR_TIMEOUT = 4,
	ATTR_SERVER_FLAGS = 5,
	ATTR_CLIENT_FLAGS = 6,
	ATTR_SOCKETS = 7,
	ATTR_DEAD_CONN_TIMEOUT = 8,
	ATTR_BACKEND_IDENTIFIER = 10,
	SOCKET_ITEM = 1,
	SOCKET_FD = 1,
	DISCONNECT_ON_CLOSE = 2, /* of the client flags */
};

struct header {
	uint32_t length; /* of all */
	uint16_t type, flags;
	uint32_t sequence, port;
	union {
		int32_t error; /* of NLM_ERROR, negative */
		struct {
			uint8_t command, version;
			uint16_t reserved;
		};
	};
};

struct attribute {
	uint16_t length, type; /* length: with these 4 bytes, without padding */
};

struct message {
	struct header head;
	uint8_t attributes[MESSAGE_BYTES - sizeof(struct header)];
};

struct sockaddr_netlink {
	sa_family_t family;
	uint16_t pad;
	uint32_t port, groups;
};

/* ---- writing ---------------------------------------------------------------------------- */

static void message_begin(struct message *m, unsigned type, unsigned command)
{
	memset(m, 0, sizeof(*m));
	m->head.length = sizeof(m->head);
	m->head.type = (uint16_t)type;
	m->head.flags = NLM_REQUEST | NLM_ACK;
	m->head.command = (uint8_t)command;
	m->head.version = 1;
}

/* What is put between this and its end is inside the attribute. There is room for all that is put here. */
static struct attribute *put_begin(struct message *m, unsigned type)
{
	struct attribute *a = (void *)((char *)m + m->head.length);

	a->type = (uint16_t)type;
	m->head.length += sizeof(*a);
	return a;
}

static void put_end(struct message *m, struct attribute *a)
{
	a->length = (uint16_t)((char *)m + m->head.length - (char *)a);
	m->head.length = (m->head.length + 3) & ~3U;
}

static void put(struct message *m, unsigned type, const void *value, size_t n)
{
	struct attribute *a = put_begin(m, type);

	memcpy(a + 1, value, n);
	m->head.length += (uint32_t)n;
	put_end(m, a);
}

static void put32(struct message *m, unsigned type, uint32_t value)
{
	put(m, type, &value, sizeof(value));
}

static void put64(struct message *m, unsigned type, uint64_t value)
{
	put(m, type, &value, sizeof(value));
}

/* ---- reading ------------------------------------------------------------------------------ */

/* The attribute of this type among the n bytes at p, NULL if there is none. *bytes: of its value. */
static const void *find(const uint8_t *p, size_t n, unsigned type, size_t *bytes)
{
	while (n >= sizeof(struct attribute)) {
		const struct attribute *a = (const void *)p;
		size_t all = (a->length + 3U) & ~3U;

		if (a->length < sizeof(*a) || a->length > n)
			break;
		if ((a->type & 0x3fff) == type) { /* two bits are flags */
			*bytes = a->length - sizeof(*a);
			return a + 1;
		}
		if (all > n)
			break;
		p += all;
		n -= all;
	}
	return NULL;
}

/* 0: it is not there. */
static uint32_t find32(const uint8_t *p, size_t n, unsigned type)
{
	size_t bytes;
	const void *value = find(p, n, type, &bytes);
	uint32_t number = 0;

	if (value && bytes <= sizeof(number))
		memcpy(&number, value, bytes);
	return number;
}

/* Receives a message. Returns the bytes of its attributes; -1 with errno. */
static ssize_t message_read(const struct kernel_nbd *k, struct message *m)
{
	struct sockaddr_netlink from = { .port = 0 };
	socklen_t from_bytes = sizeof(from);
	ssize_t n;

	do
		n = recvfrom(k->fd, m, sizeof(*m), 0, (void *)&from, &from_bytes);
	while ((n < 0 && errno == EINTR) || (n >= 0 && from.port)); /* any process may send to a port; the kernel's is 0 */
	if (n < 0)
		return -1;
	if ((size_t)n >= sizeof(m->head) && m->head.length >= sizeof(m->head) && m->head.length <= (size_t)n)
		return (ssize_t)(m->head.length - sizeof(m->head));
	errno = EPROTO;
	return -1;
}

/* Sends m and waits for its end. answer: NULL, or gets the message that comes before, and *answer_bytes the bytes
 * of its attributes. 0, or an errno. */
static int converse(const struct kernel_nbd *k, struct message *m, struct message *answer, ssize_t *answer_bytes)
{
	static _Atomic uint32_t sequence;
	uint32_t ours = ++sequence;
	struct message got;
	ssize_t n;

	m->head.sequence = ours;
	do
		n = send(k->fd, m, m->head.length, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno;
	for (;;) {
		n = message_read(k, &got);
		if (n < 0)
			return errno;
		if (got.head.sequence != ours)
			continue;
		if (got.head.type == NLM_ERROR)
			return -got.head.error;
		if (answer) {
			*answer = got;
			*answer_bytes = n;
		}
	}
}

/* The decimal number that a text begins with; *end: what is behind it. At most INT_MAX: there are no larger ones. */
static unsigned number(const char *text, const char **end)
{
	unsigned n = 0;

	for (; *text >= '0' && *text <= '9' && n < INT_MAX / 10; text++)
		n = n * 10 + (unsigned)(*text - '0');
	*end = text;
	return n;
}

/* ---- the kernel ------------------------------------------------------------------------------ */

int kernel_nbd_index(const char *path)
{
	struct stat st;
	char link[64], name[256];
	const char *end;
	unsigned index;
	ssize_t n;

	if (stat(path, &st) < 0)
		return -1;
	errno = ENOTBLK;
	if (!S_ISBLK(st.st_mode) || major(st.st_rdev) != NBD_MAJOR)
		return -1;
	/* How many minor numbers are left for partitions depends on the module's parameters: the name tells. */
	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(st.st_rdev), minor(st.st_rdev));
	n = readlink(link, name, sizeof(name) - 1);
	if (n < 0)
		return -1;
	name[n] = '\0';
	errno = ENOTBLK;
	end = strrchr(name, '/');
	if (!end || strncmp(end, "/nbd", 4) != 0 || end[4] < '0' || end[4] > '9')
		return -1;
	index = number(end + 4, &end);
	return *end ? -1 : (int)index;
}

bool kernel_nbd_is_since(unsigned major, unsigned minor)
{
	struct utsname u;
	const char *end;
	unsigned n;

	uname(&u);
	n = number(u.release, &end);
	return n > major || (n == major && *end == '.' && number(end + 1, &end) >= minor);
}

int kernel_nbd_open(struct kernel_nbd *k)
{
	struct message m, answer;
	ssize_t n = 0;
	size_t groups_bytes = 0, group_bytes = 0;
	const void *groups, *group;
	int error;

	k->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC_PROTOCOL);
	if (k->fd < 0)
		return errno == EPROTONOSUPPORT ? ENOENT : errno; /* EAFNOSUPPORT: a filter, as of systemd's RestrictAddressFamilies */
	message_begin(&m, CTRL_FAMILY, CTRL_GET_FAMILY);
	put(&m, CTRL_ATTR_FAMILY_NAME, "nbd", sizeof("nbd"));
	error = converse(k, &m, &answer, &n);
	if (error) {
		close(k->fd);
		return error;
	}
	k->family = (uint16_t)find32(answer.attributes, (size_t)n, CTRL_ATTR_FAMILY_ID);
	/* It has one group. */
	groups = find(answer.attributes, (size_t)n, CTRL_ATTR_GROUPS, &groups_bytes);
	group = groups ? find(groups, groups_bytes, 1, &group_bytes) : NULL;
	k->group = group ? find32(group, group_bytes, CTRL_ATTR_GROUP_ID) : 0;
	return k->family ? 0 : EPROTO;
}

static void put_sockets(struct message *m, const int *fds, unsigned count)
{
	struct attribute *sockets = put_begin(m, ATTR_SOCKETS), *item;

	for (; count; count--, fds++) {
		item = put_begin(m, SOCKET_ITEM);
		put32(m, SOCKET_FD, (uint32_t)*fds);
		put_end(m, item);
	}
	put_end(m, sockets);
}

/* 0 means never. Before Linux 5.4 there is no such value, and with several connections the block layer's 30 s is right:
 * by it what was in flight on a lost one goes to another. */
static uint64_t timeout(const struct kernel_nbd_device *d, unsigned count)
{
	if (d->timeout_s || kernel_nbd_is_since(5, 4))
		return d->timeout_s;
	return count > 1 ? 30 : KERNEL_NBD_FOREVER_S;
}

static void put_device(struct message *m, const struct kernel_nbd *k, unsigned command, const struct kernel_nbd_device *d, unsigned count)
{
	message_begin(m, k->family, command);
	put32(m, ATTR_INDEX, d->index);
	if (d->timeout_s || (command == CMD_CONNECT && !d->keeps_timer)) /* else the queue's own, io_timeout, would become 30 s again */
		put64(m, ATTR_TIMEOUT, timeout(d, count));
	put64(m, ATTR_DEAD_CONN_TIMEOUT, d->dead_s);
	put64(m, ATTR_CLIENT_FLAGS, d->ends_on_close ? DISCONNECT_ON_CLOSE : 0);
	if (d->identifier)
		put(m, ATTR_BACKEND_IDENTIFIER, d->identifier, strlen(d->identifier) + 1);
}

int kernel_nbd_connect(const struct kernel_nbd *k, const struct kernel_nbd_device *d, const int *fds, unsigned count)
{
	struct message m;

	put_device(&m, k, CMD_CONNECT, d, count);
	put64(&m, ATTR_SIZE_BYTES, d->size_bytes / 512 * 512);
	put64(&m, ATTR_BLOCK_SIZE_BYTES, d->block_bytes);
	put64(&m, ATTR_SERVER_FLAGS, d->transmission_flags);
	put_sockets(&m, fds, count);
	return converse(k, &m, NULL, NULL);
}

int kernel_nbd_reconfigure(const struct kernel_nbd *k, const struct kernel_nbd_device *d, const int *fds, unsigned count)
{
	struct message m;

	put_device(&m, k, CMD_RECONFIGURE, d, count);
	put_sockets(&m, fds, count);
	return converse(k, &m, NULL, NULL);
}

int kernel_nbd_disconnect(const struct kernel_nbd *k, uint32_t index)
{
	struct message m;

	message_begin(&m, k->family, CMD_DISCONNECT);
	put32(&m, ATTR_INDEX, index);
	return converse(k, &m, NULL, NULL);
}

/* ---- lost connections -------------------------------------------------------------------------- */

int kernel_nbd_subscribe(const struct kernel_nbd *k)
{
	if (!k->group)
		return ENOENT;
	return setsockopt(k->fd, LEVEL_NETLINK, ADD_MEMBERSHIP, &k->group, sizeof(k->group)) < 0 ? errno : 0;
}

int kernel_nbd_lost(const struct kernel_nbd *k)
{
	struct message m;
	ssize_t n;

	do {
		n = message_read(k, &m);
		if (n < 0)
			return errno == ENOBUFS ? KERNEL_NBD_SOME : -1;
	} while (m.head.type != k->family || m.head.command != CMD_DEAD);
	return (int)find32(m.attributes, (size_t)n, ATTR_INDEX);
}

/* ---- sysfs ---------------------------------------------------------------------------------------- */

static int open_file(uint32_t index, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/nbd%u/%s", index, name);
	return open(path, flags | O_CLOEXEC);
}

/* The line of a file of the device, without its end. False: there is none. */
static bool read_file(uint32_t index, const char *name, char *to, unsigned bytes)
{
	int fd = open_file(index, name, O_RDONLY);
	ssize_t n = -1;

	if (fd >= 0) {
		n = safe_read(fd, to, bytes - 1);
		close(fd);
	}
	if (n < 0)
		return false;
	if (n && to[n - 1] == '\n')
		n--;
	to[n] = '\0';
	return true;
}

unsigned kernel_nbd_get(uint32_t index, const char *attribute)
{
	char text[16];
	const char *end;

	return read_file(index, attribute, text, sizeof(text)) ? number(text, &end) : 0;
}

unsigned kernel_nbd_pid(uint32_t index)
{
	return kernel_nbd_get(index, "pid");
}

bool kernel_nbd_has_stayed(uint32_t index, unsigned pid)
{
	unsigned now = kernel_nbd_pid(index);

	return now == pid || (!now && access("/sys/block", F_OK) < 0);
}

bool kernel_nbd_identifier(uint32_t index, char *to, unsigned bytes)
{
	return read_file(index, "backend", to, bytes);
}

bool kernel_nbd_set(uint32_t index, const char *attribute, unsigned value)
{
	int fd = open_file(index, attribute, O_WRONLY);
	char text[16];
	int n = snprintf(text, sizeof(text), "%u", value);
	bool done = fd >= 0 && full_write(fd, text, (size_t)n) == n;

	if (fd >= 0)
		close(fd);
	return done;
}
