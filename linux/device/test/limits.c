// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each request at its limits, alone with a peer that has one transport and one
 * vCPU, and waits for it.
 */

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "test.h"

static void not_attached(int fd)
{
	struct portcullis_config config = { .len = 1 };
	struct portcullis_irq irq = { 0, 1 };
	struct portcullis_done done = { 0, 1 };
	struct portcullis_access access;
	struct portcullis_answer answer = {};
	struct portcullis_reg reg = { 0, 1, 0 };
	struct portcullis_bell bell = { .size = 4, .fd = -1 };
	int event = new_eventfd();

	expect(ioctl(fd, PORTCULLIS_DETACH), ENOTCONN);
	expect(reg_get(fd, 0, 0x10, NULL), ENOTCONN);
	expect(ioctl(fd, PORTCULLIS_REG_SET, &reg), ENOTCONN);
	expect(ioctl(fd, PORTCULLIS_CONFIG, &config), ENOTCONN);
	expect(ioctl(fd, PORTCULLIS_IRQ, &irq), ENOTCONN);
	expect(ioctl(fd, PORTCULLIS_EVENT_DONE, &done), ENOTCONN);
	expect(ioctl(fd, PORTCULLIS_NEXT, &access), ENOTCONN);
	expect(ioctl(fd, PORTCULLIS_ANSWER, &answer), ENOTCONN);
	expect(ioctl(fd, PORTCULLIS_DOORBELL, &bell), ENOTCONN);
	expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 0, 0, event), ENOTCONN);
	expect(set_fd(fd, PORTCULLIS_FD_EVENT, 0, 0, event), ENOTCONN);
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 1, event), ENOTCONN);
	expect(set_fd(fd, PORTCULLIS_FD_LIFE, 0, 0, event), 0);
	expect(set_fd(fd, PORTCULLIS_FD_LIFE, 0, 0, -1), 0);
	close(event);
}

static void others(int fd, const char *name)
{
	uint64_t life = node_info(fd).life + 1;
	unsigned int n;

	expect(open_node(name, O_RDWR), EBUSY);
	expect(ioctl(fd, PORTCULLIS_ATTACH, &life), ESTALE);
	life = 0;
	expect(ioctl(fd, PORTCULLIS_ATTACH, &life), ESTALE);
	expect(ioctl(fd, PORTCULLIS_INFO, NULL), EFAULT);
	expect(ioctl(fd, PORTCULLIS_ATTACH, 1), EFAULT);
	/* Requests that there are not, and the right number with another size. */
	for (n = 0; n < 256; n++) {
		if (n > 11) {
			expect(ioctl(fd, _IO(PORTCULLIS_IOC, n), &life),
			       ENOTTY);
		}
		expect(ioctl(fd, _IOC(_IOC_READ, PORTCULLIS_IOC, n, 0x3fff),
			     &life), ENOTTY);
		expect(ioctl(fd, _IOC(_IOC_READ, 0xb5, n, 8), &life), ENOTTY);
	}
}

