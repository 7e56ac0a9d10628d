/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* xnbd-client: parses server addresses, connects, and performs the handshake. */
//kbuild:lib-$(CONFIG_XNBD_CLIENT) += xnbd_client_dial.o
#include "libbb.h"
#include "xnbd_client.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/wait.h>

enum {
	CONNECT_MS = 5000,    /* for an address */
	HANDSHAKE_MS = 15000, /* for all of it */
	IN_BYTES = NBD_OPTION_MAX + 20,
	FDS_MAX = 256, /* more than we have */
};

struct server servers[SERVERS_MAX + 1];
char server_error[256];

/* ---- words ------------------------------------------------------------------------------- */

static struct server *server_add(const char *host, const char *port, const char *export_name)
{
	static unsigned count;
	struct server *s = &servers[count];

	if (count++ == SERVERS_MAX)
		bb_simple_error_msg_and_die("too many servers: at most 8");
	s->host = host;
	s->port = port;
	s->export_name = export_name;
	return s;
}

static struct server *add_local(const char *path, const char *export_name)
{
	struct server *s = server_add("unix", path, export_name);

	s->is_local = true;
	return s;
}

void servers_local(const char *path, const char *export_name)
{
	add_local(path, export_name);
}

static void add_uri(char *text, const char *export_name)
{
	struct nbd_uri u;
	const char *wrong = nbd_uri_parse(text, &u);
	struct server *s;

	if (wrong)
		bb_error_msg_and_die("the URI %s", wrong);
	if (*u.export_name)
		export_name = u.export_name;
	s = u.path ? add_local(u.path, export_name) : server_add(u.host, u.port, export_name);
	if (ENABLE_FEATURE_XNBD_TLS && u.tls)
		s->psk = psk_one(u.psk_file, u.user);
}

void servers_parse(char **words, const char *export_name)
{
	if (!*words)
		bb_simple_error_msg_and_die("no server is given; try --help");
	while (*words) {
		char *word = *words++;

		if (nbd_is_uri(word)) {
			add_uri(word, export_name);
		} else if (strncmp(word, "unix:", 5) == 0) {
			servers_local(word + 5, export_name);
			if (*words && strcmp(*words, "-") == 0)
				words++;
		} else {
			server_add(word, *words ? *words : "10809", export_name);
			words += *words != NULL;
		}
	}
}

void servers_lock(void)
{
	const struct server *s;

	for (s = servers; s->host; s++)
		psk_lock(s->psk);
}

bool servers_use_tls(void)
{
	const struct server *s = servers;

	while (s->host && !s->psk)
		s++;
	return s->psk;
}

/* ---- connecting ------------------------------------------------------------------------------ */

static void set_error(const char *text)
{
	snprintf(server_error, sizeof(server_error), "%s", text);
}

/* Waits until fd is ready, or until end_ms. False: it is not, with errno. */
static bool wait_for(int fd, short events, unsigned long long end_ms)
{
	struct pollfd p = { .fd = fd, .events = events };
	unsigned long long now;
	int n;

	do {
		now = monotonic_ms();
		n = now < end_ms ? poll(&p, 1, (int)(end_ms - now)) : 0;
	} while (n < 0 && errno == EINTR);
	if (!n)
		errno = ETIMEDOUT;
	return n > 0;
}

static bool connect_to(int fd, const struct endpoint *e)
{
	int error = 0;
	socklen_t n = sizeof(error);

	if (connect(fd, &e->address.any, e->bytes) == 0)
		return true;
	if (errno != EINPROGRESS || !wait_for(fd, POLLOUT, monotonic_ms() + CONNECT_MS))
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0)
		errno = error;
	return !error;
}

static bool resolve(struct server *s)
{
	if (s->at.count)
		return true;
	if (!s->is_local) {
		if (endpoints_find(&s->at, s->host, s->port))
			return true;
		s->at.count = 0;
		set_error("no such host or port");
		return false;
	}
	s->at.count = endpoint_unix(&s->at.at[0], s->port);
	if (!s->at.count)
		set_error("its path is empty, or too long for a socket");
	return s->at.count;
}

