// SPDX-License-Identifier: GPL-2.0-only
/*
 * A peer that rings a doorbell without end: it is heard all the time, and its
 * interrupt works as before afterwards.
 */

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

#define STORED	0xc002000
#define SECONDS	3

/* Answers what waits, if anything does so in time. */
static int answer_one(int fd, int milliseconds)
{
	struct portcullis_access access;
	struct portcullis_answer answer;
	struct pollfd poll_fd = { fd, POLLIN, 0 };

	if (poll(&poll_fd, 1, milliseconds) != 1 || poll_fd.revents != POLLIN)
		return 0;
	expect(ioctl(fd, PORTCULLIS_NEXT, &access), 0);
	answer = (struct portcullis_answer) { access.seq, 0, access.vcpu, 0 };
	expect(ioctl(fd, PORTCULLIS_ANSWER, &answer), 0);
	return 1;
}

void flood(const char *name)
{
	int fd = open_node(name, O_RDWR | O_NONBLOCK), event = new_eventfd();
	struct portcullis_bell bell = { STORED, 0, 0, 4, 0, event };
	unsigned int rung = 0;
	time_t end;

	if (fd < 0)
		die("%s: %s", name, strerror(errno));
	attach(fd);
	if (!answer_one(fd, 10000))
		die("no access waits");
	expect(ioctl(fd, PORTCULLIS_DOORBELL, &bell), 0);
	/* One may have come before. */
	answer_one(fd, 100);
	end = time(NULL) + SECONDS;
	while (time(NULL) < end) {
		if (!signals(event, 2000))
			die("the doorbell is heard no more");
		rung++;
	}
	bell = (struct portcullis_bell) { .fd = -1 };
	expect(ioctl(fd, PORTCULLIS_DOORBELL, &bell), 0);
	if (!answer_one(fd, 10000) || !answer_one(fd, 10000))
		die("no access waits after the flood");
	printf("flood: %u signals\n", rung);
	close(event);
	close(fd);
}
