// SPDX-License-Identifier: GPL-2.0-only
/*
 * A doorbell, and the end of a life: with a peer that loads from its first
 * forwarded page and stores to its third in turn, and resets itself after a while.
 */

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test.h"

#define LOADED	0xc000000
#define STORED	0xc002000

/* Answers what waits, if anything does within a second. The address, or 0. */
static uint64_t answer_one(int fd)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	struct portcullis_access access;
	struct portcullis_answer answer;

	if (poll(&poll_fd, 1, 1000) != 1 || poll_fd.revents != POLLIN)
		return 0;
	expect(ioctl(fd, PORTCULLIS_NEXT, &access), 0);
	answer = (struct portcullis_answer) { access.seq, 1, access.vcpu, 0 };
	expect(ioctl(fd, PORTCULLIS_ANSWER, &answer), 0);
	return access.ipa;
}

/* Attaches to the life that runs, once the one that is over has ended. */
static void attach_again(int fd, int life)
{
	uint64_t now;

	while (!(node_info(fd).flags & PORTCULLIS_RUNNING))
		if (!signals(life, 10000))
			die("the peer does not start");
	now = node_info(fd).life;
	expect(ioctl(fd, PORTCULLIS_ATTACH, &now), 0);
}

static void bell(int fd)
{
	int event = new_eventfd(), n, stores = 0;
	struct portcullis_bell bell = { STORED, 0, 7, 4, 0, event };

	/* An access that could not be handed out is not lost. */
	while (ioctl(fd, PORTCULLIS_NEXT, NULL) && errno == EAGAIN)
		usleep(1000);
	if (errno != EFAULT)
		die("NEXT to nowhere: %s", strerror(errno));
	if (!answer_one(fd))
		die("the access is lost");

	for (n = 0; n < 10; n++)
		stores += answer_one(fd) == STORED;
	if (!stores || signals(event, 0))
		die("%d stores before the doorbell", stores);
	expect(ioctl(fd, PORTCULLIS_DOORBELL, &bell), 0);
	/* One that waited before is still there. */
	answer_one(fd);
	for (n = 0; n < 10; n++)
		if (answer_one(fd) != LOADED || !signals(event, 1000))
			die("the doorbell is not rung");
	bell = (struct portcullis_bell) { .number = 7, .fd = -1 };
	expect(ioctl(fd, PORTCULLIS_DOORBELL, &bell), 0);
	signals(event, 0);
	for (n = 0, stores = 0; n < 10; n++)
		stores += answer_one(fd) == STORED;
	if (!stores || signals(event, 0))
		die("the doorbell was not removed");
	close(event);
}

void lives(const char *name)
{
	int fd = open_node(name, O_RDWR | O_NONBLOCK), life = new_eventfd();
	struct portcullis_access access;
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	uint64_t value;
	unsigned int n;

	if (fd < 0)
		die("%s: %s", name, strerror(errno));
	expect(set_fd(fd, PORTCULLIS_FD_LIFE, 0, 0, life), 0);
	attach_again(fd, life);
	for (n = 0; n < 3; n++) {
		uint64_t before = node_info(fd).life;

		signals(life, 0);
		while (answer_one(fd))
			;
		poll(&poll_fd, 1, 0);
		if (!(poll_fd.revents & POLLHUP))
			die("poll() reports %#x", poll_fd.revents);
		if (!signals(life, 1000))
			die("the end of a life is not told");
		expect(reg_get(fd, 0, 0x10, &value), ESTALE);
		expect(ioctl(fd, PORTCULLIS_NEXT, &access), ESTALE);
		expect(ioctl(fd, PORTCULLIS_ATTACH, &before), ESTALE);
		attach_again(fd, life);
		poll(&poll_fd, 1, 0);
		if (poll_fd.revents & POLLHUP || node_info(fd).life == before)
			die("the new life is the old one");
	}
	bell(fd);
	close(fd);
}