/* A socket that does not block; -1. */
static int connect_any(struct server *s)
{
	unsigned i;

	if (!resolve(s))
		return -1;
	for (i = 0; i < s->at.count; i++) {
		int fd = endpoint_socket(&s->at.at[i]);

		if (fd >= 0 && connect_to(fd, &s->at.at[i]))
			return fd;
		set_error(strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	return -1;
}

/* ---- the handshake ------------------------------------------------------------------------------ */

/* A few bytes to a connection that is new: there is room for them. If not, the server hears too little, and the
 * handshake takes too long. */
static void send_bytes(void *ctx, const void *p, size_t n)
{
	send(*(const int *)ctx, p, n, MSG_NOSIGNAL);
}

static void NORETURN relay(int net, int local, const struct psk *psk)
{
	struct relay *r = relay_new(net, local, psk, "", NULL);
	struct server *s;
	int fd;

	for (s = servers; s->host; s++) /* it has the one that it needs */
		if (s->psk)
			secret_free((struct psk *)s->psk, sizeof(*s->psk));
	setsid();
	name_storage_daemon(); /* it lives as long as the device */
	for (fd = 0; fd < FDS_MAX; fd++) /* other connections' ends must not stay open here */
		if (fd != net && fd != local)
			close(fd);
	if (r)
		relay_run(r);
	_exit(0);
}

/* A process that has the server's records on *fd and gives us the data: *fd is our end. 0: there is none, with errno. */
static pid_t secure(int *fd, const struct psk *psk)
{
	const unsigned dead_ms = 20000;
	int pair[2];
	pid_t pid;

	/* The one that is to have our end cannot see whether the server is alive. */
	endpoint_keep(*fd, 5);
	setsockopt(*fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return 0;
	pid = bb_fork();
	if (pid == 0)
		relay(*fd, pair[1], psk);
	close(pair[1]);
	if (pid > 0) {
		close(*fd);
		*fd = pair[0];
		return pid;
	}
	close(pair[0]);
	return 0;
}

/* The relay, a process, says whether TLS has begun, and over which descriptor it goes on; where that is the kernel's
 * TLS, the process ends. */
static bool secured(struct nbd_client_handshake *h, int *local, pid_t relay_pid)
{
	char error[RELAY_TEXT_BYTES];
	int fd = relay_result(*local, error);

	if (fd < 0) {
		snprintf(server_error, sizeof(server_error), "TLS: %s", error);
		return false;
	}
	if (fd != *local) {
		close(*local);
		*local = fd;
		waitpid(relay_pid, NULL, 0);
	} else if (ENABLE_FEATURE_XNBD_TLS_KERNEL) {
		kernel_tls_off = true; /* not asked again: modprobe(8) may be on the device that waits for this connection */
	}
	nbd_client_secured(h);
	return true;
}

/* True: done. *hung_up: the server did. With TLS *fd becomes another one. */
static bool shake_hands(const struct server *s, int *fd, struct nbd_client_handshake *h, bool *hung_up)
{
	static uint8_t in[IN_BYTES];
	pid_t relay_pid = 0; /* while its result is waited for */
	unsigned long long end_ms = monotonic_ms() + HANDSHAKE_MS;
	enum nbd_handshake_state state;
	size_t have = 0, used;

	for (;;) {
		bool ready = wait_for(*fd, POLLIN, end_ms);
		ssize_t n = -1;

		if (ENABLE_FEATURE_XNBD_TLS && relay_pid && ready) {
			if (!secured(h, fd, relay_pid))
				return false;
			relay_pid = 0;
			continue;
		}
		if (ready)
			n = kernel_tls_received(*fd, false, recv(*fd, in + have, sizeof(in) - have, 0));
		if (ready && n < 0 && errno == EAGAIN)
			continue;
		if (n < 0 && errno == ETIMEDOUT)
			set_error("does not answer like an NBD server");
		*hung_up = n == 0 || (n < 0 && errno == ECONNRESET);
		if (*hung_up)
			set_error("hung up during the handshake");
		if (n <= 0)
			return false;
		have += (size_t)n;
		do {
			state = nbd_client_step(h, in, have, &used);
			have -= used;
			memmove(in, in + used, have);
		} while (state == NBD_HS_MORE && used);
		if (ENABLE_FEATURE_XNBD_TLS && state == NBD_HS_TLS && !have) {
			relay_pid = secure(fd, s->psk);
			if (!relay_pid)
				return false;
			continue;
		}
		if (state == NBD_HS_CLOSE)
			set_error(h->error);
		else if (state != NBD_HS_MORE && have)
			set_error("says more than it was asked");
		else if (state == NBD_HS_DONE)
			return true;
		if (state != NBD_HS_MORE)
			return false;
	}
}

static int dial(struct server *s, struct nbd_client_handshake *h, bool *hung_up)
{
	static int connected; /* for send_bytes() */
	const int on = 1;
	int fd = connect_any(s);

	*hung_up = false;
	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* harmless on a Unix socket */
	h->send = send_bytes;
	connected = fd;
	h->ctx = &connected;
	h->tls = s->psk;
	h->export_name = s->export_name;
	h->plain = s->plain;
	nbd_client_start(h);
	set_error(""); /* of an address that was tried before */
	if (shake_hands(s, &connected, h, hung_up))
		return connected;
	if (!*server_error)
		set_error(strerror(errno));
	close(connected);
	return -1;
}

int server_dial(struct server *s, struct nbd_client_handshake *h)
{
	bool hung_up;
	int fd = dial(s, h, &hung_up);

	if (fd < 0 && hung_up && !s->plain && !h->listed && nbd_client_is_haggling(h)) {
		s->plain = true; /* an old nbd-server: see nbd_client_is_haggling() */
		fd = dial(s, h, &hung_up);
		s->plain = fd >= 0;
	}
	return fd;
}

void server_hang_up(int fd)
{
	static const struct nbd_request_header disc = { .type = NBD_CMD_DISC };
	uint8_t raw[NBD_REQUEST_BYTES];

	nbd_request_encode(raw, &disc);
	send(fd, raw, sizeof(raw), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (ENABLE_FEATURE_XNBD_TLS_KERNEL)
		kernel_tls_end(fd);
	close(fd);
}
