// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the module from a process: portcullis-test MODE NAME [NUMBER]. It ends
 * with 0 and "MODE NAME: ok", or with 1 and what went wrong.
 */

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test.h"

int open_node(const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/portcullis/%s", name);
	return open(path, flags | O_CLOEXEC);
}

struct portcullis_info node_info(int fd)
{
	struct portcullis_info info;

	memset(&info, 0xa5, sizeof(info));
	expect(ioctl(fd, PORTCULLIS_INFO, &info), 0);
	return info;
}

int set_fd(int fd, uint32_t kind, uint32_t transport, uint32_t queue, int to)
{
	struct portcullis_fd arg = { kind, transport, queue, to };

	return ioctl(fd, PORTCULLIS_SET_FD, &arg);
}

int reg_get(int fd, uint32_t transport, uint32_t reg, uint64_t *value)
{
	struct portcullis_reg arg = { transport, reg, 0 };
	int err = ioctl(fd, PORTCULLIS_REG_GET, &arg);

	if (value)
		*value = arg.value;
	return err;
}

int new_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		die("eventfd: %s", strerror(errno));
	return fd;
}

/* How often an eventfd was signalled; waits for the first time. */
uint64_t signals(int fd, int milliseconds)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	uint64_t count = 0;

	if (poll(&poll_fd, 1, milliseconds) == 1 &&
	    read(fd, &count, sizeof(count)) != sizeof(count))
		die("read of an eventfd: %s", strerror(errno));
	return count;
}

void attach(int fd)
{
	uint64_t life = node_info(fd).life;

	expect(ioctl(fd, PORTCULLIS_ATTACH, &life), 0);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	const char *name = argc > 2 ? argv[2] : "";
	unsigned int number = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(mode, "limits"))
		limits(name);
	else if (!strcmp(mode, "lives"))
		lives(name);
	else if (!strcmp(mode, "serve"))
		serve(name);
	else if (!strcmp(mode, "churn"))
		churn(name, number);
	else if (!strcmp(mode, "flood"))
		flood(name);
	else if (!strcmp(mode, "hostile"))
		hostile(name, number);
	else
		die("portcullis-test limits|lives|serve|churn|flood|hostile NAME [NUMBER]");
	printf("%s %s: ok\n", mode, name);
	return 0;
}
