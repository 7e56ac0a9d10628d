/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Files of keys, and the keys of this process. */
#include "libbb.h"
#include "nbd/nbd.h"
#include "reactor/handover.h"
#include "reactor/lock.h"
#include "secure/keys.h"

#include <sys/mman.h>

enum {
	FILE_BYTES_MAX = 256 << 10, /* thousands of keys */
	STACK_BYTES = 16 << 10,     /* that TLS needs, several times */
};

/* Where the kernel refuses one of these, it is only less. */
static void keep_secret(void *p, size_t bytes)
{
	madvise(p, bytes, MADV_DONTDUMP);
	mlock(p, bytes);
}

void *secret_new(size_t bytes)
{
	/* cppcheck-suppress invalidFunctionArg ; it does not know that -1 goes with MAP_ANONYMOUS */
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	keep_secret(p, bytes);
	return p;
}

void secret_stack(void)
{
	char *here = __builtin_frame_address(0);
	size_t below = STACK_BYTES + ((uintptr_t)here & ((size_t)getpagesize() - 1));

	keep_secret(here - below, below);
}

void secret_free(void *p, size_t bytes)
{
	memset(p, 0, bytes);
	__asm__ volatile("" : : "r"(p) : "memory"); /* it is not left out */
	munmap(p, bytes);
}

/* ---- reading ------------------------------------------------------------------------------ */

struct text {
	char *bytes;
	size_t size;
};

/* False: with errno. EPERM: others may read it. */
static bool text_read(struct text *t, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool ok = false;
	struct stat st;
	int error;

	t->bytes = NULL;
	if (fd < 0)
		return false;
	if (fstat(fd, &st) < 0) {
		;
	} else if (!S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX) {
		errno = EFBIG;
	} else if (st.st_mode & 077) {
		errno = EPERM;
	} else {
		t->size = (size_t)st.st_size + 1;
		t->bytes = secret_new(t->size);
		ok = t->bytes && full_read(fd, t->bytes, t->size - 1) >= 0;
	}
	error = errno;
	close(fd);
	errno = error;
	if (!ok && t->bytes)
		secret_free(t->bytes, t->size);
	return ok;
}

/* NULL, or what is wrong with it. */
static const char *parse_line(const char *line, const char *end, struct psk *k)
{
	const char *colon = memchr(line, ':', (size_t)(end - line)), *p;
	size_t name_bytes = colon ? (size_t)(colon - line) : 0, digits = colon ? (size_t)(end - colon) - 1 : 0;

	if (!name_bytes || name_bytes > TLS_NAME_MAX)
		return "this is not NAME:KEY with a name of 1 to 128 bytes";
	if (digits % 2 || digits / 2 < TLS_PSK_MIN || digits / 2 > TLS_PSK_MAX)
		return "the key must be 16 to 64 bytes, in hexadecimal";
	k->name_bytes = (uint8_t)name_bytes;
	memcpy(k->name, line, name_bytes);
	k->key_bytes = 0;
	for (p = colon + 1; p < end; p += 2) {
		int high = nbd_hex_digit(p[0]), low = nbd_hex_digit(p[1]);

		if (high < 0 || low < 0)
			return "the key is not hexadecimal";
		k->key[k->key_bytes++] = (uint8_t)(high << 4 | low);
	}
	return NULL;
}

static const struct psk *find(const struct psk_list *l, const void *name, size_t bytes)
{
	unsigned i;

	for (i = 0; i < l->count; i++)
		if (l->psk[i].name_bytes == bytes && !memcmp(l->psk[i].name, name, bytes))
			return &l->psk[i];
	return NULL;
}

/* NULL, or what is wrong in line *n. */
static const char *parse_text(const char *text, struct psk_list *l, unsigned *n)
{
	const char *wrong = NULL;

	for (*n = 1; *text && !wrong; ++*n) {
		const char *end = strchrnul(text, '\n'), *stop = end;
		struct psk *k = &l->psk[l->count];

		if (stop > text && stop[-1] == '\r')
			stop--;
		if (stop > text && *text != '#') {
			wrong = parse_line(text, stop, k);
			if (!wrong && find(l, k->name, k->name_bytes))
				wrong = "there was a key of this name before";
			l->count++;
		}
		text = *end ? end + 1 : end;
	}
	--*n;
	return wrong ? wrong : l->count ? NULL : "there is no key in it";
}

static unsigned count_lines(const char *text)
{
	unsigned n = 1;

	while ((text = strchr(text, '\n'))) {
		text++;
		n++;
	}
	return n;
}

struct psk_list *psk_read(const char *path, char *error)
{
	struct psk_list *l = NULL;
	const char *wrong;
	unsigned line = 0;
	struct text t;
	size_t bytes;

