// SPDX-License-Identifier: GPL-2.0-only
/*
 * Answers forwarded accesses as the test guest wants it (guest-stub/src/served.rs),
 * so that its steps of mode `client` are tests of this module too.
 */

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test.h"

#define BASE		0xc000000
#define ID		(BASE + 0x00)
#define COMMAND		(BASE + 0x08)
#define WRONG		(BASE + 0x10)
#define LAST_IPA	(BASE + 0x20)
#define LAST_VALUE	(BASE + 0x28)
#define LAST_KIND	(BASE + 0x30)
#define COUNT		(BASE + 0x38)
#define RINGS		(BASE + 0x100)
#define VALUES		(BASE + 0x1000)
#define BELLS		(BASE + 0x2000)
#define ID_VALUE	0x646576726573

enum command {
	ERROR = 1, FOREIGN, TWICE,
	SET_BELLS = 0x20, REMOVE_BELLS,
	BYE = 0x2f,
};

#define MOST_BELLS	4
static const struct {
	uint64_t offset;
	uint32_t size, match;
	uint64_t value;
} bell_kinds[MOST_BELLS] = {
	{ 0x00, 4, 0, 0 }, { 0x10, 4, 1, 0x80000007 }, { 0x20, 8, 0, 0 },
	{ 0x30, 1, 1, 5 },
};

struct server {
	int			fd;
	int			bell[MOST_BELLS];
	uint64_t		rings[MOST_BELLS];
	uint64_t		wrong, count, behave;
	struct portcullis_access last;
};

static uint64_t mix(uint64_t value)
{
	value = (value ^ value >> 31) * 0x9e3779b97f4a7c15;
	return (value ^ value >> 29) * 0xbf58476d1ce4e5b9 ^ value >> 32;
}

static void set_bells(struct server *server, int set)
{
	unsigned int n;

	for (n = 0; n < MOST_BELLS; n++) {
		struct portcullis_bell bell = {
			.ipa	= BELLS + bell_kinds[n].offset,
			.value	= set ? bell_kinds[n].value : 0,
			.number	= n,
			.size	= bell_kinds[n].size,
			.match	= set && bell_kinds[n].match,
			.fd	= set ? server->bell[n] : -1,
		};

		expect(ioctl(server->fd, PORTCULLIS_DOORBELL, &bell), 0);
	}
}

static uint64_t load(struct server *server, uint64_t ipa)
{
	const struct portcullis_access *last = &server->last;
	unsigned int n;

	switch (ipa) {
	case ID:
		return ID_VALUE;
	case WRONG:
		return server->wrong;
	case LAST_IPA:
		return last->ipa;
	case LAST_VALUE:
		return last->value;
	case LAST_KIND:
		return last->size | last->store << 8 | last->vcpu << 16;
	case COUNT:
		return server->count;
	}
	for (n = 0; n < MOST_BELLS; n++)
		server->rings[n] += signals(server->bell[n], 0);
	n = (ipa - RINGS) / 8;
	return n < MOST_BELLS ? server->rings[n] : 0;
}

static void store(struct server *server, const struct portcullis_access *access)
{
	if (access->ipa != COMMAND)
		server->wrong++;
	else if (access->value == SET_BELLS || access->value == REMOVE_BELLS)
		set_bells(server, access->value == SET_BELLS);
	else
		server->behave = access->value;
}

static void answer(int fd, const struct portcullis_access *access,
		   uint64_t value, uint64_t behave)
{
	struct portcullis_answer good = { access->seq, value, access->vcpu, 0 };
	struct portcullis_answer bad = good;

	if (behave == FOREIGN) {
		bad.seq++;
		expect(ioctl(fd, PORTCULLIS_ANSWER, &bad), EINVAL);
		bad.seq -= 2;
		expect(ioctl(fd, PORTCULLIS_ANSWER, &bad), EINVAL);
	}
	good.error = behave == ERROR;
	expect(ioctl(fd, PORTCULLIS_ANSWER, &good), 0);
	if (behave == TWICE)
		expect(ioctl(fd, PORTCULLIS_ANSWER, &good), EINVAL);
}

static void check(struct server *server, const struct portcullis_access *access)
{
	uint64_t mask = access->size >= 8 ? -1UL :
					     (1UL << access->size * 8) - 1;

	if (access->pad || access->store > 1 || access->value & ~mask ||
	    access->size > 8 || access->size & (access->size - 1) ||
	    (!access->store && access->value))
		server->wrong++;
}

void serve(const char *name)
{
	struct server server = { .fd = open_node(name, O_RDWR | O_NONBLOCK) };
	struct portcullis_access access;
	unsigned int n;

	if (server.fd < 0)
		die("%s: %s", name, strerror(errno));
	for (n = 0; n < MOST_BELLS; n++)
		server.bell[n] = new_eventfd();
	attach(server.fd);
	while (server.behave != BYE) {
		struct pollfd poll_fd = { server.fd, POLLIN, 0 };

		if (poll(&poll_fd, 1, 60000) != 1)
			die("no access for a minute");
		if (poll_fd.revents & POLLHUP)
			die("the peer is gone");
		expect(ioctl(server.fd, PORTCULLIS_NEXT, &access), 0);
		check(&server, &access);
		if (access.ipa < VALUES) {
			uint64_t value = access.store ?
				-1UL : load(&server, access.ipa);

			if (access.store)
				store(&server, &access);
			answer(server.fd, &access, value, 0);
			continue;
		}
		server.last = access;
		server.count++;
		answer(server.fd, &access, mix(access.ipa ^ 0x736572766564),
		       server.behave);
		server.behave = 0;
	}
	if (server.wrong)
		die("%lu accesses were wrong", (long)server.wrong);
	close(server.fd);
}
