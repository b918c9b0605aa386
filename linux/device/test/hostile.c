// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes that do everything at once, and die in every state. There is no right
 * answer to most of what they ask: the kernel has to go on, and lose nothing.
 */

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

#define EVENTS	8

static uint64_t state = 0x9e3779b97f4a7c15;
static int node, events[EVENTS];
static uint64_t ram_size;

static uint64_t random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* A number that is often at a limit. */
static uint64_t number(void)
{
	static const uint64_t limits[] = {
		0, 1, 2, 3, 4, 8, 15, 16, 31, 32, 255, 256, 0xffff, 0x10000,
		0x7fffffff, 0x80000000, 0xffffffff, 1UL << 63, -1UL,
	};
	uint64_t n = random64();

	if (n % 8 == 0)
		return random64();
	if (n % 8 == 1)
		return 0xc000000 + random64() % 0x4000;
	if (n % 8 < 5)
		return n / 8 % 3;
	return limits[n / 8 % (sizeof(limits) / sizeof(*limits))];
}

static int some_fd(void)
{
	uint64_t n = random64() % 16;

	if (n < EVENTS)
		return events[n];
	return n == 8 ? node : n == 9 ? 12345 : n == 10 ? 0 : -1;
}

static void random_ioctl(void)
{
	static const unsigned long requests[] = {
		PORTCULLIS_INFO, PORTCULLIS_ATTACH, PORTCULLIS_DETACH,
		PORTCULLIS_REG_GET, PORTCULLIS_REG_SET, PORTCULLIS_CONFIG,
		PORTCULLIS_SET_FD, PORTCULLIS_IRQ, PORTCULLIS_EVENT_DONE,
		PORTCULLIS_NEXT, PORTCULLIS_ANSWER, PORTCULLIS_DOORBELL,
	};
	uint64_t n = random64();
	unsigned long request = requests[n % 12];
	union {
		struct portcullis_fd fd;
		struct portcullis_bell bell;
		struct portcullis_info info;
		uint32_t words[128];
		uint64_t life;
	} arg;
	unsigned int w;

	for (w = 0; w < 128; w++)
		arg.words[w] = number();
	switch (n / 16 % 32) {
	case 0:
		request = random64();
		break;
	case 1:
		ioctl(node, request, number());
		return;
	case 2 ... 6:
		request = PORTCULLIS_ATTACH;
		ioctl(node, PORTCULLIS_INFO, &arg.info);
		break;
	case 7 ... 20:
		if (request == PORTCULLIS_DETACH)
			return;
		break;
	}
	if (request == PORTCULLIS_SET_FD)
		arg.fd.fd = some_fd();
	if (request == PORTCULLIS_DOORBELL)
		arg.bell.fd = some_fd();
	/* One thread waits in NEXT, until something ends that. */
	if (request == PORTCULLIS_NEXT && n / 512 % 64)
		fcntl(node, F_SETFL, O_NONBLOCK);
	else if (request == PORTCULLIS_NEXT)
		fcntl(node, F_SETFL, 0);
	ioctl(node, request, &arg);
}

static void random_map(void)
{
	size_t page = sysconf(_SC_PAGESIZE), n;
	off_t offset = random64() % 2 ? number() & -page :
					random64() % ram_size & -page;
	size_t size = random64() % 4 ? page * (1 + random64() % 8) : number();
	volatile char *at = mmap(NULL, size, random64() % 8, random64() % 4,
				 node, offset);

	if (at == MAP_FAILED)
		return;
	if (size > ram_size)
		die("%zu bytes of the window", size);
	n = random64() % size;
	/* What is mapped can be reached: a hole would be SIGBUS. */
	if (!mprotect((void *)at, size, PROT_READ | PROT_WRITE))
		at[n]++;
	if (random64() % 4)
		munmap((void *)at, size);
}

static void *work(void *unused)
{
	for (;;) {
		uint64_t n = random64(), one = 1;
		struct pollfd poll_fd = { node, POLLIN, 0 };

		if (n % 64 == 0)
			random_map();
		else if (n % 64 == 1)
			poll(&poll_fd, 1, 0);
		else if (n % 64 == 2)
			lseek(node, number(), random64() % 8);
		else if (n % 64 < 6)
			(void)!write(events[n / 64 % EVENTS], &one, 8);
		else if (n % 64 < 9)
			(void)!read(events[n / 64 % EVENTS], &one, 8);
		else if (n % 64 == 9)
			(void)!read(node, &one, 8);
		else
			random_ioctl();
	}
	return unused;
}

/* Opens the node, does all of that on two threads, and is killed. */
static void child(const char *name, uint64_t seed)
{
	pthread_t thread;
	unsigned int n;

	state = seed | 1;
	while ((node = open_node(name, O_RDWR | O_NONBLOCK)) < 0)
		usleep(100);
	ram_size = node_info(node).ram_size;
	for (n = 0; n < EVENTS; n++)
		events[n] = new_eventfd();
	pthread_create(&thread, NULL, work, NULL);
	work(NULL);
}

void hostile(const char *name, unsigned int seconds)
{
	time_t end = time(NULL) + seconds;
	unsigned int rounds = 0;
	int status, fd;
	pid_t pid;

	while (time(NULL) < end) {
		pid = fork();
		if (!pid) {
			child(name, random64());
			exit(1);
		}
		usleep(random64() % 50000);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			die("round %u ended with %#x", rounds, status);
		rounds++;
	}
	fd = open_node(name, O_RDWR);
	if (fd < 0 || node_info(fd).flags & PORTCULLIS_ATTACHED)
		die("a process that was killed is still attached");
	close(fd);
	printf("hostile: %u processes were killed\n", rounds);
}

/* All that can be set up, and its end: by requests, by close(), by a kill. */
void churn(const char *name, unsigned int rounds)
{
	unsigned int n, q;
	pid_t pid;

	for (n = 0; n < rounds; n++) {
		int fd, event;
		char *at;

		pid = n % 16 ? 0 : fork();
		if (pid) {
			waitpid(pid, NULL, 0);
			continue;
		}
		fd = open_node(name, O_RDWR | O_NONBLOCK);
		if (fd < 0)
			die("round %u: %s", n, strerror(errno));
		event = new_eventfd();
		ram_size = node_info(fd).ram_size;
		attach(fd);
		for (q = 0; q < PORTCULLIS_QUEUES; q++)
			expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 0, q, event), 0);
		expect(set_fd(fd, PORTCULLIS_FD_EVENT, 0, 0, event), 0);
		expect(set_fd(fd, PORTCULLIS_FD_LIFE, 0, 0, event), 0);
		expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 1, event), 0);
		expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 2, event), 0);
		for (q = 0; q < PORTCULLIS_BELLS; q++) {
			struct portcullis_bell bell = {
				0xc002000 + 8 * q, 0, q, 4, 0, event
			};

			expect(ioctl(fd, PORTCULLIS_DOORBELL, &bell), 0);
		}
		at = mmap(NULL, ram_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			  fd, 0);
		if (at == MAP_FAILED)
			die("round %u: mmap: %s", n, strerror(errno));
		at[0]++;
		at[ram_size - 1]++;
		if (n % 16 == 0)
			kill(getpid(), SIGKILL);
		if (n % 2)
			expect(ioctl(fd, PORTCULLIS_DETACH), 0);
		if (n % 3)
			close(event);
		close(fd);
		munmap(at, ram_size);
		if (n % 3 == 0)
			close(event);
	}
}