static void window(int fd, const struct portcullis_info *info)
{
	size_t page = sysconf(_SC_PAGESIZE), size = info->ram_size;
	volatile uint64_t *last;
	unsigned int n;
	int ends[2];
	void *all;
	const struct {
		off_t offset;
		size_t size;
		int prot, flags, error;
	} maps[] = {
		{ 0, size, PROT_READ, MAP_SHARED, 0 },
		{ size - page, page, PROT_READ | PROT_WRITE, MAP_SHARED, 0 },
		{ 0, size + page, PROT_READ, MAP_SHARED, EINVAL },
		{ size - page, 2 * page, PROT_READ, MAP_SHARED, EINVAL },
		{ size, page, PROT_READ, MAP_SHARED, EINVAL },
		{ size + page, page, PROT_READ, MAP_SHARED, EINVAL },
		{ INT64_MAX & -page, page, PROT_READ, MAP_SHARED, EINVAL },
		{ (1UL << 62) & -page, page, PROT_READ, MAP_SHARED, EINVAL },
		{ 0, page, PROT_READ, MAP_PRIVATE, EINVAL },
		{ 0, page, PROT_READ | PROT_EXEC, MAP_SHARED, EINVAL },
	};

	for (n = 0; n < sizeof(maps) / sizeof(*maps); n++) {
		void *at = mmap(NULL, maps[n].size, maps[n].prot,
				maps[n].flags, fd, maps[n].offset);
		int error = at == MAP_FAILED ? errno : 0;

		if (error != maps[n].error)
			die("mmap of %#zx at %#lx: %s instead of %s",
			    maps[n].size, (long)maps[n].offset,
			    strerror(error), strerror(maps[n].error));
		if (at != MAP_FAILED)
			munmap(at, maps[n].size);
	}

	all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (all == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	expect(mprotect(all, page, PROT_READ | PROT_EXEC), EACCES);
	if (mremap(all, size, size + page, MREMAP_MAYMOVE) != MAP_FAILED)
		die("a window grows");
	/* One scratch page is behind all that is not shared. */
	last = all + size - sizeof(*last);
	*last = 0x1122334455667788;
	if (*last != 0x1122334455667788)
		die("the scratch page reads %#lx", (long)*last);
	/* The kernel copies from and to it. */
	n = open("/dev/zero", O_RDWR | O_CLOEXEC);
	if (read(n, all + size - page, page) != (ssize_t)page || *last)
		die("read() into the window");
	close(n);
	/* Its pages cannot be pinned. */
	if (pipe(ends))
		die("pipe: %s", strerror(errno));
	expect(vmsplice(ends[1], &(struct iovec) { all, page }, 1, 0), EFAULT);
	close(ends[0]);
	close(ends[1]);
	munmap(all, size);

	if (lseek(fd, 0, SEEK_END) != (off_t)size)
		die("SEEK_END");
	expect(lseek(fd, 1, SEEK_END), EINVAL);
	expect(lseek(fd, -1, SEEK_SET), EINVAL);
	expect(lseek(fd, 0, SEEK_SET), 0);
}

static void registers(int fd)
{
	static const uint32_t wrong_bits[] = { 0x10000, 0x1000001, 0xffffffff };
	struct portcullis_config config = { .len = 256 };
	struct portcullis_irq irq = { 0, 4 };
	struct portcullis_done done = { 0, 12345 };
	struct portcullis_reg reg = { 0, 0, 0x1234 };
	uint64_t value;
	unsigned int n;

	expect(ioctl(fd, PORTCULLIS_REG_SET, &reg), 0);
	expect(reg_get(fd, 0, 0, &value), 0);
	if (value != 0x1234)
		die("VendorID is %#lx", (long)value);
	expect(reg_get(fd, 0, 0x7f, NULL), EINVAL);
	for (n = 0; n < 3; n++)
		expect(reg_get(fd, 0, wrong_bits[n], NULL), EINVAL);
	expect(reg_get(fd, 1, 0, NULL), EINVAL);
	/* What the transport's field of EL2's call cannot hold. */
	expect(reg_get(fd, 0x10000, 0, NULL), EINVAL);
	reg = (struct portcullis_reg) { 0, 0x10, 1 };
	expect(ioctl(fd, PORTCULLIS_REG_SET, &reg), EINVAL);

	expect(ioctl(fd, PORTCULLIS_CONFIG, &config), 0);
	config.len = 257;
	expect(ioctl(fd, PORTCULLIS_CONFIG, &config), EINVAL);
	config.len = 0;
	expect(ioctl(fd, PORTCULLIS_CONFIG, &config), EINVAL);
	config = (struct portcullis_config) { .offset = 255, .len = 1 };
	expect(ioctl(fd, PORTCULLIS_CONFIG, &config), 0);
	config.len = 2;
	expect(ioctl(fd, PORTCULLIS_CONFIG, &config), EINVAL);
	config = (struct portcullis_config) { .offset = -1, .len = 2 };
	expect(ioctl(fd, PORTCULLIS_CONFIG, &config), EINVAL);
	config = (struct portcullis_config) { .transport = 1, .len = 1 };
	expect(ioctl(fd, PORTCULLIS_CONFIG, &config), EINVAL);
	config = (struct portcullis_config) { .pad = 1, .len = 1 };
	expect(ioctl(fd, PORTCULLIS_CONFIG, &config), EINVAL);

	expect(ioctl(fd, PORTCULLIS_IRQ, &irq), EINVAL);
	irq = (struct portcullis_irq) { 1, 1 };
	expect(ioctl(fd, PORTCULLIS_IRQ, &irq), EINVAL);
	expect(ioctl(fd, PORTCULLIS_EVENT_DONE, &done), EINVAL);
}

static void eventfds(int fd)
{
	int event = new_eventfd(), file = open("/dev/null", O_RDWR), n;

	for (n = 0; n < 16; n++)
		expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 0, n, event), 0);
	expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 0, 16, event), EINVAL);
	expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 1, 0, event), EINVAL);
	expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 0, 0, file), EINVAL);
	expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 0, 0, 12345), EBADF);
	expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 0, 0, -2), EINVAL);
	expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 0, 0, -1), 0);
	expect(set_fd(fd, PORTCULLIS_FD_QUEUE, 0, 0, -1), 0);
	expect(set_fd(fd, PORTCULLIS_FD_EVENT, 0, 1, event), EINVAL);
	expect(set_fd(fd, PORTCULLIS_FD_LIFE, 0, 1, event), EINVAL);
	expect(set_fd(fd, PORTCULLIS_FD_LIFE, 1, 0, event), EINVAL);
	expect(set_fd(fd, 4, 0, 0, event), EINVAL);
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 0, event), EINVAL);
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 4, event), EINVAL);
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 1, file), EINVAL);
	/* The same again is the same. */
	for (n = 0; n < 2000; n++)
		expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 1, event), 0);
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 1, -1), 0);
	close(event);
	/* Others are counted. */
	for (n = 0; n < 512; n++) {
		event = new_eventfd();
		expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 1, event), 0);
		close(event);
	}
	event = new_eventfd();
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 1, event), ENOSPC);
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 1, -1), 0);
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 1, event), 0);
	close(event);
	close(file);
}