	if (!text_read(&t, path)) {
		snprintf(error, PSK_ERROR_BYTES, "keys of '%s': %s", path,
			 errno == EPERM ? "others may read or change this file: chmod 600" : errno == EFBIG ? "the file is too large" : strerror(errno));
		return NULL;
	}
	bytes = sizeof(*l) + count_lines(t.bytes) * sizeof(l->psk[0]);
	l = secret_new(bytes);
	if (l)
		l->bytes = (uint32_t)bytes;
	wrong = l ? parse_text(t.bytes, l, &line) : "out of memory";
	secret_free(t.bytes, t.size);
	if (!wrong)
		return l;
	snprintf(error, PSK_ERROR_BYTES, "keys of '%s', line %u: %s", path, line, wrong);
	if (l)
		psk_free(l);
	return NULL;
}

void psk_free(struct psk_list *l)
{
	secret_free(l, l->bytes);
}

struct psk *psk_dup(const struct psk *k)
{
	struct psk *copy = secret_new(sizeof(*copy));

	if (copy)
		*copy = *k;
	return copy;
}

const struct psk *psk_one(const char *path, const char *name)
{
	char error[PSK_ERROR_BYTES];
	struct psk_list *l = psk_read(path, error);
	const struct psk *k;
	struct psk *one;
	bool several;

	if (!l)
		bb_simple_error_msg_and_die(error);
	several = !name && l->count > 1;
	k = name ? find(l, name, strlen(name)) : l->psk;
	one = k && !several ? psk_dup(k) : NULL;
	psk_free(l); /* the others' are none of ours, and the process may survive what follows */
	if (several)
		bb_error_msg_and_die("there are several keys in '%s': write which one, nbds://NAME@...", path);
	if (!k)
		bb_error_msg_and_die("there is no key of this name in '%s'", path);
	if (!one)
		bb_simple_error_msg_and_die("out of memory");
	return one;
}

/* ---- those of this process ------------------------------------------------------------------- */

static struct mutex lock;
static struct psk_list *used;

void psk_lock(const struct psk *one)
{
	if (used)
		mlock(used, used->bytes);
	if (one)
		mlock(one, sizeof(*one));
}

void psk_forget(const struct psk *one)
{
	psk_use(NULL);
	if (one)
		secret_free((struct psk *)one, sizeof(*one));
}

void psk_use(struct psk_list *l)
{
	struct psk_list *old;

	mutex_lock(&lock);
	old = used;
	used = l;
	mutex_unlock(&lock);
	if (old)
		psk_free(old);
}

bool psk_find(const uint8_t *name, size_t bytes, struct psk *to)
{
	const struct psk *k;

	mutex_lock(&lock);
	k = used ? find(used, name, bytes) : NULL;
	if (k)
		*to = *k;
	mutex_unlock(&lock);
	return k;
}

/* ---- for another program in this process ------------------------------------------------------- */

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
static struct memory handed; /* a struct psk_list; behind its keys, those of origins */
static struct psk *next_key, *last_key; /* of an origin; behind the last one */

void psk_handover_end(void)
{
	if (!handed.bytes)
		return;
	if (handed.map)
		secret_free(handed.map, handed.bytes);
	handed.map = NULL;
	memory_free(&handed);
	handed.bytes = 0;
}

/* The descriptor; -1: there are no keys, or handover.why says why. */
static int put(unsigned origins)
{
	unsigned count = used ? used->count : 0;
	struct psk_list *l;
	size_t bytes = sizeof(*l) + (count + origins) * sizeof(*l->psk);

	if (!count && !origins)
		return -1;
	l = memory_new(&handed, bytes);
	if (!l) {
		handover.why = "out of memory";
		return -1;
	}
	keep_secret(l, bytes);
	if (count)
		memcpy(l, used, sizeof(*l) + count * sizeof(*l->psk));
	next_key = l->psk + count;
	return handed.fd;
}

static void get(int fd)
{
	struct psk_list *l = NULL;
	const struct psk *k;
	struct stat st;
	size_t bytes, count;

	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(*l))
		handover_die();
	handed.fd = fd;
	handed.bytes = bytes = (size_t)st.st_size;
	handed.map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (handed.map != MAP_FAILED)
		l = secret_new(bytes);
	if (!l)
		bb_simple_error_msg_and_die("out of memory");
	memcpy(l, handed.map, bytes);
	psk_handover_end();
	l->bytes = (uint32_t)bytes;
	count = (bytes - sizeof(*l)) / sizeof(*l->psk);
	last_key = l->psk + count;
	for (k = l->psk; k < last_key; k++)
		if (k->name_bytes > TLS_NAME_MAX || k->key_bytes > TLS_PSK_MAX)
			handover_die();
	if (l->count > count)
		handover_die();
	next_key = l->psk + l->count;
	psk_use(l);
}

void psk_handover(unsigned origins)
{
	int fd = -1;

	if (!handover.reads) {
		mutex_lock(&lock); /* a worker may have read others just now */
		fd = put(origins);
		mutex_unlock(&lock);
	}
	handover_fd(&fd);
	if (handover.reads && fd >= 0)
		get(fd);
}

const struct psk *psk_handover_next(const struct psk *k)
{
	if (handover.reads)
		return next_key < last_key ? next_key++ : NULL;
	if (handed.map)
		*next_key++ = *k;
	return k;
}
#endif