/* An eventfd raises an interrupt, and is empty again. */
static void calls(int fd)
{
	struct portcullis_reg features = { 0, 1, 1UL << 32 };
	struct portcullis_reg ready = { 0, 4, 1 };
	uint64_t count = 1, status;
	int event = new_eventfd();

	/* Bit 1 needs no driver, but a transport that is ready. */
	expect(ioctl(fd, PORTCULLIS_REG_SET, &features), 0);
	expect(ioctl(fd, PORTCULLIS_REG_SET, &ready), 0);
	if (write(event, &count, 8) != 8)
		die("eventfd");
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 2, event), 0);
	expect(reg_get(fd, 0, 0x12, &status), 0);
	if (status != 2 || signals(event, 0))
		die("InterruptStatus is %#lx: what was signalled before is lost",
		    (long)status);
	/* A second one for another bit. */
	close(event);
	event = new_eventfd();
	count = UINT64_MAX - 1;
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 3, event), 0);
	if (write(event, &count, 8) != 8 || write(event, &count, 8) != 8)
		die("an eventfd that raises interrupts is full");
	expect(set_fd(fd, PORTCULLIS_FD_CALL, 0, 3, -1), 0);
	if (write(event, &count, 8) != 8 || signals(event, 0) != count)
		die("an eventfd that was removed still raises interrupts");
	close(event);
}

static void doorbells(int fd, const struct portcullis_info *info)
{
	const uint64_t page = 0xc002000;
	int event = new_eventfd();
	unsigned int n;
	const struct {
		struct portcullis_bell bell;
		int error;
	} bells[] = {
		{ { page, 0, 0, 4, 0, event }, 0 },
		{ { page, 5, 31, 1, 1, event }, 0 },
		{ { page, 0, 32, 4, 0, event }, EINVAL },
		{ { page, 0, 0, 0, 0, event }, EINVAL },
		{ { page, 0, 0, 3, 0, event }, EINVAL },
		{ { page, 0, 0, 16, 0, event }, EINVAL },
		{ { page, 0, 0, 4, 2, event }, EINVAL },
		{ { page, 1, 0, 4, 0, event }, EINVAL },
		{ { page, 0x100, 0, 1, 1, event }, EINVAL },
		{ { page, 0, 0, 4, 0, -2 }, EINVAL },
		{ { page, 0, 0, 4, 0, 12345 }, EBADF },
		{ { 0xc004000, 0, 0, 4, 0, event }, EINVAL },
		{ { info->ram_base, 0, 0, 4, 0, event }, EINVAL },
		{ { page, 0, 31, 0, 0, -1 }, 0 },
		{ { page, 0, 31, 0, 0, -1 }, 0 },
	};

	for (n = 0; n < sizeof(bells) / sizeof(*bells); n++) {
		struct portcullis_bell bell = bells[n].bell;

		expect(ioctl(fd, PORTCULLIS_DOORBELL, &bell), bells[n].error);
	}
	close(event);
}

static void accesses(int fd, const struct portcullis_info *info)
{
	struct portcullis_answer answer = { .seq = 12345 };
	struct pollfd poll_fd = { fd, POLLIN, 0 };

	expect(ioctl(fd, PORTCULLIS_ANSWER, &answer), EINVAL);
	answer.vcpu = info->vcpus;
	expect(ioctl(fd, PORTCULLIS_ANSWER, &answer), EINVAL);
	answer = (struct portcullis_answer) { .error = 2 };
	expect(ioctl(fd, PORTCULLIS_ANSWER, &answer), EINVAL);
	if (poll(&poll_fd, 1, 0) > 0 && poll_fd.revents & ~POLLIN)
		die("poll() reports %#x", poll_fd.revents);
}

void limits(const char *name)
{
	int fd = open_node(name, O_RDWR | O_NONBLOCK);
	struct portcullis_info info;

	if (fd < 0)
		die("%s: %s", name, strerror(errno));
	info = node_info(fd);
	if (strcmp(info.name, name) || info.vcpus != 1 ||
	    info.transports != 1 || info.device_id[0] != 2 ||
	    info.device_id[1] || info.ram_base != 0x40000000 ||
	    info.timeout_ms != 30000 || info.flags != PORTCULLIS_RUNNING)
		die("INFO: %s, %u vCPUs, %u transports, flags %#x", info.name,
		    info.vcpus, info.transports, info.flags);
	not_attached(fd);
	others(fd, name);
	attach(fd);
	expect(ioctl(fd, PORTCULLIS_ATTACH, &info.life), EINVAL);
	if (node_info(fd).flags != (PORTCULLIS_RUNNING | PORTCULLIS_ATTACHED))
		die("INFO: not attached");
	window(fd, &info);
	registers(fd);
	eventfds(fd);
	calls(fd);
	doorbells(fd, &info);
	accesses(fd, &info);
	expect(ioctl(fd, PORTCULLIS_DETACH), 0);
	not_attached(fd);
	attach(fd);
	close(fd);
	fd = open_node(name, O_RDWR);
	if (fd < 0 || node_info(fd).flags != PORTCULLIS_RUNNING)
		die("close() does not detach");
	close(fd);
}
